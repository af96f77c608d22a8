from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edged.cli import main
from edged.sources.simulation import CONDITIONS
from tests.support.recordings import vibration

MODELS = Path(__file__).parents[2] / "models"
CONFIG = f"""
[broker.main]
url = "mqtt://127.0.0.1:1"
[source.accel]
type = "serial"
port = "/dev/nowhere"
baudrate = 921600
rate = 1000
decode = {{ format = "csv", unit = "m/s2", fields = ["ax", "ay", "az"] }}
[model.vibration]
path = "{MODELS}/vibration"
[pipeline.motor]
source = "accel"
window = {{ size = 512, hop = 256 }}
model = "vibration"
output = "classify"
"""
SECONDS = 5
LABELS = "time,label\n" + "".join(f"{SECONDS * i}, {name}\n" for i, name in enumerate(CONDITIONS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "edged.toml").write_text(CONFIG)
    (tmp_path / "labels.csv").write_text(LABELS)
    vibration(tmp_path / "mixed.rec", 3, [(name, SECONDS) for name in CONDITIONS])
    return tmp_path


def evaluate(folder: Path, *arguments: str) -> int:
    return main(["evaluate", *arguments, "-c", str(folder / "edged.toml")])


def facts(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert evaluate(folder, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_classifier_against_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(folder, capsys, "vibration", str(folder / "mixed.rec"), str(folder / "labels.csv"))
    [model] = found["models"]
    assert model["samples"] == 20000
    assert model["results"] == 77
    counts = {(c["truth"], c["said"]): c["count"] for c in model["confusion"]}
    assert sum(counts.values()) == 77
    assert model["accuracy"] > 0.9
    assert model["accuracy"] == sum(n for (a, b), n in counts.items() if a == b) / 77
    assert all(counts[name, name] >= 17 for name in CONDITIONS)
    assert model["drift"] is None


def test_two_models_side_by_side_as_text_and_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    svg = folder / "p.svg"
    other = str(MODELS / "vibration" / "model.onnx")
    recording, labels = str(folder / "mixed.rec"), str(folder / "labels.csv")
    assert evaluate(folder, "vibration", recording, labels, "--against", other, "--svg", str(svg)) == 0
    out = capsys.readouterr().out
    assert "they agree on 100.00 % of the windows" in out
    assert out.count("was / said") == 2
    texts = [t.text for t in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"what was so", "vibration", other, *CONDITIONS} <= {*texts}


@pytest.mark.parametrize("model", ["../models/v", "../models/v/model.onnx", "../else/../models/v/"])
def test_paths_lead_from_the_folder_of_whoever_asks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    """With several pipelines, the one that has this model, by whatever way its path leads there."""
    other = CONFIG[CONFIG.index("[model.vibration]") :].replace(".vibration]", ".other]").replace(".motor]", ".other]")
    own = CONFIG.replace(f"{MODELS}/vibration", "models/v")
    (folder / "edged.toml").write_text(own + other.replace('model = "vibration"', 'model = "other"'))
    shutil.copytree(MODELS / "vibration", folder / "models" / "v")
    (folder / "else").mkdir()
    monkeypatch.chdir(folder / "else")
    found = facts(folder, capsys, model, "../mixed.rec", "../labels.csv")
    assert (found["pipeline"], found["models"][0]["results"]) == ("motor", 77)
    assert found["models"][0]["accuracy"] > 0.9


def test_what_was_learned_against_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    healthy = vibration(folder / "healthy.rec", 3, [("healthy", 40)])
    model = folder / "normal"
    assert main(["learn", "accel", str(healthy), "-c", str(folder / "edged.toml"), "-o", str(model)]) == 0
    out = capsys.readouterr().out
    (folder / "edged.toml").write_text(CONFIG + out[out.index("[model.normal]") :])
    arguments = ("normal", str(folder / "mixed.rec"), str(folder / "labels.csv"))
    assert evaluate(folder, *arguments) != 0
    assert "no label is 'normal'; say which one is normal: --normal healthy" in capsys.readouterr().err
    [found] = facts(folder, capsys, *arguments, "--normal", "healthy")["models"]
    rates = {rate["label"]: rate for rate in found["rates"]}
    assert [*rates] == ["healthy", "bearing", "imbalance", "looseness"]
    assert rates["healthy"]["flagged"] == 0
    assert found["false_alarms"] == 0
    for name in CONDITIONS[1:]:
        assert rates[name]["found"] == rates[name]["spans"] == 1
        assert rates[name]["auc"] >= 0.95
    assert [d["field"] for d in found["drift"] if d["is_far"]] == ["ax", "ay", "az"]
    assert evaluate(folder, "normal", str(healthy), "--svg", str(folder / "p.svg")) == 0
    assert "far from training" not in capsys.readouterr().out
    assert len([*ElementTree.parse(folder / "p.svg").iter("{http://www.w3.org/2000/svg}polyline")]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "mixed.rec"], 'expected a model of .* or the path of one, found "nothing"'),
        (["vibration", "none.rec"], "none.rec: there is no such file"),
        (["vibration", "mixed.rec", "wrong.csv"], "wrong.csv: line 1: expected the columns time .or start. and label"),
        (["vibration", "mixed.rec", "--pipeline", "moto"], 'expected a pipeline with a model, found "moto"; did you mean'),
        (["vibration", "short.rec"], "it gave no result: 0 samples"),
    ],
)
def test_what_cannot_be_said(arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    (folder / "wrong.csv").write_text("when,what\n")
    vibration(folder / "short.rec", 1, [])
    files = [str(folder / a) if "." in a else a for a in arguments]
    assert evaluate(folder, *files) != 0
    assert re.search(said, capsys.readouterr().err)
