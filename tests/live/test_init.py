"""`edged init`: from a board that sends lines, or a broker, to a first right result."""

from __future__ import annotations

import math
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edged.config.toml.document import parse
from tests.live.test_main_job import lines_of
from tests.support.broker import Broker
from tests.support.daemon import DEADLINE_S, ROOT, Client, Sensor, edged, said
from tests.support.models import identity
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
    assert (code, errors) == (64, "edged: edged.toml exists already, so edged does not change it; -o FILE writes another file\n")
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
    assert errors.startswith("edged: expected --serial PORT (edged opens it, which can reset a board) or --broker URL")
    assert not (tmp_path / "edged.toml").exists()


class Person:
    """Somebody who sits at a terminal, reads the questions and types answers."""

    def __init__(self, *arguments: str, home: Path, cwd: Path) -> None:
        self.shown = ""
        self._read = 0
        environ = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "STATE_DIRECTORY": str(home / "state")}
        self._terminal, end = os.openpty()
        # A terminal that controls: Ctrl-C is a signal, as at a desk.
        command = ["setsid", "--ctty", sys.executable, "-m", "edged", "init", *arguments]
        self._process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=environ, cwd=cwd)
        os.close(end)

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def types(self, answer: str, at: str) -> None:
        """Once a question is shown that was not before."""
        deadline = time.monotonic() + DEADLINE_S
        while at not in self.shown[self._read :]:
            assert self._sees(deadline), f"{at!r} was never shown:\n{self.shown}"
        self._read = len(self.shown)
        os.write(self._terminal, answer.encode())

    def leaves(self) -> int:
        """The exit status, once all was shown."""
        deadline = time.monotonic() + DEADLINE_S
        while self._sees(deadline):
            pass
        return self._process.wait(DEADLINE_S)

    def _sees(self, deadline: float) -> bool:
        """False at the end."""
        ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, self.shown
        try:
            data = os.read(self._terminal, 4096)
        except OSError:  # nobody is at the other end any more
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


def test_typed_at_a_terminal(broker: Broker, tmp_path: Path) -> None:
    identity(tmp_path / "same.onnx", 1, width=1)
    (tmp_path / "place").mkdir()
    url = f"mqtt://127.0.0.1:{broker.port}"
    at_the_desk = Person("--seconds", "1", home=tmp_path, cwd=tmp_path / "place")
    with Client(broker.port) as client, at_the_desk as person:
        client.publish("plant/oven", '{"temp": 200.5}', retain=True)
        person.types("9\n", at="Where do samples come from? [1] ")
        person.types("1\n", at="Where do samples come from? [1] ")
        person.types("localhost:1883\n", at="Which broker? [mqtt://localhost] ")
        person.types(f"{url}\n", at="Which broker? [mqtt://localhost] ")
        person.types("\n", at="Which of them? [1] ")
        person.types("~/other.onnx\n", at="Which model,")
        person.types("~/same.onnx\n", at="Which model,")
        person.types("n\n", at="Run it for 10 seconds? [yes] ")
        assert person.leaves() == 0, person.shown
    said = " ".join(person.shown.split())  # lines are as long as the terminal is wide
    assert "expected a number from 1 to 1, or several, found '9'" in said
    assert "expected an address such as mqtt://localhost" in said
    assert f"{tmp_path}/other.onnx is not there" in said
    assert "edged.toml: ok" in said
    found = parse((tmp_path / "place" / "edged.toml").read_text()).values
    assert found["broker"]["main"]["url"] == url
    assert (found["source"]["oven"]["topic"], found["model"]["same"]["path"]) == ("plant/oven", str(tmp_path / "same.onnx"))


def test_who_ends_the_input_leaves_and_nothing_is_written(tmp_path: Path) -> None:
    for key, code in (("\x04", 64), ("\x03", 70)):  # Ctrl-D, Ctrl-C
        with Person(home=tmp_path, cwd=tmp_path) as person:
            person.types(key, at="Where do samples come from? [1] ")
            assert person.leaves() == code, person.shown
        assert "Traceback" not in person.shown
    assert not (tmp_path / "edged.toml").exists()
