"""What a decoder is made of: where each field lies on the wire, and in which columns of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from edged.decode.resize import View
from edged.decode.where import Condition
from edged.decode.wire import Packed, Wire
from edged.notation.field_paths import Path

if TYPE_CHECKING:
    from edged.config import schema


class FieldPlan(msgspec.Struct, frozen=True):
    """One field on the wire. Columns `start:stop` of a row are its values; both are -1 for a time, a key, what `where` names and
    `_`."""

    name: str
    path: Path
    dtype: np.dtype[Any] | None = None
    scale: float = 1.0
    offset: float = 0.0
    valid: tuple[float, float] | None = None
    values: Mapping[str, float] | None = None
    shape: tuple[int, ...] = ()
    start: int = -1
    stop: int = -1
    wire: Wire | Packed | None = None
    """How it is read where numpy has no type for it; `dtype` is then so many raw bytes."""
    after: str = ""
    base: int = 10
    absent: float | str | None = None
    """What stands for it where a message does not have it: "drop", "hold", or a number; None: `on_bad` decides."""
    unit: str | None = None
    is_text: bool = False
    """Its numbers are the characters of a text."""
    group: str = ""
    repeat: int = 1
    is_split: bool = False
    """The group that it stands in, and how often that is repeated: it has an axis for that, or each is a sample of its own."""

    @property
    def count(self) -> int:
        """Numbers in it: 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def wire_shape(self) -> tuple[int, ...]:
        """That of its pieces of `dtype` in a record."""
        return () if isinstance(self.wire, Packed) else self.shape

    @property
    def wire_bytes(self) -> int:
        """Bytes of it in a record, all repetitions together."""
        times = self.repeat if self.is_split else 1
        return 0 if self.dtype is None else self.dtype.itemsize * math.prod(self.wire_shape) * times

    @property
    def is_value(self) -> bool:
        return self.start >= 0


class Correction(NamedTuple):
    """What a key has in the place of what its fields say: `what` is scale, offset, valid.low or valid.high, of the columns
    `start:stop`. `key` is its index."""

    key: int
    what: str
    start: int
    stop: int
    number: float


class Corrections(msgspec.Struct, frozen=True):
    """Of a source whose sensors differ. `parts` say where each part of a key comes from, as those of its source do."""

    keys: tuple[str, ...]
    cells: tuple[Correction, ...]
    parts: tuple[tuple[str, int], ...]


class DecodePlan(msgspec.Struct, frozen=True):
    """All that a decoder needs. `fields` are in wire order, `_` included; `width` numbers make a row of `dtype`."""

    format: str
    fields: tuple[FieldPlan, ...]
    width: int
    dtype: np.dtype[Any]
    time_field: str | None = None
    time_format: str | None = None
    key_fields: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()
    on_bad: str = "drop"
    header: bool = False
    separator: str = ","
    pattern: str | None = None
    decimal: str = "."
    where: tuple[Condition, ...] = ()
    endian: str = "little"
    rest: str = "refuse"
    max_bytes: int = 4096
    rate: float | None = None
    """Samples a second, of formats whose header says that too."""
    payload: Path | None = None
    encoding: str | None = None
    compress: str | None = None
    rows: Path | None = None
    named_by: Path | None = None
    is_named: bool = False
    """Whether each message names the field that it carries, by its topic or by `named_by`; values of all others are held."""
    stale_ns: int | None = None
    """How old held values may be where messages name their fields."""
    around: DecodePlan | None = None
    inside: DecodePlan | None = None
    """With `payload`: what is read from around it, and from it."""
    frame: schema.Frame | None = None
    checksum: schema.Checksum | None = None
    max_keys: int = 256
    max_pixels: int = 0
    views: tuple[View, ...] = ()
    """Of pictures: what they are brought to, each a field of its own; and the largest that is decoded."""
    is_slow: bool = False
    """Whether decoding takes too long for the loop: a picture of a camera takes 1 to 100 ms."""
    by_key: Corrections | None = None

    @property
    def is_told(self) -> bool:
        """Whether more must be known of payloads than their bytes: what topics name, and when they came."""
        return self.is_named or (self.time_field is None and self.time_format is not None)

    @property
    def holds(self) -> bool:
        """Whether the last values of each sensor are remembered."""
        return self.on_bad == "hold" or any(field.absent == "hold" for field in self.fields)

    @property
    def value_fields(self) -> tuple[FieldPlan, ...]:
        return tuple(field for field in self.fields if field.is_value)

    def field(self, name: str) -> FieldPlan:
        return next(field for field in self.fields if field.name == name)
