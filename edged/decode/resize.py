"""A picture as one model sees it: brought to one size, and back from there to the picture that was sent.

Pure arithmetic: who has pixels asks here where they go. Numbers are `(width, height)` and `(left, top, ...)`, arrays are
`[height, width, channels]`.
"""

from __future__ import annotations

import json

import msgspec

PADDING = 114
"""The grey around a letterboxed picture: what YOLO-like models were trained with."""

Size = tuple[int, int]


class View(msgspec.Struct, frozen=True):
    """`size` is what a picture is brought to. `fit`: "letterbox" keeps its proportions and pads, "crop" keeps them and cuts
    off what is too much, equally on both sides, "stretch" does not keep them. `color`: "rgb", "bgr" or "gray"."""

    size: Size
    fit: str
    color: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.size[1], self.size[0], 1 if self.color == "gray" else 3)

    @property
    def nbytes(self) -> int:
        height, width, channels = self.shape
        return height * width * channels


class Placed(msgspec.Struct, frozen=True):
    """Where the whole of a picture lies in a view, in the view's pixels; of a crop it reaches beyond the view."""

    left: float
    top: float
    width: float
    height: float


def place(view: View, picture: Size) -> Placed:
    """Where a picture of this size goes."""
    (width, height), (w, h) = view.size, picture
    if view.fit == "stretch":
        return Placed(0, 0, width, height)
    if view.fit == "crop":
        scale = max(width / w, height / h)
        return Placed((width - w * scale) / 2, (height - h * scale) / 2, w * scale, h * scale)
    scale = min(width / w, height / h)
    inner = max(1, round(w * scale)), max(1, round(h * scale))  # whole pixels, as it is pasted into the padding
    return Placed((width - inner[0]) // 2, (height - inner[1]) // 2, *inner)


def sent(picture: Size) -> bytes:
    """The size of a picture as its results carry it."""
    return b'{"width":%d,"height":%d}' % picture


def size_sent(carried: bytes) -> Size:
    """The size that `sent` wrote."""
    found = json.loads(carried)
    return found["width"], found["height"]
