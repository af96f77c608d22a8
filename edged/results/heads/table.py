"""The table of output types: one row each, and all that is asked of the table as a whole.

A new kind is one file beside this one, with its plan and its head, and a row here. What it may have of settings that no other has
are keys of `output` in the schema.
"""

from __future__ import annotations

from edged.late import Late
from edged.results.heads.head import Check, Kind

HEADS: dict[str, Kind] = {
    "raw": Kind("`outputs.TENSOR`", Late("edged.results.heads.raw:plan_raw"), takes_several=True, needs_model=False),
    "classify": Kind(
        "`label`, `score`, `scores.LABEL`",
        Late("edged.results.heads.classify:plan_classify"),
        ("softmax", "top", "smooth"),
        shows_labels=True,
    ),
    "regress": Kind("`values.NAME`", Late("edged.results.heads.regress:plan_regress"), ("fields", "smooth")),
    "anomaly": Kind(
        "`score`, `anomaly`",
        Late("edged.results.heads.anomaly:plan_anomaly"),
        ("error", "above", "below", "release", "latch", "smooth"),
        (Check(("above", "below", "release"), Late("edged.results.heads.anomaly:thresholds")),),
    ),
    "detect": Kind(
        "`detections` (each `label`, `score`, `box`: left, top, right, bottom in pixels of the picture that was sent; where the "
        "model has them `keypoints`: x, y, score; `corners` and `angle`; `mask`), `count`, `score` (the best)",
        Late("edged.results.heads.detect:plan_detect"),
        ("above", "iou", "max", "label", "head", "masks"),
        (Check(("above", "label"), Late("edged.results.heads.detect:detections")),),
        takes_several=True,
        shows_labels=True,
    ),
    "text": Kind(
        "`text`, of a CTC head `score`: the mean of its characters'",
        Late("edged.results.heads.text:plan_text"),
        ("charset", "blank"),
    ),
}
"""In the order of the reference page."""


def with_key(key: str) -> tuple[str, ...]:
    """The types for which a key of `output` has an effect."""
    return tuple(name for name, kind in HEADS.items() if key in kind.keys)


def with_labels() -> tuple[str, ...]:
    """The types whose results show the labels of the model."""
    return tuple(name for name, kind in HEADS.items() if kind.shows_labels)
