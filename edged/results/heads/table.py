"""The table of output types: one row each, and all that is asked of the table as a whole.

A new kind is one file beside this one, with its plan, its head and its row, and a line here. What it may have of settings that
no other has are keys of `output` in the schema.
"""

from __future__ import annotations

from edged.results.heads import anomaly, classify, detect, raw, regress, text
from edged.results.heads.head import Kind

HEADS: dict[str, Kind] = {
    "raw": raw.KIND,
    "classify": classify.KIND,
    "regress": regress.KIND,
    "anomaly": anomaly.KIND,
    "detect": detect.KIND,
    "text": text.KIND,
}
"""In the order of the reference page."""


def with_key(key: str) -> tuple[str, ...]:
    """The types for which a key of `output` has an effect."""
    return tuple(name for name, kind in HEADS.items() if key in kind.keys)


def with_labels() -> tuple[str, ...]:
    """The types whose results show the labels of the model."""
    return tuple(name for name, kind in HEADS.items() if kind.shows_labels)
