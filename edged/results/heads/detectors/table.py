"""The table of detectors: one file each beside this one, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from edged.results.heads.detectors import detr, end_to_end, ssd, yolo_nas, yolov5, yolov8, yolox
from edged.results.heads.detectors.reading import Reading, Seen

DETECTORS: dict[str, Callable[[Seen], Reading | None]] = {
    "yolov5": yolov5.read,
    "yolov8": yolov8.read,
    "yolox": yolox.read,
    "end-to-end": end_to_end.read,
    "detr": detr.read,
    "ssd": ssd.read,
    "yolo-nas": yolo_nas.read,
}
AUTO = "auto"
HEADS = (AUTO, *DETECTORS)
ALIASES = {"nms": "end-to-end"}
"""Words of older manifests."""


def readings(seen: Seen, head: str = AUTO) -> list[Reading]:
    """What the outputs may be: one of the table, if they tell."""
    asked = DETECTORS.values() if head == AUTO else [DETECTORS[ALIASES.get(head, head)]]
    return [found for read in asked if (found := read(seen)) is not None]
