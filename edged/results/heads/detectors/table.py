"""The table of detectors: one file each beside this one, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edged.late import Late

if TYPE_CHECKING:
    from edged.results.heads.detectors.reading import Reading, Seen

DETECTORS: dict[str, Late[Callable[[Seen], Reading | None]]] = {
    "yolov5": Late("edged.results.heads.detectors.yolov5:read"),
    "yolov8": Late("edged.results.heads.detectors.yolov8:read"),
    "yolox": Late("edged.results.heads.detectors.yolox:read"),
    "end-to-end": Late("edged.results.heads.detectors.end_to_end:read"),
    "detr": Late("edged.results.heads.detectors.detr:read"),
    "ssd": Late("edged.results.heads.detectors.ssd:read"),
    "yolo-nas": Late("edged.results.heads.detectors.yolo_nas:read"),
}
AUTO = "auto"
HEADS = (AUTO, *DETECTORS)
ALIASES = {"nms": "end-to-end"}
"""Words of older manifests."""


def readings(seen: Seen, head: str = AUTO) -> list[Reading]:
    """What the outputs may be: one of the table, if they tell."""
    asked = DETECTORS.values() if head == AUTO else [DETECTORS[ALIASES.get(head, head)]]
    return [found for read in asked if (found := read.get()(seen)) is not None]
