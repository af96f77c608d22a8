from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edged.errors import Problem
from edged.model.load import load_session
from edged.model.manifest import read_manifest
from edged.model.records import ModelPlan, ModelRefused
from edged.model.trial import notes
from edged.model.trial.attempt import Limits, Trial, limits
from edged.model.trial.notes import MAX_NOTES, Trials, trial_id, trials_here
from tests.support import models


def plan_for(path: Path, **settings: Any) -> ModelPlan:
    manifest, problems = read_manifest("m", path)
    assert manifest is not None, problems
    return ModelPlan(manifest, **({"rows": {"x": (3,)}, "providers": ("cpu",)} | settings))


class Bench:
    """Tries models here, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, plan: ModelPlan, allowed: Limits) -> Trial:
        self.count += 1
        return Trial(load_session(plan)[1], 5)


def test_a_model_is_tried_once(tmp_path: Path) -> None:
    plan, trials, bench = plan_for(models.linear(tmp_path / "m.onnx")), Trials((tmp_path / "state" / "trials",)), Bench()
    first = trials.once(plan, limits(plan), bench)
    again = trials.once(plan_for(tmp_path / "m.onnx"), limits(plan), bench)
    assert again == first
    assert again.report.batch_max == 16
    assert again.peak_bytes == 5
    assert bench.count == 1


def test_what_is_run_otherwise_is_tried_again(tmp_path: Path) -> None:
    plan = plan_for(models.linear(tmp_path / "m.onnx"))
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / "m.onnx").write_bytes((tmp_path / "m.onnx").read_bytes())
    assert trial_id(plan_for(copy / "m.onnx")) == trial_id(plan)  # wherever it lies
    others = [replace(plan, threads=2), replace(plan, batch_max=2), replace(plan, run="inline"), replace(plan, rows={"x": (4,)})]
    others.append(plan_for(models.linear(tmp_path / "other.onnx", out=1)))
    assert len({trial_id(one) for one in (plan, *others)}) == 6


def test_golden_samples_are_a_part_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    models.linear(folder / "model.onnx")
    (folder / "model.toml").write_text('golden = "golden.npz"\n')
    seen = set()
    for number in (1.0, 2.0):
        np.savez(folder / "golden.npz", x=np.full((1, 3), number, np.float32), y=np.zeros((1, 2), np.float32))
        seen.add(trial_id(plan_for(folder)))
    assert len(seen) == 2


def test_one_that_took_more_than_is_left_is_tried_again(tmp_path: Path) -> None:
    plan, trials, bench = plan_for(models.linear(tmp_path / "m.onnx")), Trials((tmp_path / "state" / "trials",)), Bench()
    taken = trials.once(plan, limits(plan), bench)
    trials.keep(plan, replace(taken, report=replace(taken.report, resident_bytes=9000)))
    assert trials.find(plan, 9000) is not None
    assert trials.find(plan, 8999) is None


def test_a_refusal_is_not_noted(tmp_path: Path) -> None:
    plan, trials = plan_for(models.linear(tmp_path / "m.onnx")), Trials((tmp_path / "state" / "trials",))

    def refuse(plan: ModelPlan, allowed: Limits) -> Trial:
        raise ModelRefused([Problem("model.m.path", "no memory")])

    with pytest.raises(ModelRefused):
        trials.once(plan, limits(plan), refuse)
    assert trials.find(plan) is None


def test_the_state_directory_if_there_is_one_else_the_cache(tmp_path: Path) -> None:
    plan, bench = plan_for(models.linear(tmp_path / "m.onnx")), Bench()
    trials = trials_here(tmp_path / "state", {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    trials.once(plan, limits(plan), bench)
    assert not (tmp_path / "state").exists()  # a look makes no state directory
    assert len(list((tmp_path / "cache" / "edged" / "trials").iterdir())) == 1
    (tmp_path / "state").mkdir()
    other = replace(plan, threads=2)
    trials.once(other, limits(other), bench)
    assert len(list((tmp_path / "state" / "trials").iterdir())) == 1
    assert trials.find(plan) is not None
    assert bench.count == 2


def test_a_folder_that_cannot_be_written_costs_a_trial_each(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "trials").write_text("a file")
    plan, trials, bench = plan_for(models.linear(tmp_path / "m.onnx")), Trials((tmp_path / "state" / "trials",)), Bench()
    for _ in range(2):
        assert trials.once(plan, limits(plan), bench).report.batch_max == 16
    assert bench.count == 2


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    plan, trials, bench = plan_for(models.linear(tmp_path / "m.onnx")), Trials((tmp_path / "state" / "trials",)), Bench()
    trials.once(plan, limits(plan), bench)
    trials.notes(plan)[0].path.write_bytes(b'{"report": {}')
    trials.once(plan, limits(plan), bench)
    assert bench.count == 2
    assert trials.find(plan) is not None


def test_what_a_gpu_may_run_has_notes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "available", lambda: ["cuda", "cpu"])
    plan, trials = plan_for(models.linear(tmp_path / "m.onnx")), Trials((tmp_path / "trials",))
    assert len(trials.notes(plan)) == 1
    assert trials.notes(replace(plan, providers="auto")) == []


def test_only_the_newest_stay(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "trials"
    folder.mkdir(parents=True)
    for i in range(MAX_NOTES + 5):
        (folder / f"{i}.json").write_text("{}")
    plan, trials = plan_for(models.linear(tmp_path / "m.onnx")), Trials((folder,))
    trials.once(plan, limits(plan), Bench())
    assert len(list(folder.iterdir())) == MAX_NOTES
    assert trials.find(plan) is not None
