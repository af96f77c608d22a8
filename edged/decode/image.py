"""Pictures (JPEG, PNG, WebP) to rows: each is brought to the sizes that models want, side by side in one row of bytes.

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
import zlib
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.decode.picture_file import NO_END, PictureFile, picture_file
from edged.decode.plan import DecodePlan
from edged.decode.resize import PADDING, Size, View, place, sent
from edged.decode.values import UNTOLD, Arrived, BadPayload, excerpts
from edged.records import Reject, Rows

ADDRESS = re.compile(r" <[^>]* at 0x[0-9a-f]+>")
FORMATS = ("JPEG", "PNG", "WEBP")
TURNED = range(5, 9)
"""The orientations in which what is stored as a row is a column of what is seen."""
STRIP = 64
"""Rows of pixels that are looked at together."""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow's names of what has at most 8 bits a channel and is gray or RGB."""
PNG_DEPTH = 24
"""Where a PNG says how many bits a channel has."""
WEBP_SHARE = 3
"""A WebP may have so many times fewer pixels than `max_pixels`: its library takes so many times the memory."""
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
        """Writes the views of one picture into `row`, as it is to be seen; returns the size that it has so."""
        if len(payload) > self._plan.max_bytes:
            raise BadPayload("too_large", f"{len(payload)} bytes, at most {self._plan.max_bytes} are taken (max_bytes)")
        file = picture_file(payload)
        if file.size is not None:
            self._check_size("WEBP", file.size, file, self._plan.max_pixels // WEBP_SHARE)
        ends = NO_END if file.is_cut else (b"",)
        pictures = [self._load(file._replace(data=file.data + end)) for end in ends[:-1]]
        digests = {_digest(picture) for picture in pictures}
        pictures.clear()
        picture, size = self._load(file._replace(data=file.data + ends[-1]))
        if digests and digests != {_digest((picture, size))}:
            raise BadPayload("malformed", f"{_name(picture)} {_said(size)}: its end is missing, and pixels with it: truncated")
        upright: Size = (size[1], size[0]) if file.orientation in TURNED else size
        self._fill(picture, file.orientation, upright, row)
        return upright

    def _load(self, file: PictureFile) -> tuple[Any, Size]:
        """Its pixels as they are stored, perhaps in a smaller size, and the size that they are stored in."""
        try:
            picture = self._image.open(io.BytesIO(file.data), formats=FORMATS)  # reads the header only
        except Exception as error:  # whatever a library says of bytes that are no picture
            said = ADDRESS.sub("", str(error))  # of the object that we gave it, and that of a place in memory
            raise BadPayload("malformed", f"expected a whole JPEG, PNG or WebP, found only the begin of one: {said}") from error
        size: Size = picture.size
        self._check(picture, file)
        try:
            self._draft(picture, (size[1], size[0]) if file.orientation in TURNED else size, file.orientation in TURNED)
            picture.load()
        except Exception as error:
            raise BadPayload("malformed", f"{_name(picture)} {_said(size)}: {error or type(error).__name__}") from error
        return picture, size

    def _check_size(self, name: str, size: Size, file: PictureFile, limit: int) -> None:
        width, height = size
        name = f"{name} {_said(size)}"
        if not width * height:
            raise BadPayload("malformed", name)
        if width * height > limit:
            share = "" if limit == self._plan.max_pixels else f", a WebP 1/{WEBP_SHARE} of it"
            raise BadPayload("too_large", f"{name}: {width * height} pixels, at most {limit} are taken (max_pixels{share})")
        if max(width, height) > MAX_SIDE:
            raise BadPayload("too_large", f"{name}: at most {MAX_SIDE} pixels a side are taken")
        if file.frames > 1:
            raise BadPayload("unsupported", f"{name}: it has {file.frames} frames, one is taken")

    def _check(self, picture: Any, file: PictureFile) -> None:
        """Refuses by the header what must not, or cannot, be decoded."""
        self._check_size(_name(picture), picture.size, file, self._plan.max_pixels)
        name = f"{_name(picture)} {_said(picture.size)}"
        is_deep = picture.format == "PNG" and file.data[PNG_DEPTH] > 8
        if picture.mode not in MODES or is_deep:
            found = "16 bits a channel" if is_deep else picture.mode
            raise BadPayload("unsupported", f"{name}: expected gray or RGB with 8 bits a channel, found {found}")

    def _draft(self, picture: Any, size: Size, is_turned: bool) -> None:
        """`size` is that of what is to be seen."""
        wanted = [place(view, size) for view in self._plan.views]
        if wanted:
            most = [max(p.width for p in wanted), max(p.height for p in wanted)]
            mode = "L" if all(view.color == "gray" for view in self._plan.views) else None
            least = [min(whole, int(n * ENOUGH) + 1) for n, whole in zip(most, size, strict=True)]
            picture.draft(mode, tuple(reversed(least)) if is_turned else tuple(least))

    def _fill(self, picture: Any, orientation: int, size: Size, row: NDArray[np.uint8]) -> None:
        made: dict[str, Any] = {}
        start = 0
        for view in self._plan.views:
            mode = "L" if view.color == "gray" else "RGB"
            if mode not in made:
                made[mode] = picture if picture.mode == mode else picture.convert(mode)
            out = row[start : start + view.nbytes].reshape(view.shape)
            self._show(made[mode], orientation, view, size, out)
            start += view.nbytes

    def _show(self, picture: Any, orientation: int, view: View, size: Size, out: NDArray[np.uint8]) -> None:
        """One view into `out`. It is turned last, when it is small: what is seen of it lies in the middle, whichever way it is
        turned."""
        step = -1 if orientation in TURNED else 1
        width, height = view.size
        whole_x, whole_y = picture.size[::step]
        placed = place(view, size)
        # What of the picture is seen, in pixels of the picture as it was decoded, which may be a fraction of what was sent.
        scale_x, scale_y = whole_x / placed.width, whole_y / placed.height
        left, top = max(0.0, -placed.left) * scale_x, max(0.0, -placed.top) * scale_y
        box = (*(left, top)[::step], *(min(whole_x, whole_x - left), min(whole_y, whole_y - top))[::step])
        inner = (min(width, round(placed.width)), min(height, round(placed.height)))
        stored = inner[::step]
        seen = picture if stored == picture.size else picture.resize(stored, self._image.Resampling.BILINEAR, box, WHOLE)
        pixels = turned(np.asarray(seen).reshape(stored[1], stored[0], -1), orientation)
        if inner != view.size:
            out.fill(PADDING)
        x, y = max(0, int(placed.left)), max(0, int(placed.top))
        out[y : y + inner[1], x : x + inner[0]] = pixels[..., ::-1] if view.color == "bgr" else pixels


def turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Stored pixels as they are to be seen, by EXIF's number."""
    if orientation in TURNED:
        pixels = pixels.transpose(1, 0, 2)
    is_mirrored = orientation in (2, 3, 6, 7)
    is_upside_down = orientation in (3, 4, 7, 8)
    return pixels[:: -1 if is_upside_down else 1, :: -1 if is_mirrored else 1]


def _digest(loaded: tuple[Any, Size]) -> int:
    """Of all pixels, a strip at a time."""
    picture, _ = loaded
    found = 0
    for top in range(0, picture.height, STRIP):
        found = zlib.crc32(picture.crop((0, top, picture.width, min(picture.height, top + STRIP))).tobytes(), found)
    return found


def _pillow() -> Any:
    """Pillow with its bound on pixels set by ours, and without its warnings: no log has them, and each text is kept for ever."""
    image, *_ = (
        importlib.import_module(f"PIL.{name}") for name in ("Image", "PngImagePlugin", "JpegImagePlugin", "WebPImagePlugin")
    )
    vars(image)["MAX_IMAGE_PIXELS"] = None
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return image


def _name(picture: Any) -> str:
    return str(picture.format)


def _said(size: Size) -> str:
    return f"of {size[0]} x {size[1]} pixels"
