"""`edged init`: from a board that sends lines, or a broker, to a first right result."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edged.config.toml.document import parse
from tests.live.test_main_job import lines_of
from tests.support.broker import Broker
from tests.support.daemon import ROOT, Client, Sensor, edged, said
from tests.support.pause import pause


@contextmanager
def sending(sensor: Sensor, lines: list[str]) -> Iterator[None]:
    """A board that sends lines forever, some of them together, whether anybody listens or not."""
    is_over = threading.Event()
    master = sensor.master

    def send() -> None:
        at = 0
        while not is_over.is_set():
            try:
                os.write(master, "".join(lines[at : at + 16]).encode())
                at = (at + 16) % len(lines)
            except BlockingIOError:
                pass
            pause(0.016, "a sensor at 1000 Hz")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_from_a_board_and_a_model_to_a_right_result_at_the_broker(broker: Broker, tmp_path: Path) -> None:
    lines = [f"{i},{line}" for i, line in enumerate(lines_of("bearing", 30))]  # a counter before what the model wants
    flags = ["--serial", str(tmp_path / "board"), "--model", str(ROOT / "models/vibration"), "--run"]
    with Client(broker.port, "edged/+/vibration") as client, Sensor(tmp_path / "board") as sensor, sending(sensor, lines):
        environ = {"XDG_RUNTIME_DIR": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state")}
        process = edged("init", *flags, "--results", f"mqtt://127.0.0.1:{broker.port}", cwd=tmp_path, environ=environ)
        code, out, errors = said(process, 90.0)
        assert code == 0, errors
        result = client.messages[-1].json
    assert (result["pipeline"], result["label"]) == ("vibration", "bearing")
    assert "edged.toml: ok\n" in out
    assert '"label": "bearing"' in out
    assert "the first result came " in errors
    found = parse((tmp_path / "edged.toml").read_text()).values
    assert found["source"] == {
        "sensor": {
            "type": "serial",
            "port": str(tmp_path / "board"),
            "baudrate": 115200,
            "decode": {"format": "csv", "fields": ["_", "ax", "ay", "az"]},
        }
    }
    assert (tmp_path / "edged.schema.json").exists()
    before = (tmp_path / "edged.toml").read_bytes()
    code, _, errors = said(edged("init", *flags, cwd=tmp_path))
    assert (code, errors) == (64, "edged: edged.toml is there already, and is left as it is; -o FILE writes another\n")
    assert (tmp_path / "edged.toml").read_bytes() == before


def test_from_the_topics_of_a_broker(broker: Broker, tmp_path: Path) -> None:
    url = f"mqtt://127.0.0.1:{broker.port}"
    with Client(broker.port) as client:
        for pump in (1, 2):
            client.publish(f"plant/pumps/{pump}", f'{{"temp": {20 + math.sin(pump)}, "on": true}}', retain=True)
        process = edged("init", "--broker", url, "--topic", "plant/#", "--seconds", "1", "--model", "none", cwd=tmp_path)
        code, out, errors = said(process)
        for pump in (1, 2):
            client.publish(f"plant/pumps/{pump}", "", retain=True)
    assert code == 0, errors
    assert "plant/pumps/{pump}: 2 keys (1, 2), retained only, temp" in errors
    assert "edged.toml: ok\n" in out
    found = parse((tmp_path / "edged.toml").read_text()).values
    assert found["source"]["pumps"] == {
        "type": "mqtt",
        "broker": "main",
        "topic": "plant/pumps/{pump}",
        "decode": {"format": "json", "fields": ["temp"]},
    }


def test_nothing_is_opened_without_consent(tmp_path: Path) -> None:
    code, _, errors = said(edged("init", "--model", "none", cwd=tmp_path))
    assert code == 64
    assert errors.startswith("edged: expected --serial PORT (it is opened, which can reset a board) or --broker URL")
    assert not (tmp_path / "edged.toml").exists()
