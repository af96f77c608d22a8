"""`edged tap`: what passes in a daemon that runs, and on a port or a topic without one."""

from __future__ import annotations

import base64
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_main_job import SERIAL, VIBRATION, head, lines_of
from tests.support.broker import Broker
from tests.support.daemon import ROOT, Client, Daemon, Sensor, edged, said, until

PUMPS = """
[source.pumps]
type = "mqtt"
topic = "pumps/{pump}"
decode = { format = "json", fields = ["v"] }
[pipeline.each]
source = "pumps"
"""


def opened(daemon: Daemon, count: int) -> bool:
    return daemon.log.count("tap_opened") == count


def lines(process: Any) -> list[Any]:
    code, out, errors = said(process)
    assert code == 0, errors
    return [json.loads(line) for line in out.splitlines()]


SHARED = """
[port.bus]
port = "{port}"
baudrate = 9600
[source.first]
type = "serial"
port = "bus"
where = {{ tag = 1 }}
decode = {{ format = "csv", fields = ["tag", "v"] }}
[source.second]
type = "serial"
port = "bus"
where = {{ tag = 2 }}
decode = {{ format = "csv", fields = ["tag", "w"] }}
"""


def test_what_comes_on_a_port_that_sources_share(broker: Broker, tmp_path: Path) -> None:
    text = head(broker) + SHARED.format(port=tmp_path / "bus")
    with Client(broker.port) as client, Sensor(tmp_path / "bus") as sensor, Daemon(tmp_path, text) as daemon:
        client.health(lambda h: h["sources"]["first"]["state"] in ("running", "silent"))
        looking = edged("tap", "first", "--stage", "raw", "-n", "1", "--json", "-c", str(daemon.config))
        until(partial(opened, daemon, 1), what="the tap")
        sensor.write("1,5\n2,6\n")
        (line,) = lines(looking)
        assert line["stage"] == "raw"
        assert b"1,5\n2,6\n".startswith(base64.b64decode(line["data"]))


def test_what_a_daemon_reads_runs_and_says(broker: Broker, tmp_path: Path) -> None:
    text = head(broker) + SERIAL.format(port=tmp_path / "accel") + VIBRATION.format(root=ROOT) + PUMPS
    sent = lines_of("bearing", 2)
    with Client(broker.port) as client, Sensor(tmp_path / "accel") as sensor, Daemon(tmp_path, text) as daemon:
        client.health(lambda h: h["sources"]["accel"]["state"] in ("running", "silent"))
        one = [
            ("accel", "--stage", "raw", "-n", "1"),
            ("accel", "-n", "3"),
            ("motor", "--stage", "window", "-n", "1"),
            ("motor", "-n", "2"),
        ]
        looking = []
        for count, arguments in enumerate(one, 1):
            looking.append(edged("tap", *arguments, "--json", "-c", str(daemon.config)))
            until(partial(opened, daemon, count), what="the tap")
        code, _, errors = said(edged("tap", "accel", "-c", str(daemon.config)))
        assert (code, errors) == (64, "edged: 4 other taps run already\n")
        sensor.write("1.0,x,2.0\n" + "".join(sent))
        raw, decoded, windows, results = map(lines, looking)
        assert raw[0]["stage"] == "raw"
        rejected, first, second = decoded
        assert (rejected["stage"], rejected["reason"], rejected["times"]) == ("rejected", "not_a_number", 1)
        for line, wanted in zip((first, second), sent, strict=False):
            assert [*line["values"].values()] == pytest.approx([float(x) for x in wanted.split(",")])
        (window,) = windows
        assert next(iter(window["inputs"].values()))["shape"] == [512, 3]
        assert len(next(iter(window["outputs"].values()))) == 4
        assert [line["result"]["label"] for line in results] == ["bearing"] * 2
        until(lambda: daemon.log.count("tap_closed") == 4, what="the end of the taps")

        each = edged("tap", "pumps", "--key", "7", "-n", "1", "--json", "-c", str(daemon.config))
        until(partial(opened, daemon, 5), what="the tap")
        config = daemon.config.read_text()
        daemon.config.write_text(config.replace('"pumps/{pump}"', '["pumps/{pump}"]').replace('["v"] }', '["v", "w"] }'))
        assert said(edged("reload", "--wait", "-c", str(daemon.config)))[0] == 0
        client.publish("pumps/6", '{"v": 1, "w": 2}')
        client.publish("pumps/7", '{"v": 3, "w": 4}')
        (line,) = lines(each)
        assert (line["key"], line["values"]) == ("7", {"v": 3.0, "w": 4.0})  # of what runs now

        left = edged("tap", "each", "--json", "-c", str(daemon.config))
        until(partial(opened, daemon, 6), what="the tap")
        left.send_signal(signal.SIGINT)
        assert said(left)[0] == 0
        until(lambda: daemon.log.count("tap_closed") == 6, what="the end of the tap, though nothing came")


def test_what_is_not_there_is_named(broker: Broker, tmp_path: Path) -> None:
    with Daemon(tmp_path, head(broker) + PUMPS) as daemon:
        for arguments, text in (
            (("pump",), 'edged: expected a source or a pipeline, found "pump"; did you mean "pumps"?\n'),
            (
                ("pumps", "--stage", "result"),
                "edged: result is a stage of a pipeline, and pumps is a source; pipelines that read it: each\n",
            ),
            (("each", "--stage", "raw"), "edged: raw is a stage of a source, and each is a pipeline; it reads pumps\n"),
        ):
            code, _, errors = said(edged("tap", *arguments, "-c", str(daemon.config)))
            assert (code, errors) == (64, text)


def test_a_port_without_a_daemon(tmp_path: Path) -> None:
    with Sensor(tmp_path / "port") as sensor:
        looking = edged("tap", "--serial", str(tmp_path / "port"), "-n", "3", "--json")
        sensor.write("20.5;1013\n20.6;1012\n20.7;1011\n20.8;1010\n")
        code, out, errors = said(looking)
    assert code == 0
    assert [line["bytes"] for line in map(json.loads, out.splitlines())] == [9, 9, 9]
    assert errors == 'what would read this: these lines have 2 columns with separator = ";"\n'
    assert not os.path.exists(tmp_path / "edged.toml")


def test_a_topic_without_a_daemon(broker: Broker, tmp_path: Path) -> None:
    with Client(broker.port) as client:
        client.publish("plant/a/kept", '{"v": 1}', retain=True)
        looking = edged("tap", "--broker", f"mqtt://127.0.0.1:{broker.port}", "--topic", "plant/+/kept", "-n", "1")
        code, out, _ = said(looking)
        client.publish("plant/a/kept", "", retain=True)
    assert code == 0
    assert out[13:] == "plant/a/kept (retained) '{\"v\": 1}'\n"


REJECTS = """
[source.a]
type = "mqtt"
topic = "in/a"
decode = { format = "json", fields = ["v"] }
rejects = { topic = "out/bad/{source}", limit = 1000, max_bytes = "128B" }
[pipeline.a_results]
source = "a"
"""


def test_what_is_refused_goes_to_a_topic(broker: Broker, tmp_path: Path) -> None:
    with Client(broker.port) as client, Daemon(tmp_path, head(broker) + REJECTS) as daemon:
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        client.publish("in/a", '{"v": "' + "x" * 200 + '"}')
        letter = client.wait("out/bad/a")[0].json
        assert (letter["device"], letter["source"], letter["reason"]) == ("t", "a", "not_a_number")
        assert letter["text"] == '{"v": "' + "x" * 121
        daemon.config.write_text(daemon.config.read_text().replace("out/bad/{source}", "out/worse"))
        assert said(edged("reload", "--wait", "-c", str(daemon.config)))[0] == 0
        client.publish("in/a", "[")
        assert client.wait("out/worse")[0].json["reason"] == "malformed"
        code, _, errors = said(edged("check", "-c", str(daemon.config)))
        assert code == 0
        daemon.config.write_text(daemon.config.read_text().replace("out/worse", "in/a").replace("128B", "8KiB"))
        code, _, errors = said(edged("check", "-c", str(daemon.config)))
        assert code == 78
        assert 'source.a.rejects.max_bytes: expected at most "4KiB", found 8192 bytes' in errors
        assert "source.a.rejects.topic: in/a is read by source.a: what was refused would come back as inputs" in errors
        daemon.config.write_text(daemon.config.read_text().replace("limit", 'broker = "other", limit'))
        assert "source.a.rejects.broker" in said(edged("check", "-c", str(daemon.config)))[2]
