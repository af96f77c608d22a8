"""Results while their broker is away: on disk, in order, marked, and nothing lost by a kill. Story S1 and S10 in small."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, until

TWO = """
[device]
id = "t"
[health]
interval = "200ms"
broker = "here"
[broker.here]
url = "mqtt://127.0.0.1:{here}"
[broker.there]
url = "mqtt://127.0.0.1:{there}"
{more}
[source.in]
type = "mqtt"
broker = "here"
topic = "in/x"
decode = {{ format = "json", fields = ["a", "b", "c"] }}
[model.m]
path = "{zoo}/linear.onnx"
[pipeline.p]
source = "in"
model = "m"
publish = {{ broker = "there", topic = "out/p"{publish} }}
"""


def write(broker: Broker, there: Broker, zoo: Path, more: str = "", publish: str = "") -> str:
    return TWO.format(here=broker.port, there=there.port, zoo=zoo, more=more, publish=publish)


def samples(numbers: range) -> list[str]:
    return [json.dumps({"a": n, "b": 0, "c": 0}) for n in numbers]


def number(result: Any) -> int:
    """Which sample a result came from: y = x @ [[1, 2], [2, 3], [3, 4]]."""
    return int(result["outputs"]["y"][0])


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Broker]:
    """The broker that results go to, not started; it keeps its subscribers' sessions."""
    folder = tmp_path / "there"
    folder.mkdir()
    one = Broker(folder, "persistence true", f"persistence_location {folder}/", "max_queued_messages 0")
    yield one
    one.stop()


def subscribed(here: Client) -> None:
    """READY says nothing of brokers: inputs sent before the first SUBSCRIBE are nobody's."""
    here.health(lambda h: h["brokers"]["here"]["state"] == "connected")


@contextmanager
def back(daemon: Daemon, there: Broker) -> Iterator[Client]:
    """The broker is there again, and a client of it hears every result."""
    with ExitStack() as stack:
        with daemon.paused():
            there.start()
            client = stack.enter_context(Client(there.port, "out/#"))
        yield client


def files(folder: Path) -> list[Path]:
    return sorted((folder / "state" / "spool").rglob("*.log"))


def test_s01_s10_an_outage_loses_nothing(broker: Broker, there: Broker, tmp_path: Path, zoo: Path) -> None:
    text = write(broker, there, zoo)
    with there, Client(broker.port) as here, Daemon(tmp_path, text) as daemon:
        subscribed(here)
        with Client(there.port, "out/#") as client:
            here.publish_all("in/x", samples(range(50)))
            client.wait("out/p", 50)
            assert not (tmp_path / "state" / "spool").exists()  # nothing is written while all is well
        there.stop()
        here.health(lambda h: h["brokers"]["there"]["state"] not in ("connected", "degraded"))
        for start in range(50, 1050, 100):
            here.publish_all("in/x", samples(range(start, start + 100)))
        health = here.health(lambda h: h["spool"]["brokers"]["there"]["waiting"] >= 900 and balanced(h))
        assert health["spool"]["state"] == "storing"
        # The inputs are settled by the disk: their own broker owes us nothing.
        here.health(lambda h: h["brokers"]["here"]["unacked"] == 0)
        with back(daemon, there) as client:
            here.health(lambda h: h["brokers"]["there"]["state"] == "connected")
            here.publish_all("in/x", samples(range(1050, 1060)))
            results = [m.json for m in client.wait("out/p", 1010)]
        assert [number(r) for r in results if "replayed" in r] == list(range(50, 1050))
        assert [number(r) for r in results if "replayed" not in r] == list(range(1050, 1060))
        here.health(lambda h: h["spool"]["state"] == "idle" and h["spool"]["brokers"]["there"]["waiting"] == 0)
        health = here.health(lambda h: sum(e["queued"] + e["in_flight"] for e in h["pipelines"]["p"]["publish"]) == 0)
        (entry,) = health["pipelines"]["p"]["publish"]
        assert entry["made"] == 1060
        assert entry["dropped"] == {}
        assert entry["spooled"] > 900
        assert balanced(health)
        until(lambda: files(tmp_path) == [], what="the spool to be empty")
        assert daemon.process.poll() is None


def test_a_start_without_the_broker(broker: Broker, there: Broker, tmp_path: Path, zoo: Path) -> None:
    text = write(broker, there, zoo, "[spool]\nreplay_rate = 200\n")
    with Client(broker.port) as here, Daemon(tmp_path, text) as daemon:
        subscribed(here)
        here.publish_all("in/x", samples(range(500)))
        here.health(lambda h: h["spool"]["brokers"]["there"]["waiting"] == 500)
        with back(daemon, there) as client:
            client.wait("out/p", 20)
            here.publish_all("in/x", samples(range(500, 550)))
            everything = [m.json for m in client.wait("out/p", 550)]
            here.health(lambda h: h["spool"]["state"] == "idle" and balanced(h))
    replayed = [number(r) for r in everything if r.get("replayed")]
    live = [number(r) for r in everything if not r.get("replayed")]
    assert replayed == list(range(500))
    assert live == list(range(500, 550))
    places = {number(r): i for i, r in enumerate(everything)}
    assert places[549] < places[499], "live results did not go first"
    ages = [r["age_ms"] for r in everything if r.get("replayed")]
    assert min(ages) > 0


def test_strictly_in_order(broker: Broker, there: Broker, tmp_path: Path, zoo: Path) -> None:
    text = write(broker, there, zoo, '[spool]\norder = "strict"\nreplay_rate = 300\n')
    with Client(broker.port) as here, Daemon(tmp_path, text) as daemon:
        subscribed(here)
        here.publish_all("in/x", samples(range(300)))
        here.health(lambda h: h["spool"]["brokers"]["there"]["waiting"] == 300)
        with back(daemon, there) as client:
            client.wait("out/p", 10)
            here.publish_all("in/x", samples(range(300, 350)))
            here.health(lambda h: h["spool"]["state"] == "idle" and balanced(h))
            here.publish_all("in/x", samples(range(350, 360)))
            everything = [m.json for m in client.wait("out/p", 360)]
    assert [number(r) for r in everything] == list(range(360))
    assert all(r.get("replayed") for r in everything if number(r) < 300)
    assert not any(r.get("replayed") for r in everything if number(r) >= 350)


def test_a_kill_during_the_outage_loses_nothing_that_was_settled(
    broker: Broker, there: Broker, tmp_path: Path, zoo: Path
) -> None:
    daemon = Daemon(tmp_path, write(broker, there, zoo, "[spool]\nreplay_rate = 1000\n"))
    with Client(broker.port) as here:
        for life in range(4):
            daemon.start()
            subscribed(here)
            here.publish_all("in/x", samples(range(life * 200, life * 200 + 200)))
            here.health(lambda h: h["spool"]["brokers"]["there"]["stored"] > 0)
            daemon.kill()
        with daemon:
            here.health(lambda h: h["brokers"]["here"]["unacked"] == 0 and h["spool"]["brokers"]["there"]["waiting"] >= 800)
            with back(daemon, there) as client:
                here.health(lambda h: h["spool"]["state"] == "idle" and balanced(h))
                here.publish_all("in/x", samples(range(800, 801)))
                client.until(lambda: any(number(m.json) == 800 for m in client.of("out/p")))
                numbers = [number(m.json) for m in client.of("out/p")]
    assert set(numbers) == set(range(801))
    assert len(numbers) - 801 <= 4 * 64  # the receive maximum, for each kill


def test_damage_costs_what_is_damaged(broker: Broker, there: Broker, tmp_path: Path, zoo: Path) -> None:
    """Bits flip, a page is lost and an end is torn off while the daemon is away: it starts, and what is whole is delivered."""
    daemon = Daemon(tmp_path, write(broker, there, zoo, '[spool]\nmax_bytes = "1MiB"\n'))
    rng = random.Random(1)
    with Client(broker.port) as here:
        daemon.start()
        subscribed(here)
        here.publish_all("in/x", samples(range(1000)))
        here.health(lambda h: h["spool"]["brokers"]["there"]["stored"] == 1000 and h["brokers"]["here"]["unacked"] == 0)
        daemon.kill()
        flipped, holed, *_, torn = files(tmp_path)
        data = bytearray(flipped.read_bytes())
        for _ in range(20):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        flipped.write_bytes(data)
        data = bytearray(holed.read_bytes())
        data[8192:12288] = bytes(4096)
        holed.write_bytes(data)
        torn.write_bytes(torn.read_bytes().rstrip(b"\0")[:-1])
        with daemon:
            with back(daemon, there) as client:
                health = here.health(lambda h: h["spool"]["state"] == "idle" and balanced(h))
                log = health["spool"]["brokers"]["there"]
                numbers = [number(m.json) for m in client.wait("out/p", log["stored"] - log["dropped"]["damaged"])]
            assert numbers == sorted(set(numbers))
            assert (log["stored"], log["torn"]) == (999, 1)
            assert 1000 - len(numbers) == 1 + log["dropped"]["damaged"] < 60
            folder, bad = tmp_path / "state" / "spool" / "there", {f"{flipped.name}.bad", f"{holed.name}.bad"}
            until(lambda: {f.name for f in folder.iterdir()} == bad, what="the damaged files to be set aside")


def test_always_keeps_a_copy_and_marks_nothing_live(broker: Broker, there: Broker, tmp_path: Path, zoo: Path) -> None:
    text = write(broker, there, zoo, '[spool]\nmode = "always"\n')
    with there, Client(broker.port) as here, Client(there.port, "out/#") as client, Daemon(tmp_path, text) as daemon:
        subscribed(here)
        here.health(lambda h: h["brokers"]["there"]["state"] == "connected")
        there.freeze()  # the link looks well, and nothing comes back
        here.publish_all("in/x", samples(range(30)))
        here.health(lambda h: h["brokers"]["here"]["unacked"] == 0 and h["sources"]["in"]["rows"] == 30)
        assert len(files(tmp_path)) == 1
        there.thaw()
        results = [m.json for m in client.wait("out/p", 30)]
        assert [number(r) for r in results] == list(range(30))
        assert not any(r.get("replayed") for r in results)
        here.health(lambda h: h["spool"]["state"] == "idle" and balanced(h))
        until(lambda: files(tmp_path) == [], what="the spool to be empty")
        assert daemon.process.poll() is None
