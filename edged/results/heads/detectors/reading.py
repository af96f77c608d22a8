"""How the outputs of a detector are read: what a kind is asked for, and what it answers.

A kind is one file beside this one, with a function that looks at the outputs and gives its `Reading`, or None where they are not
its own. Boxes leave a reading in pixels of what the model saw: left, top, right, bottom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.decode.resize import Size

Array = NDArray[Any]
Shape = tuple["int | None", ...]
STRIDES = (8, 16, 32, 64)
NORMALISED = 1.5
"""No box is so small, in pixels, that all of its edges lie below."""


class Found(NamedTuple):
    """k boxes `[k, 4]` (left, top, right, bottom), the score `[k]` and class `[k]` of each, and further numbers `[k, n]`."""

    boxes: Array
    scores: Array
    classes: Array
    more: Array | None = None

    def only(self, rows: Array) -> Found:
        more = None if self.more is None else self.more[rows]
        return Found(self.boxes[rows], self.scores[rows], self.classes[rows], more)


class Seen(msgspec.Struct, frozen=True):
    """The outputs of a model: by name the shape of a row of each (None: open), those of numbers only.

    `classes`: how many labels there are, if that is known. `picture`: the size of what the model sees. `task` and `keypoints`
    (how many, of how many numbers) are Ultralytics' words for what it finds beside boxes.
    """

    shapes: Mapping[str, Shape]
    classes: int | None
    picture: Size
    task: str = ""
    keypoints: tuple[int, int] | None = None
    decoder: str = ""
    """How RT-DETR's decoder says it: "queries" or "scores"."""
    whole: frozenset[str] = msgspec.field(default_factory=frozenset)
    """Outputs of whole numbers."""
    is_told: bool = False
    """Whether somebody said which kind it is: then shapes need not tell."""

    def cells(self, strides: Sequence[int] = STRIDES[:3]) -> int:
        """Cells of the grids that lie over the picture."""
        return sum((self.picture[0] // s) * (self.picture[1] // s) for s in strides)

    def of_rank(self, rank: int) -> dict[str, Shape]:
        return {name: shape for name, shape in self.shapes.items() if len(shape) == rank}

    @property
    def single(self) -> tuple[str, Shape] | None:
        """The one output that may hold boxes and scores: `[a, b]`."""
        found = self.of_rank(2)
        return next(iter(found.items())) if len(found) == 1 else None


class Members(NamedTuple):
    """What a detection has beside its box. `keypoints`: how many, of how many numbers; `masks`: the output with prototypes."""

    keypoints: tuple[int, int] | None = None
    is_rotated: bool = False
    masks: str | None = None


PLAIN = Members()


class Reading(msgspec.Struct, frozen=True):
    """`tensors` are the outputs that it reads, `classes` how many it tells apart (None: it does not say)."""

    name: ClassVar[str]
    is_final: ClassVar[bool] = False
    """Whether of overlapping boxes only the best are there already."""
    tensors: tuple[str, ...]
    classes: int | None = None
    members: Members = PLAIN

    def candidates(self, row: Mapping[str, Array], above: float) -> Found:
        """The boxes of one row whose best class scores more than `above`."""
        raise NotImplementedError


def edges(centred: Array) -> Array:
    """Left, top, right, bottom of centre, width and height."""
    centre, half = centred[:, :2], centred[:, 2:4] / 2
    return np.concatenate((centre - half, centre + half), axis=1)


def enclosing(rotated: Array) -> Array:
    """Left, top, right, bottom around centre, width, height and angle."""
    x, y, w, h, angle = rotated.T
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    half_w, half_h = (w * cos + h * sin) / 2, (w * sin + h * cos) / 2
    return np.stack((x - half_w, y - half_h, x + half_w, y + half_h), axis=1)


def best_class(scores: Array) -> tuple[Array, Array]:
    """Of `[k, classes]` the best score and its class."""
    if not len(scores):
        return np.empty(0, scores.dtype), np.empty(0, np.intp)
    classes = scores.argmax(axis=1)
    return scores[np.arange(len(scores)), classes], classes


def in_pixels(boxes: Array, picture: Size) -> Array:
    """Boxes that are shares of the picture, as pixels; others as they are."""
    if boxes.size and float(np.abs(boxes).max()) > NORMALISED:
        return boxes
    scaled: Array = boxes * np.array([*picture, *picture], boxes.dtype)
    return scaled
