"""The floors in C: they do the job where they can be built, and say what is missing where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.contestant import Contestant
from tests.bench.floors import Floors, build_floors
from tests.bench.load import Load
from tests.bench.nets import write_cnn, write_mlp
from tests.bench.sensor import Sensor
from tests.support.broker import Broker

LIMIT_S = 20.0
OPTIONS = ("max_queued_messages 0", "max_inflight_messages 0")


def test_without_a_compiler_the_reason_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build_floors(tmp_path / "out") == (None, None, "no C compiler: apt install gcc")


@pytest.fixture(scope="module")
def floors(tmp_path_factory: pytest.TempPathFactory) -> Floors:
    built = build_floors(tmp_path_factory.mktemp("floors"))
    assert not built.why_not  # `make test` sets up what they need
    return built


@pytest.mark.parametrize("qos", [0, 1])
def test_every_message_has_its_answer(qos: int, floors: Floors, tmp_path: Path) -> None:
    model = write_mlp(tmp_path / "mlp.onnx")
    with Broker(tmp_path, *OPTIONS) as broker:
        command = [str(part) for part in (floors.mqtt, model, "in", "out", broker.port, 64, 4, "raw", qos)]
        with Load(broker.port, ["in"], "out", bytes(256), qos) as load, Contestant(command, tmp_path, says_ready=False):
            load.wait_until_answered(LIMIT_S)
            load.drive(100, 8)  # raises Lost unless all are answered


def test_every_window_of_a_port_has_its_answer(floors: Floors, tmp_path: Path) -> None:
    model = write_cnn(tmp_path / "cnn.onnx")
    with (
        Broker(tmp_path, *OPTIONS) as broker,
        Load(broker.port, ["in"], "out", b"", 0) as load,
        Sensor(6) as sensor,
    ):
        command = [str(part) for part in (floors.serial, model, sensor.path, "out", broker.port, 6, 128, 64, 4)]
        with Contestant(command, tmp_path, says_ready=False) as contestant:
            contestant.wait_until_opened(sensor.path, LIMIT_S)
            sensor.talk(128 + 10 * 64)
            load.count_answers(11)
