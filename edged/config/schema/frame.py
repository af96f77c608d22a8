"""How bytes become frames, and what proves one."""

from __future__ import annotations

from typing import Annotated, Literal

from edged.config.parsers.choices import Flag
from edged.config.parsers.measures import (
    Period,
)
from edged.config.parsers.names import (
    Text,
)
from edged.config.parsers.numbers import (
    Byte,
    Count,
    Index,
    LineStart,
    Marker,
    UsbId,
    integer,
)
from edged.config.schema.keys import Key, Table


class UsbPort(Table, frozen=True, kw_only=True):
    """A USB serial adapter, by its descriptors."""

    vid: Annotated[UsbId, Key("vendor id, `0x0403`")]
    pid: Annotated[UsbId, Key("product id, `0x6001`")]
    serial: Annotated[Text | None, Key("serial number", default="any")] = None


SIZED = ("fixed", "length")
PROVED = ("ubx", "mavlink", "dsmr", "vedirect")
"""Frames with a proof of their own."""


class Frame(Table, frozen=True, kw_only=True):
    """How bytes become frames."""

    FIRST = TYPE = "type"
    type: Annotated[
        Literal["line", "fixed", "length", "block", "cobs", "slip", "hdlc", "dle", "ubx", "mavlink", "dsmr", "vedirect"],
        Key(
            "lines, frames of one size, or a length field; block: lines that belong together; cobs ends by 0, slip by C0, hdlc "
            "by 7E, dle is DLE STX ... DLE ETX; the last four are proved by sums of their own. Handed on: of ubx `class id "
            "payload`, of mavlink `system component id(uint24) payload`, of block, dsmr and vedirect the lines, which csv reads "
            "as rows and text as one"
        ),
    ] = "line"
    end: Annotated[
        LineStart | None,
        Key(
            (
                "line: the terminator; edged drops a CR before it. block: the block ends with the first line that "
                'begins so; `""`: with an empty line'
            ),
            default='`"\\n"`, block: none',
            only=("line", "block"),
        ),
    ] = b"\n"
    start: Annotated[
        LineStart | None, Key("a line that begins so starts a block, and ends the one before", default="none", only=("block",))
    ] = None
    gap: Annotated[
        Period | None,
        Key(
            "a silence of this length ends a block; a block needs at least one of `end`, `start` and `gap`",
            default="none",
            only=("block",),
        ),
    ] = None
    size: Annotated[Count | None, Key("the bytes of a whole frame", only=("fixed",), required=("fixed",))] = None
    sync: Annotated[
        Marker | None,
        Key(
            "start marker; searched for again inside a bad frame. In it and in `tail` a byte may be eight characters `0`, `1` "
            'and `.` (any bit), highest first: `["1100...."]`; a marker with open bits is decoded too, one without is not. dle: '
            "`[0x10]` where any byte may follow the DLE",
            only=("line", *SIZED, "dle"),
        ),
    ] = None
    tail: Annotated[Marker | None, Key("end marker, after the checksum", only=SIZED)] = None
    length: Annotated[
        Literal["uint8", "uint16", "uint32"] | None,
        Key("the length field", only=("length",), required=("length",)),
    ] = None
    offset: Annotated[Index | None, Key("where the length field begins", default="right after `sync`", only=("length",))] = None
    counts: Annotated[
        Literal["payload", "rest", "frame"],
        Key(
            ("what the length field counts: the bytes between it and the checksum; all bytes after it; or the whole frame"),
            only=("length",),
        ),
    ] = "payload"
    extra: Annotated[
        Annotated[int, integer(-65535, 65535)],
        Key("bytes that the length field leaves out of what `counts` says (negative: that it counts too many)", only=("length",)),
    ] = 0
    endian: Annotated[Literal["little", "big"], Key("byte order of the length field", only=("length",))] = "little"
    crc_extra: Annotated[
        dict[str, Byte] | None,
        Key(
            "CRC_EXTRA of each message that is wanted, by its id: `{ 30 = 39 }`; others are passed over by their length and "
            "count as `other`",
            only=("mavlink",),
            required=("mavlink",),
        ),
    ] = None


ONE_BYTE = ("sum8", "neg8", "inv8", "xor8")
MANY_BYTES = (
    *(
        "sum15",
        "sum16",
        "neg16",
        "inv16",
        "crc16",
        "crc16-arc",
        "crc16-ccitt-false",
        "crc16-kermit",
        "crc16-mcrf4xx",
        "crc16-modbus",
    ),
    *("crc16-x25", "crc16-xmodem", "crc32"),
)
BINARY_CHECKSUMS = (*ONE_BYTE, "fletcher8", "crc8", *MANY_BYTES)


class Checksum(Table, frozen=True, kw_only=True):
    """The last bytes of a frame (of a line: `*hh` for nmea, the check character for teleinfo, or hex digits)."""

    FIRST = TYPE = "type"
    type: Annotated[
        Literal[
            "none",
            "nmea",
            "teleinfo",
            "sum8",
            "neg8",
            "inv8",
            "xor8",
            "sum15",
            "sum16",
            "neg16",
            "inv16",
            "fletcher8",
            "crc8",
            "crc16",
            "crc16-arc",
            "crc16-ccitt-false",
            "crc16-kermit",
            "crc16-mcrf4xx",
            "crc16-modbus",
            "crc16-x25",
            "crc16-xmodem",
            "crc32",
        ],
        Key(
            "which checksum a frame carries. neg8, neg16: what makes the sum 0; inv8, inv16: all bits of the sum turned over; "
            "CRCs by their names in the catalog"
        ),
    ] = "none"
    start: Annotated[Index, Key("the first byte that the checksum covers; 0: the sync bytes too", only=BINARY_CHECKSUMS)] = 0
    endian: Annotated[
        Literal["little", "big"] | None,
        Key("the byte order of the checksum", default="sums and hex digits: big; CRCs: the standard's", only=MANY_BYTES),
    ] = None
    stop: Annotated[
        Index, Key("so many bytes right before it are not covered: 1 for an ETX that stands there", only=BINARY_CHECKSUMS)
    ] = 0
    encoding: Annotated[
        Literal["hex", "all-hex", "line-safe"] | None,
        Key(
            "hex: written in hex digits; all-hex: what it covers is too, and it is that of the bytes which those digits say "
            "(Modbus ASCII, RFID readers); line-safe: bytes, of which (, CR and LF are sent one higher (Voltronic inverters). "
            "The checksum of a line has one of the three",
            default="bytes",
            only=BINARY_CHECKSUMS,
        ),
    ] = None
    poly: Annotated[
        Annotated[int, integer(1, 0xFFFF)] | None,
        Key(
            "the polynomial without its highest bit, such as 0x1021",
            default="crc8: 0x07",
            only=("crc8", "crc16"),
            required=("crc16",),
        ),
    ] = None
    init: Annotated[Annotated[int, integer(0, 0xFFFF)], Key("the initial value", only=("crc8", "crc16"))] = 0
    xor: Annotated[
        Annotated[int, integer(0, 0xFFFF)], Key("the value that is exclusive-ored to the result", only=("crc8", "crc16"))
    ] = 0
    reflect: Annotated[Flag, Key("whether the lowest bit comes first", only=("crc8", "crc16"))] = False
