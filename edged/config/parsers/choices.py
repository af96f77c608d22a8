"""One of a few words: yes or no, element types, providers."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from edged.config.parsers.value import Surroundings, Value
from edged.notation.widths import PACKED_TYPE
from edged.notation.words import nearest, quoted, shown

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
DTYPE_SLIPS = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "int": "int32",
    "uint": "uint32",
    "short": "int16",
    "byte": "uint8",
    "char": "int8",
    "long": "int64",
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
SLIPS = {
    **dict.fromkeys(("uart", "tty", "usb", "rs232", "rs485", "com", "port"), "serial"),
    **dict.fromkeys(("broker", "mosquitto", "topic"), "mqtt"),
    **dict.fromkeys(("file", "recording", "playback"), "replay"),
    **dict.fromkeys(("fake", "test", "synthetic", "dummy"), "simulate"),
    **dict.fromkeys(("lines", "newline"), "line"),
    "tsv": "csv",
    "binary": "struct",
    "bytes": "raw",
    **dict.fromkeys(("jpeg", "jpg", "png", "picture"), "image"),
    **dict.fromkeys(("3.1", "3", "3.11", "311", "4"), "3.1.1"),
    "5.0": "5",
    "warn": "warning",
}
"""Other words for what may be chosen, where it may be."""
PROVIDERS = ("tensorrt", "cuda", "cpu", "openvino", "qnn", "coreml", "acl", "xnnpack")
PROVIDER_SLIPS = (
    {"intel": "openvino", "qualcomm": "qnn", "apple": "coreml"}
    | {"gpu": "cuda", "nvidia": "cuda", "trt": "tensorrt", "cpuexecutionprovider": "cpu"}
    | {
        "cudaexecutionprovider": "cuda",
        "tensorrtexecutionprovider": "tensorrt",
    }
)


RESERVED = {
    "sparkplug": "Sparkplug B is not read; let the edge node publish JSON beside it",
    "ais": "AIS messages are not decoded; let gpsd or AIS-catcher publish them as JSON over MQTT",
    "protobuf": "Protocol Buffers are not read; let the publisher send JSON or CBOR",
}
"""Words that are kept for what is not built."""


def choice(raw: object, known: tuple[str | int, ...]) -> str | int:
    """One of a few words or numbers."""
    if isinstance(raw, str | int) and not isinstance(raw, bool) and raw in known:
        return raw
    words = [str(k) for k in known]
    listed = " ".join(f'"{k}"' if isinstance(k, str) else str(k) for k in known)
    text = f"expected {'one of ' if len(known) > 1 else ''}{listed}, found {shown(raw)}"
    fix = None
    if isinstance(raw, str) and (known_as := raw.removesuffix("_b")) in RESERVED:
        raise ValueError(f"{text}; {RESERVED[known_as]}")
    if raw == 2 and set(known) == {0, 1}:
        text += "; MQTT's exactly once is not offered: write 1, at least once"
    elif isinstance(raw, int | float) and not isinstance(raw, bool) and (as_text := _version_meant(raw, words)):
        fix = as_text
    elif isinstance(raw, str) and raw not in words:
        fix = SLIPS.get(raw.lower()) if SLIPS.get(raw.lower()) in words else nearest(raw, words)
    elif str(raw) in words and not isinstance(raw, bool):
        fix = str(raw)
    if fix is not None:
        text += f'; did you mean "{fix}"?' if isinstance(known[words.index(fix)], str) else f"; did you mean {fix}?"
    raise ValueError(text)


def _version_meant(raw: float, words: list[str]) -> str | None:
    """`3.1` and `3.11` for `"3.1.1"`, `5` for `"5"`: numbers of versions are strings."""
    if "3.1.1" not in words:
        return None
    return "3.1.1" if str(raw) in ("3", "3.1", "3.11", "311", "4") else str(raw).removesuffix(".0")


def boolean(raw: object, _: Surroundings) -> bool:
    if isinstance(raw, bool):
        return raw
    fix = f"; without quotes: {raw.lower()}" if isinstance(raw, str) and raw.lower() in ("true", "false") else ""
    raise ValueError(f"expected true or false, found {shown(raw)}{fix}")


def dtype(raw: object, _: Surroundings) -> str:
    if isinstance(raw, str) and raw in DTYPES:
        return raw
    fix = ""
    if isinstance(raw, str):
        meant = DTYPE_SLIPS.get(raw.lower()) or nearest(raw, DTYPES)
        fix = f'; did you mean "{meant}"?' if meant else ""
    raise ValueError(f"expected an element type ({' '.join(DTYPES)}), found {shown(raw)}{fix}")


def wire_type(raw: object, around: Surroundings) -> str:
    """An element type on the wire, which may be one that numpy does not have."""
    is_odd = isinstance(raw, str) and (raw == "text" or re.fullmatch(PACKED_TYPE, raw))
    return str(raw) if is_odd else dtype(raw, around)


BYTE_ORDERS = ("big", "little", "cdab", "badc")
PLAIN_ORDERS = {"abcd": "big", "dcba": "little"}


def byte_order(raw: object, _: Surroundings) -> str:
    """As meters name it."""
    if isinstance(raw, str) and raw in BYTE_ORDERS:
        return raw
    meant = PLAIN_ORDERS.get(raw.lower()) or nearest(raw, BYTE_ORDERS) if isinstance(raw, str) else None
    fix = f'; write "{meant}"' if meant else ""
    raise ValueError(f'expected "big" (abcd), "little" (dcba), "cdab" or "badc", found {shown(raw)}{fix}')


def one_of(raw: object, _: Surroundings) -> bool | int | float | str:
    """A value that a member, column or capture may equal."""
    if isinstance(raw, bool | int | str) or (isinstance(raw, float) and math.isfinite(raw)):
        return raw
    found = "a table; ranges are valid = [low, high] of the field" if isinstance(raw, dict) else shown(raw)
    raise ValueError(f"expected a string, number, true or false, or a list of them, found {found}")


def providers(raw: object, _: Surroundings) -> tuple[str, ...] | None:
    """None: whichever is fastest."""
    if raw == "auto":
        return None
    known = PROVIDERS
    if not isinstance(raw, list) or not raw:
        fix = f'; as a list: ["{raw}"]' if raw in known else ""
        raise ValueError(f'expected "auto" or a list of {quoted(known)}, found {shown(raw)}{fix}')
    for one in raw:
        if isinstance(one, str) and one.lower() in PROVIDER_SLIPS:
            meant = PROVIDER_SLIPS[one.lower()]
            raise ValueError(f'expected some of {quoted(known)}, found {shown(one)}; did you mean "{meant}"?')
        choice(one, known)
        if raw.count(one) > 1:
            raise ValueError(f"expected each provider once, found {shown(one)} {raw.count(one)} times")
    return tuple(raw)


def option(raw: object, _: Surroundings) -> bool | int | float | str:
    """A value for a library, which has its own idea of what it may be."""
    if isinstance(raw, bool | int | str) or (isinstance(raw, float) and math.isfinite(raw)):
        return raw
    raise ValueError(f"expected a number, a string, true or false, found {shown(raw)}")


def absent(raw: object, _: Surroundings) -> float | str:
    if isinstance(raw, str) and raw in ("drop", "hold"):
        return raw
    if isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw):
        return float(raw)
    fix = '; write "hold"' if isinstance(raw, str) and raw.lower() in ("last", "keep", "previous", "held") else ""
    raise ValueError(f'expected "drop", "hold" or a number, found {shown(raw)}{fix}')


Absent = Annotated[float | str, Value("`drop` `hold` or number", absent)]
Flag = Annotated[bool, Value("bool", boolean)]
DType = Annotated[str, Value("type", dtype)]
ByteOrder = Annotated[str, Value("`big` `little` `cdab` `badc`", byte_order)]
WireType = Annotated[str, Value("type, `int24` `uint24` `uint11` `text`", wire_type)]
OneOf = Annotated[bool | int | float | str, Value("value", one_of)]
Providers = Annotated[tuple[str, ...] | None, Value(f"`auto` or list of {' '.join(f'`{one}`' for one in PROVIDERS)}", providers)]
Option = Annotated[bool | int | float | str, Value("number, string, true or false", option)]
Anything = Annotated[Any, Value("any", lambda raw, _: raw)]
