from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from edged.commands.init.draft import Found, Use, fitted, model_name, name_of, planned, samples_of, text, toml
from edged.commands.init.find import port_name
from edged.config.toml.document import parse
from edged.decode.propose import Reading, readings
from edged.model.manifest import read_manifest
from tests.support.daemon import ROOT
from tests.support.models import total

PORT = {"type": "serial", "port": "/dev/ttyUSB0", "baudrate": 115200}


def source(line: Any, count: int = 40) -> Found:
    """One whose lines are `line(i)`, as a port heard them."""
    data = "".join(line(i) + "\r\n" for i in range(count)).encode()
    reading = readings(data)[0]
    return Found("board", PORT, reading, samples_of(PORT, reading, data))


def test_what_is_written_is_read_again_as_it_was() -> None:
    value = {"text": 'a "quoted"\t\\', "list": [1, 2.5, True], "table": {"a": "\u00e9"}}
    assert parse(f"x = {toml(value)}").values == {"x": value}


def test_columns_are_called_as_the_model_calls_them() -> None:
    model = ROOT / "models/vibration"
    manifest, _ = read_manifest("it", model)
    assert manifest is not None
    board = source(lambda i: f"{i * 10},{math.sin(i):.3f},{math.cos(i):.3f},9.81")
    assert board.reading.fields == ["c1", "c2", "c3", "c4"]
    use, why = fitted(board, model, manifest, "mqtt://localhost", Path("edged.toml"))
    assert use is not None, why
    assert (use.window, use.output) == (512, "classify")
    assert use.source.reading.keys["decode"]["fields"] == ["_", "ax", "ay", "az"]  # the first only counts up
    content = text([use], "mqtt://localhost", ROOT)
    assert parse(content).values["pipeline"] == {
        "vibration": {"source": "board", "window": {"size": 512, "hop": 256}, "model": "vibration", "output": "classify"}
    }
    assert parse(content).values["model"] == {"vibration": {"path": "models/vibration"}}
    assert content.startswith("#:schema edged.schema.json\n")
    assert planned([use], "mqtt://localhost", ROOT / "edged.toml") == []


def test_a_model_of_single_samples_needs_no_window(tmp_path: Path) -> None:
    model = total(tmp_path / "sum.onnx", width=2)
    manifest, _ = read_manifest("it", model)
    assert manifest is not None
    use, why = fitted(source(lambda i: f"t={20 + i % 3} h={i % 5}"), model, manifest, "mqtt://localhost", tmp_path / "e.toml")
    assert use is not None, why
    assert (use.window, use.output, use.source.reading.fields) == (None, "raw", ["t", "h"])


def test_a_model_that_fits_nothing_says_why(tmp_path: Path) -> None:
    model = total(tmp_path / "sum.onnx", width=5)
    manifest, _ = read_manifest("it", model)
    assert manifest is not None
    use, why = fitted(source(lambda i: f"{i % 3},{i % 5},{i % 7}"), model, manifest, "mqtt://localhost", tmp_path / "e.toml")
    assert use is None
    assert "5" in why[0]


def test_without_a_model_samples_are_results() -> None:
    use = Use(source(lambda i: f"{i % 7};{20 + i % 2},5"))
    assert planned([use], "mqtt://localhost", Path("edged.toml")) == []
    values = parse(text([use], "mqtt://localhost", Path())).values
    assert values["source"]["board"]["decode"] == {"format": "csv", "fields": ["c1", "c2"], "separator": ";", "decimal": ","}
    assert values["pipeline"] == {"board_samples": {"source": "board"}}


def test_a_reading_that_takes_few_of_the_lines_is_none() -> None:
    reading = Reading({"decode": {"format": "csv", "fields": ["a", "b"]}}, "")
    good, bad = b"1,2\n" * 10, b"no number\n" * 5
    assert samples_of(PORT, reading, good) == ((1.0, 2.0),) * 9  # the first may be the rest of a line
    assert samples_of(PORT, reading, good + bad) == ()


@pytest.mark.parametrize(
    ("port", "name"),
    [
        ("/dev/serial/by-id/usb-Arduino__www.arduino.cc__0043_7543931-if00", "arduino"),
        ("/dev/ttyUSB0", "sensor"),
        ("/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0", "sensor"),
    ],
)
def test_names_of_ports(port: str, name: str) -> None:
    assert port_name(port) == name


def test_names_of_models(tmp_path: Path) -> None:
    (tmp_path / "My Model").mkdir()
    assert model_name(tmp_path / "My Model") == "my_model"
    assert model_name(tmp_path / "a" / "model.onnx") == "a"
    assert model_name(tmp_path / "net-2.onnx") == "net_2"
    assert name_of("7", "sensor") == "sensor"
