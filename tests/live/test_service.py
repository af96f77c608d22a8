"""The daemon as a service: what it tells systemd and the log, how it starts, stops and fails, and what it costs."""

from __future__ import annotations

import json
import re
import signal as signals
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from edged.daemon.lifecycle import STOP_DEADLINE_S
from tests.support.broker import Broker, free_port
from tests.support.daemon import EX_CONFIG, ROOT, Client, Daemon, Sensor, balanced, edged, said, until
from tests.support.pause import pause
from tests.support.scale import scale

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""

IMU = """
[source.imu]
type = "serial"
port = "{tty}"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "imu"
{more}
publish = {{ topic = "out/p", {options} }}
"""


def imu(broker: Broker, folder: Path, more: str = "", options: str = "qos = 1") -> str:
    return HEAD.format(port=broker.port) + IMU.format(tty=folder / "imu", more=more, options=options)


def test_systemd_is_told(broker: Broker, tmp_path: Path) -> None:
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        daemon = Daemon(tmp_path, imu(broker, tmp_path), watchdog_s=1.0)
        daemon.start()
        assert daemon.notices[0] == "READY=1"
        assert daemon.notices[1].startswith("STATUS=")
        sensor.write("1\n2\n3\n")
        client.wait("out/p", 3)
        until(lambda: daemon.notices.count("WATCHDOG=1") >= 3)
        until(lambda: any(n.startswith("STATUS=3 results") for n in daemon.notices))
        assert daemon.stop() == 0
        assert "STOPPING=1" in daemon.notices
        assert "WATCHDOG=1" not in daemon.notices[daemon.notices.index("STOPPING=1") :]


def test_without_systemd_it_runs_alike(broker: Broker, tmp_path: Path) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(imu(broker, tmp_path))
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        process = edged("run", "-c", str(config), environ={"NOTIFY_SOCKET": ""})
        sensor.write("1\n")
        client.wait("out/p")
        process.send_signal(signals.SIGINT)
        code, out, err = said(process)
    assert code == 0
    assert out == ""
    assert "event=stopped" in err


HANG = """
import threading

def step(row):
    if row[0] == 13:
        threading.Event().wait()
    return row
"""


def test_s11_a_step_that_hangs_stops_the_watchdog(broker: Broker, tmp_path: Path) -> None:
    """The loop itself stands still, so nothing feeds it: systemd ends the process."""
    (tmp_path / "steps.py").write_text(HANG)
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        daemon = Daemon(tmp_path, imu(broker, tmp_path, more='preprocess = "steps.py:step"'), watchdog_s=0.3)
        daemon.start()
        sensor.write("1\n")
        client.wait("out/p")
        until(lambda: "WATCHDOG=1" in daemon.notices)
        sensor.write("13\n")
        quiet_since, fed = time.monotonic(), -1
        while time.monotonic() - quiet_since < 1.0:  # more than three times what systemd would wait
            if daemon.notices.count("WATCHDOG=1") != fed:
                quiet_since, fed = time.monotonic(), daemon.notices.count("WATCHDOG=1")
            assert fed < 100, "the watchdog is fed by a clock"
            until(lambda: True)
        daemon.signal(signals.SIGABRT)  # as systemd does
        daemon.wait()
        assert "step" in daemon.log[daemon.log.index("most recent call first") :]  # the stack of what hung
        daemon.start()
        daemon.wait_log("last_run_ended_in")
        [stage] = client.health(lambda h: h.get("last_run_ended_in"))["last_run_ended_in"]
        assert stage == "source.imu"
        assert daemon.stop() == 0


def test_a_stop_finishes_what_was_read(broker: Broker, tmp_path: Path, zoo: Path) -> None:
    model = f'model = "slow"\n[model.slow]\npath = "{zoo}/slow.onnx"\n'
    text = imu(broker, tmp_path).replace('source = "imu"\n', 'source = "imu"\nmodel = "slow"\nslots = 64\n', 1)
    text += model.partition("\n")[2]
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        daemon = Daemon(tmp_path, text)
        daemon.start()
        sensor.write("".join(f"{i}\n" for i in range(40)))
        client.health(lambda h: h["sources"]["imu"]["rows"] == 40)
        assert daemon.stop() == 0
        client.wait("out/p", 40)
        assert [m.json["outputs"]["y"] for m in client.of("out/p")] == [[i] for i in range(40)]
        last = client.of("edged/t/health")[-1].json
        assert balanced(last)
        assert last["pipelines"]["p"]["due"] == 40
        daemon.assert_no_bug()


def test_a_stop_under_fire(broker: Broker, tmp_path: Path, zoo: Path) -> None:
    """Messages keep coming faster than the model runs: what was taken is finished, the rest is left to the broker."""
    text = (
        HEAD.format(port=broker.port)
        + f"""
[source.in]
type = "mqtt"
topic = "in/x"
decode = {{ format = "csv", fields = ["v"] }}
[model.slow]
path = "{zoo}/slow.onnx"
[pipeline.p]
source = "in"
model = "slow"
slots = 4
publish = {{ topic = "out/p" }}
"""
    )
    count = 300
    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, text)
        daemon.start()
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish_all("in/x", [str(i) for i in range(count)])
        client.wait("out/p", 5)
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < STOP_DEADLINE_S
        assert len(client.of("out/p")) < count
        daemon.start()
        client.wait("out/p", count)
        client.health(lambda h: h["brokers"]["main"]["unacked"] == 0)
        assert daemon.stop() == 0
        assert [int(m.json["outputs"]["y"][0]) for m in client.of("out/p")] == list(range(count))
        daemon.assert_no_bug()


def test_a_second_signal_leaves_at_once(tmp_path: Path, zoo: Path, broker: Broker) -> None:
    text = imu(broker, tmp_path).replace('source = "imu"\n', 'source = "imu"\nmodel = "slow"\nslots = 4000\n', 1)
    text += f'[model.slow]\npath = "{zoo}/slow.onnx"\n'
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as sensor:
        daemon = Daemon(tmp_path, text)
        daemon.start()
        sensor.write("".join(f"{i}\n" for i in range(3000)))
        client.health(lambda h: h["pipelines"]["p"]["waiting"] > 2000)
        daemon.signal(signals.SIGTERM)
        daemon.wait_log("event=stopping")
        started = time.monotonic()
        daemon.signal(signals.SIGTERM)
        assert daemon.wait() != 0
        assert time.monotonic() - started < STOP_DEADLINE_S / 2
        daemon.assert_no_bug()


def test_a_stop_keeps_its_deadline_and_counts_what_is_left(tmp_path: Path, zoo: Path, broker: Broker) -> None:
    """Without a broker there is nobody to wait for."""
    text = '[spool]\nmode = "off"\n' + HEAD.format(port=free_port())
    text += IMU.format(tty=tmp_path / "imu", more="", options="qos = 1")
    with Sensor(tmp_path / "imu") as sensor:
        daemon = Daemon(tmp_path, text)
        daemon.start()
        sensor.write("1\n2\n")
        daemon.wait_log("source=imu state=running")
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < STOP_DEADLINE_S / 2
        assert "dropped=2" in daemon.log
        assert "reason=shutdown" in daemon.log


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (('format = "csv"', 'format = "cvs"'), 'did you mean "csv"'),
        (('type = "serial"', 'type = "serial"\nbaud_rate = 9600'), 'did you mean "baudrate"'),
        (('source = "imu"', 'source = "imo"'), "imo"),
        (("[source.imu]", "[source.imu"), "TOML"),
        (('url = "mqtt://', 'url = "mqtt://me:secret@'), "password"),
    ],
)
def test_s09_a_configuration_that_cannot_run_is_refused(tmp_path: Path, change: tuple[str, str], shown: str) -> None:
    text = HEAD.format(port=1) + IMU.format(tty=tmp_path / "imu", more="", options="qos = 1")
    config = tmp_path / "edged.toml"
    config.write_text(text.replace(*change))
    code, out, err = said(edged("run", "-c", str(config)))
    assert (code, out) == (EX_CONFIG, "")
    assert shown in err
    assert "Traceback" not in err
    assert "secret@" not in err
    assert re.match(rf"{re.escape(str(config))}:\d+:\d+: ", err)


def test_s05_a_gpu_that_is_required_and_not_there_is_an_error(tmp_path: Path, zoo: Path) -> None:
    text = HEAD.format(port=1) + IMU.format(tty=tmp_path / "imu", more='model = "m"', options="qos = 1")
    text += f'[model.m]\npath = "{zoo}/score.onnx"\nproviders = ["cuda"]\n'
    config = tmp_path / "edged.toml"
    config.write_text(text)
    for command in ("run", "check"):
        code, _, err = said(edged(command, "-c", str(config)))
        assert code == EX_CONFIG
        assert "model.m.providers: CUDA is required and did not run" in err
        assert "onnxruntime-gpu" in err


def test_a_plan_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(
        '[memory]\nbudget = "32MiB"\n' + HEAD.format(port=1) + IMU.format(tty=tmp_path / "imu", more="", options="")
    )
    code, _, err = said(edged("run", "-c", str(config)))
    assert code == EX_CONFIG
    assert re.search(r"memory.budget: the plan needs \d+ MiB, the budget is 32 MiB", err)


def test_check_opens_nothing_and_prints_the_plan(broker: Broker, tmp_path: Path) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(imu(broker, tmp_path))
    with Sensor(tmp_path / "imu"):
        code, out, err = said(edged("check", "-c", str(config)))
        assert (code, err) == (0, "")
        assert "sum" in out
        assert "out/p" in out
        code, out, _ = said(edged("check", "--json", "-c", str(config)))
        assert code == 0
        assert json.loads(out)["pipelines"]["p"]["sources"] == ["imu"]
    code, _, err = said(edged("check", "-c", str(config)))
    assert code == 0
    assert "warning" in err
    assert "is not there (retrying)" in err
    assert "edged-t" not in broker.log


@pytest.mark.parametrize("form", ["console", "logfmt", "json"])
def test_the_log_in_three_forms(tmp_path: Path, form: str) -> None:
    text = HEAD.format(port=free_port()) + IMU.format(tty=tmp_path / "imu", more="", options="qos = 1")
    with Sensor(tmp_path / "imu") as sensor:
        daemon = Daemon(tmp_path, text + f'[log]\nformat = "{form}"\n')
        daemon.start()
        sensor.write(b"1\nbad\x1b[31m\xff\n2\n")
        daemon.wait_log("dropped")
        assert daemon.stop() == 0
        lines = daemon.log.splitlines()
    assert "\x1b[31m" not in daemon.log
    if form == "json":
        events = [json.loads(line) for line in lines]
        assert {"starting", "ready", "stopped"} <= {e["event"] for e in events}
        assert all({"timestamp", "level"} <= set(e) for e in events)
        dropped = next(e for e in events if e["event"] == "dropped" and e["where"] == "source.imu")
        assert dropped["reason"] in ("not_utf8", "not_a_number")
    elif form == "logfmt":
        assert all(re.match(r"timestamp=\S+Z level=\w+ event=", line) for line in lines)
    else:
        assert all(re.match(r"\d\d:\d\d:\d\d \w", line) for line in lines), lines


def test_the_log_level(tmp_path: Path) -> None:
    text = HEAD.format(port=free_port()) + IMU.format(tty=tmp_path / "imu", more="", options="qos = 1")
    daemon = Daemon(tmp_path, text + '[log]\nlevel = "error"\n')
    daemon.start()
    assert daemon.stop() == 0
    assert daemon.log == ""


def test_the_model_and_event_topics(broker: Broker, tmp_path: Path) -> None:
    text = (
        HEAD.format(port=broker.port)
        + f"""
[source.accel]
type = "simulate"
signal = "vibration"
rate = 1000
[model.vibration]
path = "{ROOT}/models/vibration"
[pipeline.motor]
source = "accel"
window = {{ size = 512 }}
model = "vibration"
output = "classify"
"""
    )
    with Client(broker.port) as client, Daemon(tmp_path, text):
        facts: dict[str, Any] = client.wait("edged/t/model/vibration")[0].json
        assert len(facts["sha256"]) == 64
        assert (facts["requested"], facts["provider"]) == ("auto", "cpu")
        assert facts["load_s"] > 0
        assert any("no GPU was tried" in reason for reason in facts["why"])
        with Client(broker.port) as late:
            assert late.wait("edged/t/model/vibration")[0].is_retained
        health = client.health(lambda h: h["state"] == "healthy")
        assert health["memory"]["resident_mib"] < health["memory"]["planned_mib"] < health["memory"]["budget_mib"]
        assert set(health["loop_lag"]) == {"p50_ms", "p99_ms", "max_ms", "highest_ms"}
        kinds = {"running", "idle", "connected"}
        for group in ("sources", "pipelines", "models", "brokers"):
            assert {part["state"] for part in health[group].values()} <= kinds
        assert health["version"]


def test_s04_many_messages_leave_no_trace(tmp_path: Path, zoo: Path) -> None:
    """Memory, descriptors and threads as after the first bursts; every message has its result."""
    count = scale("messages")
    text = f"""
[device]
id = "t"
[health]
interval = "200ms"
[broker.main]
url = "mqtt://127.0.0.1:{{port}}"
[source.in]
type = "mqtt"
topic = "in/x"
qos = 0
decode = {{{{ format = "raw", fields = ["a", "b", "c"] }}}}
[model.linear]
path = "{zoo}/linear.onnx"
[pipeline.p]
source = "in"
model = "linear"
slots = 20000
publish = {{{{ topic = "results/p", qos = 0 }}}}
"""
    with (
        Broker(tmp_path, "max_queued_messages 0", "log_type error") as broker,
        Client(broker.port, "edged/#") as client,
        Daemon(tmp_path, text.format(port=broker.port)) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        sent = 0
        while sent < 30_000:  # until the largest burst that this machine makes has been
            sent = send(client, sent, 10_000)
        until(lambda: len(daemon.threads) == 1, what="the loop's thread alone")
        resident, fds = daemon.resident_kib, daemon.fds
        while sent < count:
            sent = send(client, sent, 10_000)
        assert daemon.resident_kib - resident < 3 * 1024
        until(lambda: (daemon.fds, len(daemon.threads)) == (fds, 1), what=f"{fds} descriptors and one thread, as before")
        health = client.health(lambda h: h["pipelines"]["p"]["publish"][0]["acked"] == count)
        assert balanced(health)


def send(client: Client, start: int, count: int) -> int:
    """Messages in one go; returns when the daemon has taken them and sent all results, so that nothing waits in its memory."""
    client.publish_all("in/x", [struct.pack("<3f", i, 0, 0) for i in range(start, start + count)], qos=0)
    client.health(lambda h: h["pipelines"]["p"]["publish"][0]["acked"] == start + count)
    return start + count


def test_s15_idle_is_quiet(broker: Broker, tmp_path: Path) -> None:
    text = imu(broker, tmp_path).replace('"100ms"', '"10s"')
    with Sensor(tmp_path / "imu"), Daemon(tmp_path, text) as daemon:
        daemon.wait_log("state=connected")
        began, used = time.monotonic(), daemon.cpu_s
        pause(3.0, "processor time is measured over it")
        assert daemon.cpu_s - used <= 0.03 * (time.monotonic() - began)
        until(lambda: len(daemon.threads) == 1, what="the loop's thread alone")
