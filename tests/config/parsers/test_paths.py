from __future__ import annotations

from pathlib import Path
from typing import Any

from edged.config.parsers.paths import step
from edged.notation.values import Function
from tests.config.parsers.refusal import AROUND, refusal


def test_functions_and_steps() -> None:
    assert step("steps.py:scale", AROUND) == Function(Path("/etc/edged/steps.py"), "scale")
    assert step("detrend", AROUND) == "detrend"
    raw: Any
    for raw in ("steps.py", "steps:scale", "steps.py:a.b", 5, "scale"):
        refusal(step, raw)
