"""Whether a release does well, by what its daemon says of itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ENOUGH_RESULTS = 5
"""So many results must be due in the time that is watched for their absence to count against a release."""
BAD = ("failing", "stalled", "shedding")
"""States of a pipeline that are the release's or the model's own doing."""
MADE = ("published", "filtered", "gated")


def due(status: Mapping[str, Any], seconds: float) -> list[str]:
    """The pipelines of a running daemon of which results are to be expected within so many seconds."""
    return [name for name, p in status.get("pipelines", {}).items() if p.get("rate", 0) * seconds >= ENOUGH_RESULTS]


def judge(status: Mapping[str, Any], expected: Iterable[str], known: Iterable[str], is_late: bool) -> tuple[str, list[str]]:
    """Whether a release does well, by what its daemon says of itself: "wait", "well" or "ill", and a line for each pipeline.

    `known`: pipelines that ran before the switch, `expected`: those that gave results then. The others of `known` are not waited
    for. `is_late`: there is no more time; then a pipeline without results needs a reason that is not the release's own."""
    lines, words = [], set()
    for name, p in status["pipelines"].items():
        made = sum(p.get(key, 0) for key in MADE)
        reason = p["state"] + (f": {p['reason']}" if p.get("reason") else "")
        if p["state"] in BAD:
            words.add("ill" if is_late else "wait")
            lines.append(f"pipeline {name}: {reason}")
        elif made:
            lines.append(f"pipeline {name}: {made} results")
        elif not is_late and (name in expected or name not in known):
            words.add("wait")
            lines.append(f"pipeline {name}: {reason}")
        elif name in expected and p["state"] != "filling":
            words.add("ill")
            lines.append(f"pipeline {name} gave results before the switch, and now: {reason}")
        else:
            lines.append(f"pipeline {name}: none is due, {reason}")
    if status.get("config_last_good"):
        words.add("ill")
    lines += [f"the configuration was refused: {line}" for line in status.get("config_errors", ())]
    return ("ill" if "ill" in words else "wait" if "wait" in words else "well"), lines
