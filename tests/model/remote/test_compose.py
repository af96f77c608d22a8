from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edged.model.remote.compose import Composer, shown
from edged.model.remote.records import FIELDS, PICTURE, PREFIX, AskPlan
from edged.records import Result


def test_a_prompt_has_captures_fields_and_what_others_said() -> None:
    names = ("pump", "temp", "look.count")
    text = 'Pump {pump} at {temp}: {look.count} seen. {"not": "{a name}"} {other}'
    plan = AskPlan("m", (), (("temp", 0, 1, ()),), text, names, ("look",))
    composer = Composer(plan, ("pump",), lambda key: (f"p{key}",), None)
    rows = {PREFIX + FIELDS: np.array([71.25])}
    assert composer.prompt(rows, 7, {}) == 'Pump p7 at 71.25: unknown seen. {"not": "{a name}"} {other}'
    composer.tell("look", True, Result({"count": 3}, 7, 1, 0, 0), 0)
    assert composer.prompt(rows, 7, {}).startswith("Pump p7 at 71.25: 3 seen.")
    assert composer.prompt(rows, 8, {}).startswith("Pump p8 at 71.25: unknown seen.")
    composer.forget(7)
    assert "unknown" in composer.prompt(rows, 7, {})
    assert composer.wanted(rows, "", {}).inputs["temp"].tolist() == 71.25


def test_what_a_question_has_beside_numbers_goes_into_the_prompt_and_the_body() -> None:
    fields = (("label", 0, 1, ()), ("score", 1, 2, ()), ("photo", 2, 3, ()))
    plan = AskPlan("m", (), fields, "{label} ({score}), seen {label}", ("label", "score"), free=("label", "score"), photo="photo")
    composer = Composer(plan, (), None, None)
    rows = {PREFIX + FIELDS: np.array([np.nan, np.nan, np.nan])}
    given = {"label": "a {score} bearing", "score": 0.93, "photo": b"\xff\xd8jpeg"}
    prompt = composer.prompt(rows, 0, given)
    assert prompt == "a {score} bearing (0.93), seen a {score} bearing"
    wanted = composer.wanted(rows, prompt, given)
    assert (wanted.inputs["label"].tolist(), wanted.inputs["score"].tolist()) == ("a {score} bearing", 0.93)
    assert wanted.picture == b"\xff\xd8jpeg"
    long = {"label": "x" * 5000, "score": [1, 2]}
    assert composer.prompt(rows, 0, long) == f"{'x' * 5000} ([1, 2]), seen {'x' * 5000}"


def test_a_picture_goes_out_in_its_own_colours() -> None:
    seen = []
    plan = AskPlan("m", (), colours=((255.0, 255.0, 255.0), (0.0, 0.0, 0.0)))

    def to_jpeg(pixels: NDArray[Any]) -> bytes:
        seen.append(pixels)
        return b"jpeg"

    scaled = np.full((2, 2, 3), 128 / 255, np.float32)
    wanted = Composer(plan, (), None, to_jpeg).wanted({PREFIX + PICTURE: scaled}, "?", {})
    assert (wanted.picture, wanted.inputs) == (b"jpeg", {})
    assert seen[0].dtype == np.uint8
    assert seen[0].tolist() == np.full((2, 2, 3), 128).tolist()


@pytest.mark.parametrize(
    ("value", "text"), [(0.1 + 0.2, "0.3"), (np.float64(2), "2"), (True, "true"), ("x", "x"), (None, "unknown")]
)
def test_values_are_short(value: object, text: str) -> None:
    assert shown(value) == text
