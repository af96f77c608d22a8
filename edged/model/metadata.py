"""What exporters write beside the graph: class names, the task, the size of pictures.

Ultralytics' `task`, `imgsz`, `stride` and `names`; `labels`, `classes`, `class_names` and `id2label` of others; the characters of
PaddleOCR's and RapidOCR's recognisers.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

LABEL_KEYS = ("labels", "names", "classes", "class_names", "id2label")
TASKS = {"detect": "detect", "segment": "detect", "pose": "detect", "obb": "detect", "classify": "classify"}
"""Ultralytics' tasks, and what is made of them."""
MAX_SIDE = 16384

Metadata = Mapping[str, str]


def metadata_labels(metadata: Metadata) -> tuple[str, ...]:
    """Class names; raises `ValueError` (or what Python's own parsers raise) if they are there and cannot be read."""
    key = label_key(metadata)
    return () if key is None else _names(metadata[key].strip(), is_python=key == "names")


def label_key(metadata: Metadata) -> str | None:
    return next((key for key in LABEL_KEYS if metadata.get(key, "").strip()), None)


def is_ultralytics(metadata: Metadata) -> bool:
    return metadata.get("author") == "Ultralytics" or {"task", "stride", "names", "imgsz"} <= metadata.keys()


def output_type(metadata: Metadata) -> str | None:
    """The type of output that the model's task asks for."""
    return TASKS.get(metadata.get("task", "")) if is_ultralytics(metadata) else None


def task(metadata: Metadata) -> str:
    return metadata.get("task", "") if is_ultralytics(metadata) else ""


def decoder(metadata: Metadata) -> str:
    """How RT-DETR's decoder says its boxes, which look like those of other models: "queries" where a class is chosen for each,
    "scores" where there are those of all classes; else empty."""
    if metadata.get("head") == "RTDETRDecoder":
        return "queries"
    said = metadata.get("description", "").lower().replace("-", "")
    return "scores" if is_ultralytics(metadata) and "rtdetr" in said else ""


def keypoints(metadata: Metadata) -> tuple[int, int] | None:
    """How many key points each thing has, and of how many numbers each is."""
    try:
        value = ast.literal_eval(metadata.get("kpt_shape", ""))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(n, int) and 0 < n <= 1024 for n in value):
        return None
    return value[0], value[1]


def picture_size(metadata: Metadata) -> tuple[int, int] | None:
    """Width and height that the model was made for."""
    try:
        value = ast.literal_eval(metadata.get("imgsz", ""))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    sides = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(sides) == 1:
        sides *= 2
    if len(sides) != 2 or not all(isinstance(n, int) and 0 < n <= MAX_SIDE for n in sides):
        return None
    return sides[1], sides[0]


def stride(metadata: Metadata) -> int:
    """What both sides of a picture must be multiples of."""
    text = metadata.get("stride", "")
    return int(text) if text.isdecimal() and 0 < int(text[:6]) <= MAX_SIDE else 1


def characters(metadata: Metadata) -> tuple[str, ...]:
    """What a recogniser of text can write, one a line, without the blank that comes first."""
    text = metadata.get("character", "")
    return tuple(text.splitlines()) if text else ()


def _names(text: str, is_python: bool) -> tuple[str, ...]:
    if not is_python and not text.startswith(("[", "{", "(")):
        parts = text.splitlines() if "\n" in text else text.split(",")
        return tuple(part.strip() for part in parts if part.strip())
    try:
        return _by_index(json.loads(text))
    except json.JSONDecodeError:
        return _by_index(ast.literal_eval(text))


def _by_index(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        by_index = {int(k): v for k, v in value.items()}
        if sorted(by_index) != list(range(len(by_index))):
            raise ValueError("indices are not 0 to n-1")
        value = [by_index[i] for i in range(len(by_index))]
    if not isinstance(value, list | tuple) or not all(isinstance(v, str | int | float) for v in value):
        raise ValueError("no list of names")
    return tuple(str(v) for v in value)
