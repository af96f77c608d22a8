from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T

from edged.plan.steps import make_postprocess
from edged.results.heads.text import MAX_CHARACTERS, TextPlan
from tests.support.deployments import net
from tests.support.heads import results
from tests.support.models import named
from tests.support.planning import ACCEL, MAIN, Planned, planned


def plan(folder: Path, output: str, *, more: str = "", metadata: dict[str, str] | None = None) -> Planned:
    net(folder / "m.onnx", {"x": (T.FLOAT, ["N", 3])}, {"y": ["N", "steps", 4]}, metadata)
    text = f'[model.m]\npath = "m.onnx"\n[pipeline.p]\nsource = "accel"\nmodel = "m"\noutput = {output}\n{more}'
    return planned(folder, MAIN + ACCEL + text)


def steps(*best: int, high: float = 0.7) -> Any:
    """A row of a CTC head whose best classes are these."""
    row = np.full((len(best), 4), (1 - high) / 3)
    row[np.arange(len(best)), best] = high
    return row


class TestCtc:
    PLAN = TextPlan(("y",), characters=("", "a", "b", "c"))

    def test_repeats_are_one_and_blanks_none(self) -> None:
        [body] = results(self.PLAN, [steps(1, 1, 0, 1, 2, 2, 3, 0)])
        assert body == {"text": "aabc", "score": 0.7}
        assert results(self.PLAN, [steps(0, 0)]) == [{"text": "", "score": 0.0}]

    def test_logits_have_the_same_score(self) -> None:
        assert results(self.PLAN, [np.log(steps(1, 0, 2)) + 3])[0] == {"text": "ab", "score": pytest.approx(0.7)}

    def test_a_blank_at_the_end(self) -> None:
        assert results(TextPlan(("y",), characters=("a", "b", "c", ""), blank=3), [steps(0, 3, 0, 1)])[0]["text"] == "aab"

    def test_what_is_not_finite_is_no_result(self) -> None:
        assert results(self.PLAN, [np.full((2, 4), np.nan)]) == [None]

    def test_a_result_is_bounded(self) -> None:
        assert len(results(self.PLAN, [steps(*([1, 2] * 5000))])[0]["text"]) == MAX_CHARACTERS


def test_strings() -> None:
    head = TextPlan(("y",)).make_head()
    rows = np.array([["one", "two"], ["three", ""]], object)
    assert head.results({"y": rows}, {}, [0, 0]) == [{"text": "one\ntwo"}, {"text": "three\n"}]


@pytest.mark.parametrize(
    ("charset", "blank", "characters"),
    [
        (["a", "b", "c"], 0, ("", "a", "b", "c")),
        (["a", "b", "c"], 3, ("a", "b", "c", "")),
        (["-", "a", "b", "c"], 0, ("-", "a", "b", "c")),
        (["a", "b"], 0, ("", "a", "b", " ")),
    ],
)
def test_what_each_class_writes(tmp_path: Path, charset: list[str], blank: int, characters: tuple[str, ...]) -> None:
    found: Any = plan(tmp_path, f'{{ type = "text", charset = {charset}, blank = {blank} }}').whole.pipelines["p"].output
    assert found.characters == characters


def test_the_characters_come_from_a_file_or_from_the_model(tmp_path: Path) -> None:
    (tmp_path / "chars.txt").write_text("a\nb\n \n", "utf-8")
    found: Any = plan(tmp_path, '{ type = "text", charset = "chars.txt" }').whole.pipelines["p"].output
    assert found.characters == ("", "a", "b", " ")
    found = plan(tmp_path, '"text"', metadata={"character": "x\ny\nz"}).whole.pipelines["p"].output
    assert found.characters == ("", "x", "y", "z")


def test_what_is_wrong(tmp_path: Path) -> None:
    assert "say what its classes write: charset = a list" in plan(tmp_path, '"text"').lines[0]
    assert "1 characters for 4 classes" in plan(tmp_path, '{ type = "text", charset = ["a"] }').lines[0]


def test_a_model_of_strings_and_a_step_that_gives_one(tmp_path: Path) -> None:
    named(tmp_path / "s.onnx")
    model = '[model.m]\npath = "s.onnx"\n[pipeline.p]\nsource = "accel"\nmodel = "m"\n'
    found: Any = planned(tmp_path, MAIN + ACCEL + model + 'output = { type = "text", tensor = "label" }\n')
    assert found.whole.pipelines["p"].output == TextPlan(("label",)), found.lines
    (tmp_path / "steps.py").write_text("def words(outputs):\n    return {'text': str(outputs['probabilities'].shape)}\n")
    found = planned(tmp_path, MAIN + ACCEL + model + 'output = "text"\npostprocess = ["steps.py:words"]\n')
    p = found.whole.pipelines["p"]
    assert p.output == TextPlan(("text",)), found.lines
    step = make_postprocess(p.postprocess, {"label": ((), "string"), "probabilities": ((2,), "float32")})
    assert step is not None
    made = step({"label": np.array(["worn"], object), "probabilities": np.array([[0.1, 0.9]], np.float32)}, 1)
    assert p.output.make_head().results(made, {}, [0]) == [{"text": "(2,)"}]
