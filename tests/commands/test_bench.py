from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edged.cli import main
from edged.commands.bench import Benched, lines, plans_to_run
from tests.model.trial.test_advice import plan, way
from tests.support import hostile

TINY = Path(__file__).parents[2] / "models" / "tiny"
CONFIG = f"""
[source.a]
type = "simulate"
signal = "sine"
rate = 10

[model.small]
path = "{TINY}"
threads = 2

[pipeline.p]
source = "a"
model = "small"
window = {{ size = 8 }}
inputs = {{ x = {{ fields = ["ax"] }} }}
publish = []
"""


def test_a_file_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(TINY), "--seconds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["model"] == "tiny"
    usual = found["ways"][0]
    assert (usual["provider"], usual["threads"], usual["batch_max"]) == ("cpu", 1, 16)
    assert {p["hz"] for p in usual["paces"]} == {0, 10, 100, 1000}
    assert usual["resident_bytes"] >= usual["private_bytes"] > 0
    assert len({(w["provider"], w["threads"]) for w in found["ways"]}) == len(found["ways"])


def test_a_model_of_a_configuration_is_run_as_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edged.toml"
    path.write_text(CONFIG)
    assert main(["bench", "small", "-c", str(path), "--seconds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ways"][0]["threads"] == 2
    assert main(["bench", "smal", "-c", str(path)]) == 78
    assert 'expected a model that a pipeline uses, found "smal"; did you mean "small"?' in capsys.readouterr().err


def test_what_cannot_be_run_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path / "absent.onnx")]) == 78
    assert capsys.readouterr().err.count("\n") == 1
    path = hostile.build("unknown operator", tmp_path / "m")
    assert main(["bench", str(path)]) == 78
    err = capsys.readouterr().err
    assert err.startswith(f"{path}: ")
    assert hostile.ALL["unknown operator"][1] in err


def test_as_json_an_error_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "absent.onnx")
    assert main(["bench", path, "--json"]) == 78
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["model"], len(said["errors"])) == (False, path, 1)


def test_seconds_have_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    for seconds in ("0", "nan", "inf", "1e30"):
        assert main(["bench", str(TINY), "--seconds", seconds]) == 64
        assert capsys.readouterr().err == "edged bench: --seconds must be above 0, and at most 3600\n"


def test_what_is_run() -> None:
    def ways(cores: int, **settings: object) -> list[tuple[str, int]]:
        return [(p.providers[0], p.threads) for p in plans_to_run(plan(**settings), cores)]

    assert ways(4) == [("cpu", 1), ("cpu", 2), ("cpu", 4)]
    assert ways(1, threads=2) == [("cpu", 2), ("cpu", 1)]
    assert ways(1, providers=("tensorrt", "cpu")) == [("tensorrt", 1), ("cpu", 1)]


def test_a_provider_that_is_required_and_not_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edged.toml"
    path.write_text(CONFIG.replace("threads = 2", 'providers = ["cuda"]'))
    assert main(["bench", "small", "-c", str(path), "--seconds", "1"]) == 78
    assert "CUDA is required and did not run" in capsys.readouterr().err


def test_tables_for_people() -> None:
    slow: dict[str, Any] = {"run": "worker", "batches": {1: 30_000.0}}
    found = Benched("pump", plan(), 4, (way(30_000, **slow), way(15_000, threads=2, **slow)), {"CUDA, 1 thread": "no driver"})
    text = list(lines(found, False))
    assert text[0].endswith(", 4 cores")
    assert text[3].endswith("  back to back")
    assert text[4].split()[:3] == ["CPU,", "1", "thread"]
    assert "too slow" in text[4]
    assert "CUDA, 1 thread did not run: no driver" in text
    assert text[-2:] == ["[model.pump]", "threads = 2  # 15.0 ms for a row; with one thread 30.0 ms"]
    text = list(lines(Benched("pump", plan(), 4, (way(120),), {}), False))
    assert text[-1] == "nothing to set: the default is as good here as all others that were tried"
