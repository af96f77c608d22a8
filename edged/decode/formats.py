"""The table of formats: how a payload or a frame is written.

A row says which keys of `decode` and of its fields have an effect, what follows where one is not given, and who decodes it. A
new format is one file with its decoder, and a row here. The configuration reads the rows, and so do the planner and the decoders
of payloads and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec
from numpy.typing import NDArray

from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.refusals import Refusals
from edged.decode.values import Arrived, Table
from edged.errors import Problem
from edged.late import Late

if TYPE_CHECKING:
    from edged.config import schema
    from edged.decode.image import Pictures
    from edged.decode.tree import Documents

MIB = 1 << 20
Misfits = Callable[["schema.Decode", Sequence[FieldPlan]], Iterable[Problem]]


class Numbers(Protocol):
    """Decodes payloads to a table of raw numbers, each payload by itself."""

    def decode(self, payloads: Sequence[bytes], refusals: Refusals) -> Table: ...


@runtime_checkable
class TakesUsual(Protocol):
    """`Numbers` that have a short way for payloads with nothing unusual."""

    def usual(self, payloads: Sequence[bytes]) -> NDArray[Any] | None:
        """The raw numbers of payloads with one sample each and nothing beside it, `[k, width]`; None where one is another, or
        where so many have no short way: that is for `decode` to judge."""


@runtime_checkable
class TakesArrival(Protocol):
    """`Numbers` that are told of the next payloads when they arrived."""

    def tell(self, arrived: Arrived) -> None: ...


@runtime_checkable
class Remembers(Protocol):
    """Decodes payloads, and knows something of those before where they are the frames of one stream."""

    def reset(self) -> None:
        """The stream begins again."""


def forget_stream(decoder: object) -> None:
    """The stream begins again, of whose frames the payloads are that `decoder` gets; most remember nothing of it."""
    if isinstance(decoder, Remembers):
        decoder.reset()


class Lines(Protocol):
    """Decodes the lines of a stream, those of one read as one blob."""

    def decode_lines(self, blob: bytes, refusals: Refusals) -> Table: ...

    def reset(self) -> None:
        """The stream begins again."""


class Format(msgspec.Struct, frozen=True):
    """One row. Code is named by its place.

    `keys` are those of `decode` that have an effect besides `format` and `fields`, `field_keys` those of a field that not every
    format has. `default_field` is the field where none is given, `default_dtype` its type; without them they are required.
    `max_bytes`: of a source that does not say its own, where that is not the source's. `frame`: the type of the frames that it
    brings along, with their proof. `has_rate`: what is decoded says how many samples per second it holds.

    Of numbers: `numbers` decodes payloads, `lines` what comes as lines, where that is quicker than one by one; `tree` is
    msgspec's decoder of what is found by a path, and may be carried (or one like it); `named` gives the trees of messages that
    name the field which they carry; `misfits` are problems of settings and fields together, `sample_bytes` guesses the size of
    one sample.

    Of records: `is_flat`: the path of a member is its name as it is written, dots and all; `names`, where all names are known;
    one that ends with a dot stands for any that begin so. `own_time` is how the time is written that each record has, `absent`
    what stands for a field that a record does not have; `times` are the only ways in which a time may be asked for, besides that
    of arrival, and `time_field` is the field that then holds it. `package` must be installed, by the extra of the format's name.
    """

    keys: tuple[str, ...]
    numbers: Late[Callable[[DecodePlan], Numbers]] | None = None
    lines: Late[Callable[[DecodePlan], Lines]] | None = None
    pictures: Late[Callable[[DecodePlan], Pictures]] | None = None
    field_keys: tuple[str, ...] = ()
    default_field: str = ""
    default_dtype: str = ""
    needs_dtype: bool = False
    max_bytes: int | None = None
    frame: Any = ""
    names: Late[tuple[str, ...]] | None = None
    is_binary: bool = False
    is_records: bool = False
    is_by_pattern: bool = False
    has_rate: bool = False
    tree: Late[Any] | None = None
    named: Late[Documents] | None = None
    is_flat: bool = False
    own_time: str = ""
    times: tuple[str, ...] | None = None
    time_field: str = ""
    absent: str | None = None
    package: str = ""
    misfits: Late[Misfits] | None = None
    sample_bytes: Late[Callable[[Sequence[schema.FieldSpec]], int]] | None = None

    @property
    def is_of_pictures(self) -> bool:
        return self.pictures is not None

    @property
    def is_by_path(self) -> bool:
        """Whether a payload names its values, so that fields need not all be declared and none is skipped."""
        return self.tree is not None or self.is_flat


_ANY = ("time", "payload", "pattern", "encoding", "compress")
_OF_NUMBERS = (*_ANY, "absent", "scale", "offset", "unit", "valid", "shape")
_OF_TREES = (*_OF_NUMBERS, "rows", "named_by", "decimal")
_OF_BYTES = tuple(key for key in _OF_NUMBERS if key != "absent")
_OF_SCALARS = ("absent", "scale", "offset", "unit", "valid")
_OF_MEMBERS = ("path", "values", "absent")
_OF_LEAVES = (*_OF_MEMBERS, "dtype", "size")

FORMATS: dict[str, Format] = {
    "csv": Format(
        keys=(*_OF_NUMBERS, "header", "separator", "decimal", "base"),
        numbers=Late("edged.decode.csv:Csv"),
        lines=Late("edged.decode.csv:Csv"),
        field_keys=("values", "base", "absent"),
        named=Late("edged.decode.named:cell"),
        misfits=Late("edged.decode.csv:misfits"),
        sample_bytes=Late("edged.decode.csv:line_bytes"),
    ),
    "text": Format(
        keys=(*(key for key in _OF_NUMBERS if key != "encoding"), "decimal", "base"),
        numbers=Late("edged.decode.text:Text"),
        lines=Late("edged.decode.text:Text"),
        field_keys=("values", "after", "base", "absent"),
        named=Late("edged.decode.named:first_number"),
        is_by_pattern=True,
        sample_bytes=Late("edged.decode.csv:line_bytes"),
    ),
    "json": Format(
        keys=_OF_TREES,
        numbers=Late("edged.decode.json:Tree"),
        field_keys=_OF_LEAVES,
        tree=Late("msgspec.json:Decoder"),
        named=Late("edged.decode.json:json_documents"),
        sample_bytes=Late("edged.decode.json:message_bytes"),
    ),
    "msgpack": Format(
        keys=_OF_TREES,
        numbers=Late("edged.decode.json:Tree"),
        field_keys=_OF_LEAVES,
        is_binary=True,
        tree=Late("msgspec.msgpack:Decoder"),
        named=Late("edged.decode.json:msgpack_documents"),
    ),
    "cbor": Format(
        keys=_OF_TREES,
        numbers=Late("edged.decode.cbor:Cbor"),
        field_keys=_OF_LEAVES,
        is_binary=True,
        tree=Late("edged.decode.cbor:Decoder"),
        named=Late("edged.decode.cbor:documents"),
        package="cbor2",
    ),
    "senml": Format(
        keys=_OF_NUMBERS,
        numbers=Late("edged.decode.senml:make"),
        field_keys=_OF_MEMBERS,
        is_flat=True,
        own_time="unix_s",
        times=(),
        absent="hold",
    ),
    "influx": Format(
        keys=_OF_NUMBERS,
        numbers=Late("edged.decode.influx:Influx"),
        field_keys=_OF_MEMBERS,
        is_flat=True,
        own_time="unix_ns",
    ),
    "struct": Format(
        keys=(*_OF_NUMBERS, "endian", "dtype", "rows", "rest", "base"),
        numbers=Late("edged.decode.struct:Records"),
        field_keys=("dtype", "size", "endian", "bits", "base", "values", "repeat", "fields", "absent"),
        needs_dtype=True,
        is_binary=True,
        is_records=True,
        misfits=Late("edged.decode.struct:misfits"),
        sample_bytes=Late("edged.decode.struct:record_bytes"),
    ),
    "modbus": Format(
        keys=("scale", "offset", "unit", "valid", "shape", "endian", "dtype", "table"),
        numbers=Late("edged.decode.struct:Records"),
        field_keys=("dtype", "endian", "bits", "register", "table"),
        is_binary=True,
        is_records=True,
        misfits=Late("edged.decode.struct:misfits"),
    ),
    "raw": Format(
        keys=(*_OF_BYTES, "endian", "dtype"),
        numbers=Late("edged.decode.struct:Records"),
        field_keys=("dtype",),
        default_field="value",
        default_dtype="float32",
        is_binary=True,
        is_records=True,
        misfits=Late("edged.decode.struct:raw_misfits"),
    ),
    "nmea": Format(
        keys=("time", *_OF_SCALARS),
        numbers=Late("edged.decode.nmea:Nmea"),
        lines=Late("edged.decode.nmea:Nmea"),
        field_keys=("path", "absent"),
        frame="line",
        is_flat=True,
        names=Late("edged.decode.nmea:NAMES"),
        own_time="unix_ns",
        times=(),
    ),
    "ubx": Format(
        keys=("time", *_OF_SCALARS),
        numbers=Late("edged.decode.ubx:Ubx"),
        field_keys=("path", "absent"),
        frame="ubx",
        is_binary=True,
        is_flat=True,
        names=Late("edged.decode.ubx:NAMES"),
        own_time="unix_ns",
        times=(),
    ),
    "dsmr": Format(
        keys=("time", *_OF_SCALARS),
        numbers=Late("edged.decode.labels:of_obis"),
        field_keys=_OF_MEMBERS,
        frame="dsmr",
        is_flat=True,
        times=("dsmr",),
        time_field="0-0:1.0.0",
    ),
    "vedirect": Format(
        keys=_OF_SCALARS,
        numbers=Late("edged.decode.labels:of_tabs"),
        field_keys=_OF_MEMBERS,
        frame="vedirect",
        is_flat=True,
    ),
    "wav": Format(
        keys=("scale", "offset", "unit", "valid", "shape"),
        numbers=Late("edged.decode.wav:Wav"),
        default_field="value",
        is_binary=True,
        has_rate=True,
        misfits=Late("edged.decode.wav:misfits"),
    ),
    "image": Format(
        keys=(*_ANY, "max_pixels", "color"),
        pictures=Late("edged.decode.image:Pictures"),
        default_field="image",
        max_bytes=4 * MIB,
        is_binary=True,
    ),
}
"""In the order of the reference page."""


def with_key(key: str) -> tuple[str, ...]:
    """The formats for which a key of `decode` has an effect."""
    return tuple(name for name, format in FORMATS.items() if key in format.keys)


def with_field_key(key: str) -> tuple[str, ...]:
    """The formats for which a key of a field has an effect."""
    return tuple(name for name, format in FORMATS.items() if key in format.field_keys)
