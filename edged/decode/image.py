"""Pictures (JPEG, PNG) to rows: each is brought to the sizes that models want, side by side in one row of bytes.

The one file that knows Pillow, which is an extra: it is imported with the first picture source, not before. A picture comes
from outside and may be made to hurt. So Pillow sees only what its pixels need (`picture_file`), of which the header is read
first: that costs nothing however large it claims to be, and what is too large, has several frames or is of another kind is
refused before a pixel is decoded. One picture is decoded at a time.

A large JPEG is decoded at a half, a quarter or an eighth of its size where every model wants it at least twice smaller than
that: the transform in the file gives that for less work.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.decode.picture_file import UPRIGHT, PictureFile, picture_file
from edged.decode.plan import DecodePlan
from edged.decode.resize import PADDING, Size, View, place, sent
from edged.decode.values import UNTOLD, Arrived, BadPayload, excerpts
from edged.records import Reject, Rows

ADDRESS = re.compile(r" <[^>]* at 0x[0-9a-f]+>")
FORMATS = ("JPEG", "PNG")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow's names of what has at most 8 bits a channel and is gray or RGB."""
PNG_DEPTH = 24
"""Where a PNG says how many bits a channel has."""
MAX_SIDE = 65_535
"""Pixels of the longer side, as in a JPEG: each row costs memory beside its pixels."""
ENOUGH = 2
"""A JPEG is decoded at no less than so many times the size that is wanted, so that nothing can be seen of it."""
WHOLE = 1.0
"""As Pillow's `reducing_gap`: of a picture that is to become smaller the means of whole pixels are taken first, and filtered
after that. Five times as fast as to filter them all, and off by one of 255 on average."""


class Pictures:
    """Payloads to Rows, one a picture. `values` holds the plan's views one after the other, as they lie in memory; `carried` the
    size of each picture as it was sent."""

    def __init__(self, plan: DecodePlan) -> None:
        self._plan = plan
        self._image = _pillow()

    def decode(
        self,
        payloads: Sequence[bytes],
        sensors: Sequence[Hashable] | None = None,
        arrived: Arrived = UNTOLD,
    ) -> Rows:
        values = np.empty((len(payloads), self._plan.width), np.uint8)
        rejects: list[Reject] = []
        good: list[int] = []
        carried: list[bytes | None] = [None] * len(payloads)
        for i, payload in enumerate(payloads):
            try:
                carried[i] = sent(self._decode(payload, values[len(good)]))
                good.append(i)
            except BadPayload as bad:
                rejects.append(bad.reject(i))
        origin = np.array(good, np.int32) if rejects else None
        return Rows(values[: len(good)], payload=origin, rejects=excerpts(rejects, payloads), carried=carried)

    def _decode(self, payload: bytes, row: NDArray[np.uint8]) -> Size:
        """Writes the views of one picture into `row`; returns the size that it was sent in."""
        if len(payload) > self._plan.max_bytes:
            raise BadPayload("too_large", f"{len(payload)} bytes, at most {self._plan.max_bytes} are taken (max_bytes)")
        file = picture_file(payload)
        try:
            picture = self._image.open(io.BytesIO(file.data), formats=FORMATS)  # reads the header only
        except Exception as error:  # whatever a library says of bytes that are no picture
            said = ADDRESS.sub("", str(error))  # of the object that we gave it, and that of a place in memory
            raise BadPayload("malformed", f"expected a whole JPEG or PNG, found only the begin of one: {said}") from error
        size: Size = picture.size
        self._check(picture, file)
        try:
            self._draft(picture, size)
            picture.load()
        except Exception as error:
            raise BadPayload("malformed", f"{_name(picture)} {_said(size)}: {error or type(error).__name__}") from error
        self._fill(picture, size, row)
        return size

    def _check(self, picture: Any, file: PictureFile) -> None:
        """Refuses by the header what must not, or cannot, be decoded."""
        width, height = picture.size
        if not width * height:
            raise BadPayload("malformed", f"{_name(picture)} {_said(picture.size)}")
        limit, name = self._plan.max_pixels, f"{_name(picture)} {_said(picture.size)}"
        if width * height > limit:
            raise BadPayload("too_large", f"{name}: {width * height} pixels, at most {limit} are taken (max_pixels)")
        if max(width, height) > MAX_SIDE:
            raise BadPayload("too_large", f"{name}: at most {MAX_SIDE} pixels a side are taken")
        if file.frames > 1:
            raise BadPayload("unsupported", f"{name}: it has {file.frames} frames, one is taken")
        is_deep = picture.format == "PNG" and file.data[PNG_DEPTH] > 8
        if picture.mode not in MODES or is_deep:
            found = "16 bits a channel" if is_deep else picture.mode
            raise BadPayload("unsupported", f"{name}: expected gray or RGB with 8 bits a channel, found {found}")
        if file.orientation != UPRIGHT:
            text = "its EXIF data says that it is to be turned: send it upright, since boxes are in pixels of what was sent"
            raise BadPayload("unsupported", f"{_name(picture)}: {text}")

    def _draft(self, picture: Any, size: Size) -> None:
        wanted = [place(view, size) for view in self._plan.views]
        if wanted:
            most = [max(p.width for p in wanted), max(p.height for p in wanted)]
            mode = "L" if all(view.color == "gray" for view in self._plan.views) else None
            picture.draft(mode, tuple(min(whole, int(n * ENOUGH) + 1) for n, whole in zip(most, size, strict=True)))

    def _fill(self, picture: Any, size: Size, row: NDArray[np.uint8]) -> None:
        made: dict[str, Any] = {}
        start = 0
        for view in self._plan.views:
            mode = "L" if view.color == "gray" else "RGB"
            if mode not in made:
                made[mode] = picture if picture.mode == mode else picture.convert(mode)
            out = row[start : start + view.nbytes].reshape(view.shape)
            self._show(made[mode], view, size, out)
            start += view.nbytes

    def _show(self, picture: Any, view: View, size: Size, out: NDArray[np.uint8]) -> None:
        """One view into `out`."""
        width, height = view.size
        placed = place(view, size)
        # What of the picture is seen, in pixels of the picture as it was decoded, which may be a fraction of what was sent.
        scale_x, scale_y = picture.width / placed.width, picture.height / placed.height
        left, top = max(0.0, -placed.left) * scale_x, max(0.0, -placed.top) * scale_y
        box = (left, top, min(picture.width, picture.width - left), min(picture.height, picture.height - top))
        inner = (min(width, round(placed.width)), min(height, round(placed.height)))
        seen = picture if inner == picture.size else picture.resize(inner, self._image.Resampling.BILINEAR, box, WHOLE)
        pixels = np.asarray(seen).reshape(inner[1], inner[0], -1)
        if inner != view.size:
            out.fill(PADDING)
        x, y = max(0, int(placed.left)), max(0, int(placed.top))
        out[y : y + inner[1], x : x + inner[0]] = pixels[..., ::-1] if view.color == "bgr" else pixels


def _pillow() -> Any:
    """Pillow with its bound on pixels set by ours, and without its warnings: no log has them, and each text is kept for ever."""
    image, *_ = (importlib.import_module(f"PIL.{name}") for name in ("Image", "PngImagePlugin", "JpegImagePlugin"))
    vars(image)["MAX_IMAGE_PIXELS"] = None
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return image


def _name(picture: Any) -> str:
    return str(picture.format)


def _said(size: Size) -> str:
    return f"of {size[0]} x {size[1]} pixels"
