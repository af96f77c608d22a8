"""From an answer to the outputs that results are made of."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from edged.model.remote.answers import decoded, fitted, outputs_of
from edged.model.remote.records import Answer, NoAnswer
from edged.results.heads.by import BODIES, BY


def answer(**outputs: Any) -> Answer:
    return Answer({name: np.asarray(x) for name, x in outputs.items()})


def test_outputs_are_taken_by_name_else_in_their_order_and_in_the_shape_that_is_known() -> None:
    given = answer(a=[1, 2, 3, 4], b=[5])
    assert fitted(given, [("b", None)]).outputs["b"].tolist() == [5]
    assert fitted(given, [("a", (2, 2))]).outputs["a"].tolist() == [[1, 2], [3, 4]]
    other = fitted(answer(score=[7.5]), [("output", (1,))])
    assert other.outputs["output"].tolist() == [7.5]


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        (answer(a=[1, 2]), [("a", (3,))], "expected [3] at a, found [2]"),
        (answer(a=[1], b=[2]), [("c", None)], "expected the outputs c, found a, b"),
        (answer(), [("c", None)], "expected the outputs c, found none"),
    ],
)
def test_what_does_not_fit_is_no_answer(given: Answer, wanted: list[Any], said: str) -> None:
    with pytest.raises(NoAnswer, match=re.escape(said)) as caught:
        fitted(given, wanted)
    assert (caught.value.reason, caught.value.is_final) == ("misfit", True)


def test_a_text_is_a_body_and_who_answered_stands_beside_it() -> None:
    made = outputs_of(Answer(text="worn", answer={"worn": True}), "large")
    assert (made[BODIES].tolist(), made[BY].tolist()) == ([{"text": "worn", "answer": {"worn": True}}], ["large"])
    made = outputs_of(answer(y=[1.0, 2.0]), "far")
    assert (made["y"].tolist(), made[BY].tolist()) == ([[1.0, 2.0]], ["far"])


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b'{"a":\xff}', b"NaN", b"[1e400]", b"1 2"])
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(NoAnswer, match="that is no JSON: "):
        decoded(body, object, "that is no JSON")


def test_some_write_a_mark_before_it() -> None:
    assert decoded(b'\xef\xbb\xbf{"a":1}', dict, "no") == {"a": 1}
