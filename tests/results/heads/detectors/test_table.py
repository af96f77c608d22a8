"""Which detector the outputs of real exports are of, by their names, shapes and metadata."""

from __future__ import annotations

from typing import Any

import pytest

from edged.results.heads.detectors.reading import Members, Seen
from edged.results.heads.detectors.table import DETECTORS, readings

MASKS, PERSON = Members(masks="output1"), Members(keypoints=(17, 3))


@pytest.mark.parametrize(
    ("shapes", "more", "head", "tensors", "members"),
    [
        (
            {"output0": (116, 8400), "output1": (32, 160, 160)},
            {"classes": 80},
            "yolov8",
            ("output0", "output1"),
            MASKS,
        ),
        (
            {"output0": (116, 8400), "output1": (32, 160, 160)},
            {"task": "segment"},
            "yolov8",
            ("output0", "output1"),
            MASKS,
        ),
        ({"output0": (56, 8400)}, {"task": "pose", "keypoints": (17, 3)}, "yolov8", ("output0",), PERSON),
        ({"output0": (56, 8400)}, {"classes": 1}, "yolov8", ("output0",), PERSON),
        ({"output0": (20, 8400)}, {"task": "obb", "classes": 15}, "yolov8", ("output0",), Members(is_rotated=True)),
        ({"output0": (300, 6)}, {"classes": 80, "task": "detect"}, "end-to-end", ("output0",), Members()),
        (
            {"output0": (300, 57)},
            {"classes": 1, "task": "pose", "keypoints": (17, 3)},
            "end-to-end",
            ("output0",),
            PERSON,
        ),
        ({"output0": (300, 7)}, {"task": "obb"}, "end-to-end", ("output0",), Members(is_rotated=True)),
        (
            {"output0": (300, 38), "output1": (32, 160, 160)},
            {"task": "segment", "classes": 80},
            "end-to-end",
            ("output0", "output1"),
            MASKS,
        ),
        ({"output": (8400, 85)}, {}, "yolox", ("output",), Members()),
        ({"output": (8400, 6)}, {"classes": 1}, "yolox", ("output",), Members()),
        ({"logits": (300, 80), "pred_boxes": (300, 4)}, {"classes": 80}, "detr", ("logits", "pred_boxes"), Members()),
        ({"logits": (100, 92), "pred_boxes": (100, 4)}, {}, "detr", ("logits", "pred_boxes"), Members()),
        ({"output0": (300, 84)}, {"classes": 80, "task": "detect"}, "detr", ("output0",), Members()),
        (
            {"labels": (300,), "boxes": (300, 4), "scores": (300,)},
            {"whole": frozenset({"labels"})},
            "ssd",
            ("boxes", "scores", "labels"),
            Members(),
        ),
        ({"boxes": (4,), "labels": (), "scores": ()}, {}, "ssd", ("boxes", "scores", "labels"), Members()),
        (
            {"num_dets": (1,), "det_boxes": (100, 4), "det_scores": (100,), "det_classes": (100,)},
            {},
            "ssd",
            ("det_boxes", "det_scores", "det_classes", "num_dets"),
            Members(),
        ),
        ({"boxes": (4420, 4), "scores": (4420, 2)}, {}, "ssd", ("boxes", "scores"), Members()),
        ({"a": (8400, 4), "b": (8400, 80)}, {}, "yolo-nas", ("a", "b"), Members()),
    ],
)
def test_one_and_no_other(shapes: Any, more: dict[str, Any], head: str, tensors: tuple[str, ...], members: Members) -> None:
    seen = Seen(shapes, more.pop("classes", None), (640, 640), **more)
    found = readings(seen)
    assert [(r.name, r.tensors, r.members) for r in found] == [(head, tensors, members)]
    assert readings(seen, head) == found


def test_every_file_is_in_the_table() -> None:
    assert list(DETECTORS) == ["yolov5", "yolov8", "yolox", "end-to-end", "detr", "ssd", "yolo-nas"]
