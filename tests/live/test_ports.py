"""Serial sensors as they are: missing, unplugged, held by others, at the wrong baud rate, and lying."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced, until
from tests.support.scale import scale

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""

PORT = """
[source.{name}]
type = "serial"
port = "{tty}"
{more}
decode = {{ format = "csv", fields = ["v", "w"] }}
[pipeline.of_{name}]
source = "{name}"
publish = {{ topic = "out/{name}" }}
"""


def text(broker: Broker, folder: Path, *names: str, more: str = "") -> str:
    return HEAD.format(port=broker.port) + "".join(PORT.format(name=n, tty=folder / n, more=more) for n in names)


def lines(start: int, stop: int) -> str:
    return "".join(f"{i},{-i}\n" for i in range(start, stop))


def values(client: Client, name: str) -> list[int]:
    outputs = [m.json["outputs"] for m in client.of(f"out/{name}")]
    assert all(o["v"] == -o["w"] for o in outputs)
    return [int(o["v"]) for o in outputs]


def state(client: Client, name: str, wanted: str) -> str:
    """Waits for the state of a source in health and returns its reason."""
    health = client.health(lambda h: h["sources"][name]["state"] == wanted)
    assert balanced(health)
    reason: str = health["sources"][name].get("reason", "")
    return reason


def test_a_port_that_is_missing_appears(broker: Broker, tmp_path: Path) -> None:
    with (
        Client(broker.port) as client,
        Sensor(tmp_path / "good") as good,
        Daemon(tmp_path, text(broker, tmp_path, "late", "good")) as daemon,
    ):
        assert f"{tmp_path}/late is not there" in state(client, "late", "missing")
        health = client.health(lambda h: h["pipelines"]["of_late"]["state"] == "waiting")
        assert "source late is missing" in health["pipelines"]["of_late"]["reason"]
        assert health["state"] == "degraded"
        good.write(lines(0, 10))
        client.wait("out/good", 10)
        busy = daemon.cpu_s
        with Sensor(tmp_path / "late") as late:
            late.write(lines(0, 10))
            client.wait("out/late", 10)
            assert values(client, "late") == list(range(10))
            assert state(client, "late", "running") == ""
        assert daemon.cpu_s - busy < 1.0
        client.health(lambda h: h["sources"]["late"]["state"] in ("unplugged", "missing"))


def test_s03_replugged_in_the_middle_of_a_line_under_another_number(broker: Broker, tmp_path: Path) -> None:
    """The neighbour loses nothing, no descriptor is left behind, and what was cut is not joined to what comes after."""
    rounds = scale("replugs")
    with (
        Client(broker.port) as client,
        Sensor(tmp_path / "good") as good,
        Sensor(tmp_path / "flaky") as flaky,
        Daemon(tmp_path, text(broker, tmp_path, "good", "flaky")) as daemon,
    ):
        state(client, "flaky", "running")
        fds, used = 0, set()
        for i in range(rounds):
            used.add(flaky.tty)
            flaky.write(lines(10 * i, 10 * i + 10) + "99")
            good.write(lines(10 * i, 10 * i + 10))
            client.wait("out/flaky", 10 * i + 10)
            fds = fds or daemon.fds
            busy = daemon.cpu_s
            flaky.unplug()
            if i % 4 == 0:
                flaky.take_number()
            if i % 3 == 0:
                client.health(lambda h: h["sources"]["flaky"]["state"] in ("unplugged", "missing"))
            flaky.plug()
            assert daemon.cpu_s - busy < 1.0
        flaky.write(lines(10 * rounds, 10 * rounds + 1))
        client.wait("out/flaky", 10 * rounds + 1)
        client.wait("out/good", 10 * rounds)
        assert values(client, "flaky") == list(range(10 * rounds + 1))
        assert values(client, "good") == list(range(10 * rounds))
        assert len(used) > 1
        assert daemon.fds <= fds
        assert state(client, "flaky", "running") == ""


def test_the_second_opener_is_refused_and_the_first_hears_everything(broker: Broker, tmp_path: Path) -> None:
    with (
        Client(broker.port) as client,
        Sensor(tmp_path / "imu") as sensor,
        Daemon(tmp_path, text(broker, tmp_path, "imu")) as first,
    ):
        state(client, "imu", "running")
        other = text(broker, tmp_path, "imu").replace('id = "t"', 'id = "u"').replace("out/", "second/")
        with Daemon(tmp_path, other, name="second.toml", environ={"STATE_DIRECTORY": str(tmp_path / "second")}):
            health = client.health(lambda h: h["sources"]["imu"]["state"] == "busy", device="u")
            assert f"pid {first.process.pid}" in health["sources"]["imu"]["reason"]
            sensor.write(lines(0, 500))
            client.wait("out/imu", 500)
            assert values(client, "imu") == list(range(500))
        assert first.stop() == 0


def test_two_sources_of_one_port_are_an_error_or_one_of_them_is_busy(broker: Broker, tmp_path: Path) -> None:
    both = text(broker, tmp_path, "a", "b").replace(f"{tmp_path}/b", f"{tmp_path}/a")
    with Client(broker.port) as client, Sensor(tmp_path / "a"):
        daemon = Daemon(tmp_path, both)
        daemon.spawn()
        until(lambda: daemon.notices or daemon.process.poll() is not None)
        if daemon.process.poll() is not None:
            assert daemon.wait() == 78
            return
        health = client.health(lambda h: {s["state"] for s in h["sources"].values()} == {"running", "busy"})
        assert "another source of this configuration" in str(health["sources"])
        assert daemon.stop() == 0


def test_s15_garbage_at_the_wrong_baud_rate_is_named_and_costs_nothing(broker: Broker, tmp_path: Path) -> None:
    noise = random.Random(1)
    with (
        Client(broker.port) as client,
        Sensor(tmp_path / "bad") as bad,
        Sensor(tmp_path / "good") as good,
        Daemon(tmp_path, text(broker, tmp_path, "bad", "good")) as daemon,
    ):
        state(client, "bad", "running")
        sent = 0

        def babble() -> bool:
            nonlocal sent
            bad.write(bytes(noise.choice(b"\x00\x80\xf8\xfe\xff\xe6\x98") for _ in range(3000)))
            good.write(lines(sent, sent + 10))
            sent += 10
            last = client.health()
            return bool(last["sources"]["bad"]["state"] == "no valid frame")

        busy = daemon.cpu_s
        until(babble, what="no valid frame")
        assert daemon.cpu_s - busy < 3.0
        reason = state(client, "bad", "no valid frame")
        assert "115200 baud" in reason
        client.wait("out/good", sent)
        assert values(client, "good") == list(range(sent))
        health = client.health()
        assert set(health["sources"]["bad"]["dropped"]) <= {
            "too_large",
            "not_utf8",
            "malformed",
            "not_a_number",
            "short",
            "no_frame",
        }
        assert not client.of("out/bad")
        bad.write("\n" + lines(0, 20))  # the rate is set right
        client.wait("out/bad", 20)
        state(client, "bad", "running")


BROKEN = [
    *(
        b"1",
        b"1,2,3",
        b"",
        b",",
        b"a,b",
        b"1,nan",
        b"1,inf",
        b"1,1e999",
        b"1;2",
        b"1,\xff",
        b"1,2\x00",
        b"--1,2",
        b"1,2,",
        b" , ",
    ),
    *(b"x" * 5000, b"1," + b"9" * 5000, b"$GPGGA,1*00", b"1,\xe2\x82", b"\x1b[2J", b"1,2;3"),
]


@pytest.mark.parametrize("piece", [1 << 20, 7, 1])
def test_broken_lines_leave_their_neighbours_exact(broker: Broker, tmp_path: Path, piece: int) -> None:
    data = lines(0, 1).encode()
    for i, broken in enumerate(BROKEN, 1):
        data += broken + (b"\r\n" if i % 2 else b"\n") + f"{i},{-i}\n".encode()
    with (
        Client(broker.port) as client,
        Sensor(tmp_path / "imu") as sensor,
        Daemon(tmp_path, text(broker, tmp_path, "imu")) as daemon,
    ):
        state(client, "imu", "running")
        for at in range(0, len(data), piece):
            sensor.write(data[at : at + piece])
        client.wait("out/imu", len(BROKEN) + 1)
        assert values(client, "imu") == list(range(len(BROKEN) + 1))
        health = client.health(lambda h: h["sources"]["imu"]["rows"] == len(BROKEN) + 1)
        empty = 1  # an empty line is no line
        assert len(BROKEN) - empty <= health["sources"]["imu"]["rejected"] <= len(BROKEN) + 2
        assert balanced(health)
        assert "offset=" in daemon.log  # the first of each reason is shown with its place


def test_s12_a_silent_sensor_is_told_from_one_that_speaks(broker: Broker, tmp_path: Path) -> None:
    with (
        Client(broker.port) as client,
        Sensor(tmp_path / "dead"),
        Sensor(tmp_path / "alive") as alive,
        Daemon(tmp_path, text(broker, tmp_path, "dead", "alive", more="rate = 10")) as daemon,
    ):
        count = 0

        def speak() -> bool:
            nonlocal count
            alive.write(lines(count, count + 1))
            count += 1
            return bool(client.health()["sources"]["dead"]["state"] == "silent")

        until(speak, what="silent")
        health = client.health(lambda h: h["pipelines"]["of_dead"]["state"] == "waiting")
        assert "nothing has come in for" in health["sources"]["dead"]["reason"]
        assert health["sources"]["alive"]["state"] == "running"
        events = [m.json for m in client.of("edged/t/event")]
        assert any(e["event"] == "state" and e["name"] == "dead" and e["state"] == "silent" for e in events)
        until(lambda: any("source dead: silent" in n for n in daemon.notices), what="the status line")
