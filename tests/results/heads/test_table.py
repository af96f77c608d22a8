from __future__ import annotations

import pytest

from edged.results.heads.head import OutputPlan
from edged.results.heads.table import HEADS, with_key, with_labels


def test_every_type_has_a_plan_that_bears_its_name() -> None:
    named = {plan.type for plan in OutputPlan.__subclasses__()}
    assert named >= set(HEADS)


@pytest.mark.parametrize(("key", "types"), [("above", ("anomaly", "detect")), ("top", ("classify",)), ("no_key", ())])
def test_the_types_for_which_a_key_has_an_effect(key: str, types: tuple[str, ...]) -> None:
    assert with_key(key) == types


def test_the_types_that_show_labels() -> None:
    assert with_labels() == ("classify", "detect")
