from __future__ import annotations

import re
from pathlib import Path

import pytest

import edged
from edged.late import Late
from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, until

EDGED = Path(edged.__file__).parent
PLACES = sorted(
    (path.relative_to(EDGED).parts[0], place)
    for path in EDGED.rglob("*.py")
    if path.name != "late.py"
    for place in re.findall(r'\bLate\("([^"]*)"\)', path.read_text(encoding="utf-8"))
)
"""Each place that edged names, with the room that names it."""

PLAIN = """
[device]
id = "t"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in"
decode = {{ format = "raw", dtype = "float32", shape = [3] }}
[model.linear]
path = "{model}"
[pipeline.p]
source = "in"
model = "linear"
output = {{ type = "raw" }}
publish = {{ topic = "out/p", qos = 0 }}
"""
UNUSED = """
decode.blocks decode.cbor decode.checksums decode.crc decode.csv decode.escapes decode.framers decode.frames
decode.image decode.influx decode.json decode.labels decode.mavlink decode.named decode.nmea decode.opened decode.propose
decode.senml decode.shapes decode.stream decode.text decode.tree decode.ubx decode.vedirect
sources.ask sources.asking sources.modbus sources.reading sources.recent sources.recording sources.replay sources.rtu
sources.sample_files sources.serial sources.shared sources.simulate sources.simulation sources.written
serialport.discovery serialport.faults serialport.port serialport.terminal
results.heads.anomaly results.heads.classify results.heads.detect results.heads.regress results.heads.text
results.heads.boxes results.heads.masks results.heads.detectors.reading results.heads.detectors.yolov8
model.remote.kserve model.remote.openai model.remote.peer model.remote.plain model.remote.runner
behaviours.actor behaviours.asking behaviours.code daemon.hard_samples
fleet.agent fleet.announcement fleet.led fleet.ledger health.http.metrics health.http.server pipeline.align.aligner
spool.disk spool.log spool.segment spool.spool spool.store commands.completions
"""
"""What a configuration with one source of raw numbers and one model does not need."""

SEVERAL = """
[device]
id = "t"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.of_json]
type = "mqtt"
topic = "in/json"
decode = {{ format = "json", fields = ["a", "b", "c"] }}
carry = ["id"]
[source.of_csv]
type = "mqtt"
topic = "in/csv"
decode = {{ format = "csv", fields = ["a", "b", "c"], encoding = "hex", payload = "data" }}
[source.of_influx]
type = "mqtt"
topic = "in/influx"
decode = {{ format = "influx", fields = ["a", "b", "c"] }}
[model.linear]
path = "{model}"
[pipeline.json]
source = "of_json"
model = "linear"
output = "classify"
publish = {{ topic = "out/json" }}
[pipeline.csv]
source = "of_csv"
model = "linear"
output = "regress"
publish = {{ topic = "out/csv" }}
[pipeline.influx]
source = "of_influx"
model = "linear"
publish = {{ topic = "out/influx" }}
"""
LOUD = {"PYTHONVERBOSE": "1"}
"""Python says in the log what it imports."""
MESSAGES = {"json": b'{"id":"x","a":1,"b":2,"c":3}', "csv": b'{"data":"312c322c33"}', "influx": b"m a=1,b=2,c=3"}


@pytest.mark.parametrize(("room", "place"), PLACES)
def test_what_edged_names_is_there_and_in_the_same_room(room: str, place: str) -> None:
    assert Late[object](place).get() is not None
    assert place.startswith((f"edged.{room}.", "msgspec."))


def test_there_are_some() -> None:
    assert len(PLACES) > 50


def imported(daemon: Daemon) -> list[str]:
    """The modules of edged that it has imported so far, in their order."""
    return re.findall(r"^import 'edged\.(\S+)' #", daemon.log, re.MULTILINE)


def test_a_plain_daemon_has_no_code_of_other_kinds(tmp_path: Path) -> None:
    models.linear(tmp_path / "linear.onnx")
    text = PLAIN.format(port=1, model=tmp_path / "linear.onnx")
    with Daemon(tmp_path, text, environ=LOUD) as daemon:
        found = imported(daemon)
    assert {"decode.struct", "results.heads.raw", "sources.mqtt"} <= set(found)
    unused = UNUSED.split()
    assert all((EDGED / (name.replace(".", "/") + ".py")).is_file() for name in unused)
    assert [name for name in unused if name in found] == []


def test_nothing_is_imported_once_a_daemon_is_ready(tmp_path: Path) -> None:
    models.linear(tmp_path / "linear.onnx")
    with Broker(tmp_path) as broker, Client(broker.port) as client:
        text = SEVERAL.format(port=broker.port, model=tmp_path / "linear.onnx")
        with Daemon(tmp_path, text, environ=LOUD) as daemon:
            before = imported(daemon)
            assert {"decode.influx", "decode.opened", "results.heads.classify"} <= set(before)
            daemon.wait_log("state=connected")
            for name, payload in MESSAGES.items():
                client.publish(f"in/{name}", payload)
                client.publish(f"in/{name}", b"\xff")  # and one that is refused
            until(lambda: {seen.topic for seen in client.messages} >= {f"out/{name}" for name in MESSAGES}, what="results")
            assert imported(daemon) == before
