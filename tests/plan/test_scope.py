from __future__ import annotations

from edged.errors import Problem
from edged.plan.scope import Scope


def test_says_problems_below_its_path() -> None:
    problems: list[Problem] = []
    at = Scope("pipeline.motor", problems)
    at.wrong("", "whole")
    at.wrong("model", "one", "key")
    at.below("window").wrong("size", "two")
    at.below("window").warn("gap", "three")
    assert problems == [
        Problem("pipeline.motor", "whole"),
        Problem("pipeline.motor.model", "one", "key"),
        Problem("pipeline.motor.window.size", "two"),
        Problem("pipeline.motor.window.gap", "three", is_warning=True),
    ]
