from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.cli import main
from edged.commands.learn import beyond_manifest
from edged.config.load import read
from edged.model.manifest import read_manifest
from tests.support.recordings import pump, record, vibration

ACCEL = """
[broker.main]
url = "mqtt://127.0.0.1:1"
[source.accel]
type = "serial"
port = "/dev/nowhere"
baudrate = 921600
rate = 1000
decode = { format = "csv", unit = "m/s2", fields = ["ax", "ay", "az"] }
"""
PUMPS = """
[broker.main]
url = "mqtt://127.0.0.1:1"
[source.pumps]
type = "mqtt"
topic = "plant/{line}/{pump}"
max_keys = 40
decode = { format = "json", fields = ["temp", "p_in", "p_out", "rpm"] }
"""


def learn(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs it and returns what it printed."""
    assert main(["learn", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def pumps(path: Path, courses: list[Any], first: int, last: int) -> Path:
    """The pumps' steps from `first` to `last`, as messages."""
    names = ("temp", "p_in", "p_out", "rpm")
    return record(
        path,
        "mqtt",
        (
            (
                10.0 * step + k / 100,
                f"plant/l{k % 4}/p{k}".encode(),
                json.dumps(dict(zip(names, course[step], strict=True))).encode(),
            )
            for step in range(first, last)
            for k, course in enumerate(courses)
        ),
    )


def test_a_model_of_a_recording_runs_with_the_lines_that_were_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, folder = tmp_path / "edged.toml", tmp_path / "models" / "normal"
    config.write_text(ACCEL)
    recording = vibration(tmp_path / "a.rec", 1, [("healthy", 60)])
    out = learn(capsys, "accel", recording, "-c", config, "-o", folder)
    assert "59 s, 60000 samples, 233 windows of 512 samples" in out
    assert "few windows: the highest of 77 scores decides" in out
    lines = out[out.index("[model.normal]") :]
    config.write_text(ACCEL + lines)
    assert main(["check", "-c", str(config)]) == 0
    manifest, problems = read_manifest("normal", folder)
    assert manifest is not None
    assert not problems
    assert manifest.inputs["window"].fields == ("ax", "ay", "az")
    assert manifest.inputs["window"].units == {"ax": "m/s2", "ay": "m/s2", "az": "m/s2"}
    assert manifest.inputs["window"].seen is not None
    assert manifest.golden is not None
    assert manifest.golden.read()["score"].shape == (8, 1)


def test_several_recordings_and_the_report_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(ACCEL)
    recordings = [vibration(tmp_path / f"{seed}.rec", seed, [("healthy", 10)]) for seed in (1, 2)]
    facts = json.loads(learn(capsys, "accel", *recordings, "-c", config, "-o", tmp_path / "m", "--window", 256, "--json"))
    assert facts["samples"] == 20000
    assert facts["windows"] == 2 * 77
    assert facts["kept_back"] == 51
    assert facts["window"] == {"size": 256, "hop": 128}
    assert any(abs(d["deviations"]) > 1 for d in facts["drift"])  # the second machine is another one


def test_each_key_by_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, folder = tmp_path / "edged.toml", tmp_path / "pump"
    config.write_text(PUMPS)
    courses = [pump(seed, 300, 200 if seed == 7 else None) for seed in range(40)]
    hour = pumps(tmp_path / "hour.rec", courses, 0, 150)
    out = learn(capsys, "pumps", hour, "-c", config, "-o", folder, "--by-key")
    assert "6000 samples of 40 keys, 6000 single samples" in out
    config.write_text(PUMPS + out[out.index("[model.pump]") :])
    assert read(config).problems == ()
    later = pumps(tmp_path / "later.rec", courses, 150, 300)
    assert main(["evaluate", "pump", str(later), "-c", str(config), "--json"]) == 0
    [facts] = json.loads(capsys.readouterr().out)["models"]
    assert facts["results"] == 6000
    assert [*facts["abnormal_keys"]] == ["l3/p7"]
    assert facts["alarms"] == 1
    assert facts["abnormal_keys"]["l3/p7"] > 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], 'expected the name of a source, found "nothing"'),
        (["accel", "--by-key"], "source.accel: has no keys"),
        (["accel", "--window", "0"], "--window must be from 1"),
        (["accel", "--for", "ten"], "--for: expected a duration"),
        (["accel", "--window", "4096"], "1 windows came, and at least 60 are needed; listen longer"),
    ],
)
def test_what_it_cannot_learn_it_says(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(ACCEL)
    recording = vibration(tmp_path / "a.rec", 1, [("healthy", 6)])
    line = ["learn", arguments[0], str(recording), *arguments[1:], "-c", str(config), "-o", str(tmp_path / "m")]
    assert main(line) != 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_where_nothing_fits_it_says_what_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(ACCEL.replace('"az"]', '"az", "t"]'))
    recording = vibration(tmp_path / "a.rec", 1, [("healthy", 1)])
    assert main(["learn", "accel", str(recording), "-c", str(config), "-o", str(tmp_path / "m")]) != 0
    assert "source.accel: no sample came; rejected: short 1000" in capsys.readouterr().err


def test_it_writes_over_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(ACCEL)
    assert main(["learn", "accel", "-c", str(config), "-o", str(tmp_path)]) != 0
    assert "holds other files than a model of edged learn" in capsys.readouterr().err


def test_a_field_that_never_changed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(ACCEL.replace("rate = 1000\n", ""))
    rng = np.random.default_rng(0)
    lines = "".join(f"{x:.3f},5.0,{y:.3f}\n" for x, y in rng.normal(size=(300, 2)).tolist())
    (tmp_path / "plain.csv").write_text(lines)
    out = learn(capsys, "accel", tmp_path / "plain.csv", "-c", config, "-o", tmp_path / "m")
    assert "ay  mean 5, deviation 0; it never changed: any change will be abnormal" in out


def test_more_keys_than_a_manifest_holds_are_refused_before_anything_is_written() -> None:
    assert beyond_manifest(1 << 20, 5000) == ""
    assert beyond_manifest(2 << 20, 5000).startswith(
        "what is normal for 5000 keys takes 2048 KiB, and model.toml has room for 2500 (1024 KiB); learn without --by-key"
    )


def test_texts_are_not_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(PUMPS.replace('"rpm"', '{ name = "mode", dtype = "text" }'))
    assert main(["learn", "pumps", "-c", str(config), "-o", str(tmp_path / "m")]) != 0
    assert "source.pumps: mode is a string, and edged learn takes numbers" in capsys.readouterr().err
