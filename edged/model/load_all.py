"""Loads the models of a plan, one after the other, and says of all of them what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

from edged.errors import Problem
from edged.model.gpu.ladder import Picked
from edged.model.load import load_session
from edged.model.records import ModelPlan, ModelRefused
from edged.model.runner import Loaded


def load_models(
    plans: Mapping[str, ModelPlan], picked: Mapping[str, Picked] | None = None, all_golden: bool = False
) -> dict[str, Loaded]:
    """Loads and tries every model; takes as long as they take, so not on the loop. `picked`: who is to run them, where that was
    tried elsewhere. `all_golden`: no trial has read the golden samples.

    Raises `ModelRefused` with the problems of all models that do not load as planned.
    """
    loaded: dict[str, Loaded] = {}
    problems: list[Problem] = []
    for name, plan in plans.items():
        try:
            one = picked[name] if picked is not None else None
            if one is None:
                loaded[name] = Loaded(*load_session(plan, all_golden=all_golden))
            else:
                loaded[name] = _load_doubted(plan, one, all_golden)
        except ModelRefused as error:
            problems += error.problems
    if problems:
        raise ModelRefused(problems)
    return loaded


def _load_doubted(plan: ModelPlan, one: Picked, all_golden: bool) -> Loaded:
    """What is noted of a GPU is in doubt until it has run here: a library may end the process, too."""
    if one.note is not None:
        one.note.doubt()
    loaded = Loaded(*load_session(plan, choice=one.choice, engine=one.engine, all_golden=all_golden))
    if one.note is not None and loaded.report.provider == one.choice.rungs[0]:
        one.note.trust()
    return loaded
