"""How values are written in the configuration: durations, sizes, rates, ranges, element types, names.

Each `Value` pairs a type's name, as the reference page says it, with a function that turns what stood in the TOML file
into what the program uses, or raises ValueError with "expected ..., found ...". Nothing here knows which key it parses, and
nothing but `Surroundings` looks outside the file: what does is in `external`.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edged.config.files import read_small
from edged.config.markers import OpenMarker, marker, plain_bytes
from edged.config.units import DURATION_SLIPS, DURATION_UNITS, MIB, RATE_UNITS, SIZE_SLIPS, SIZE_UNITS, D, S
from edged.config.words import nearest, quoted, shown
from edged.topics import parse_filter, parse_template

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
NEVER = 0
"""What "never" is as a duration; no other is 0."""
LONGEST = 36500 * D
"""Times of hundreds of years are slips, and do not fit into 64 bits of ns."""
MAX = 2**31 - 1
"""Of anything that is counted: more is a slip, and would not fit into the integers of a table."""
RATES = (1e-8, 1e9)
"""Per second: one in three years, one a ns."""
LONGEST_SIDE = 8192
"""Pixels of what a model sees: more is a slip."""
LARGEST_PACKET = 256 * MIB
"""No MQTT packet is longer."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NUMBER_AND_UNIT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([^\W\d_]*)\s*")


class Secret(str):
    """A text that no log line and no message shows; `reveal()` gives the plain string."""

    __slots__ = ()

    def reveal(self) -> str:
        return self.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return "Secret(...)"

    def __str__(self) -> str:
        return "(secret)"

    def __format__(self, spec: str) -> str:
        return format("(secret)", spec)


class BrokerUrl(msgspec.Struct, frozen=True):
    """Where a broker listens: a host and port over TCP (`mqtt`) or TLS (`mqtts`), or the path of a unix socket."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_tls(self) -> bool:
        return self.scheme == "mqtts"

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Span(msgspec.Struct, frozen=True):
    """The length of a window: so many samples, or so many ns. Exactly one of the two is set."""

    samples: int | None = None
    duration: int | None = None


class Function(msgspec.Struct, frozen=True):
    """A function of the user's, in a Python file beside the configuration."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a value may refer to outside the file. `warnings` collects remarks on the value being parsed, `files` what the small
    files hold that values name. `copies`: files to be read in the place of others, by these."""

    folder: Path
    environ: Mapping[str, str]
    warnings: list[str] = field(default_factory=list)
    files: dict[Path, bytes] = field(default_factory=dict, repr=False)
    copies: Mapping[Path, Path] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Where to read a small file that is named."""
        path = self.folder / name
        where = self.copies.get(path, path)
        with contextlib.suppress(ValueError):  # who reads it says what is wrong with it
            self.files[path] = read_small(where)
        return where


@dataclass(frozen=True, slots=True)
class Value:
    """How a value is written: the name of its type in the reference page, and what makes it of the TOML value."""

    name: str
    parse: Callable[[Any, Surroundings], Any]


def choice(raw: object, known: tuple[str | int, ...]) -> str | int:
    """One of a few words or numbers."""
    if isinstance(raw, str | int) and not isinstance(raw, bool) and raw in known:
        return raw
    words = [str(k) for k in known]
    listed = " ".join(f'"{k}"' if isinstance(k, str) else str(k) for k in known)
    text = f"expected {'one of ' if len(known) > 1 else ''}{listed}, found {shown(raw)}"
    cure = None
    if isinstance(raw, str) and raw not in words:
        cure = nearest(raw, words)
    elif str(raw) in words and not isinstance(raw, bool):
        cure = str(raw)
    if cure is not None:
        text += f'; did you mean "{cure}"?' if isinstance(known[words.index(cure)], str) else f"; did you mean {cure}?"
    raise ValueError(text)


def text(raw: object, _: Surroundings) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"expected a text, found {shown(raw)}")
    if not raw:
        raise ValueError("expected a text, found an empty one")
    if "\0" in raw:
        raise ValueError(f"expected a text without NUL, found {shown(raw)}")
    return raw


STAND_INS = {"device": "device", "base_topic": "base/topic"}
"""For names that are filled in once the device is known: enough to tell whether the rest of a topic is well formed."""


def topic_filter(raw: object, around: Surroundings) -> str:
    plain = text(raw, around)
    parse_filter(plain, STAND_INS)
    return plain


def base_topic(raw: object, around: Surroundings) -> str:
    plain = text(raw, around)
    parse_template(plain, {"device": "device"}, ())
    return plain


def name(raw: object, _: Surroundings) -> str:
    if not isinstance(raw, str) or not NAME.fullmatch(raw):
        raise ValueError(f"expected a name (letters, digits, _ and -, at most 64), found {shown(raw)}")
    return raw


def field_name(raw: object, _: Surroundings) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"expected the name of a field, found {shown(raw)}")
    if not raw or not raw.isprintable():
        raise ValueError(f"expected the name of a field (not empty, without control characters), found {shown(raw)}")
    return raw


def boolean(raw: object, _: Surroundings) -> bool:
    if isinstance(raw, bool):
        return raw
    cure = f"; without quotes: {raw.lower()}" if isinstance(raw, str) and raw.lower() in ("true", "false") else ""
    raise ValueError(f"expected true or false, found {shown(raw)}{cure}")


def _not_too_many(count: int) -> int:
    if count > MAX:
        raise ValueError(f"expected at most {MAX}, found {count}")
    return count


def _integer(low: int | None, high: int | None) -> Callable[[Any, Surroundings], int]:
    if low is not None and high is not None:
        wanted = f"a whole number from {low} to {high}"
    elif low is not None:
        wanted = f"a whole number of at least {low}"
    else:
        wanted = "a whole number"

    def parse(raw: object, _: Surroundings) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            cure = f"; without quotes: {raw}" if isinstance(raw, str) and raw.isdigit() else ""
            if isinstance(raw, float) and raw.is_integer():
                cure = f"; write {int(raw)}"
            raise ValueError(f"expected {wanted}, found {shown(raw)}{cure}")
        if (low is not None and raw < low) or (high is not None and raw > high):
            raise ValueError(f"expected {wanted}, found {raw}")
        return _not_too_many(raw)

    return parse


def integer(low: int | None = None, high: int | None = None) -> Value:
    return Value("int", _integer(low, high))


def _number(low: float) -> Callable[[Any, Surroundings], float]:
    wanted = "a number" if low == -math.inf else f"a number of at least {low:g}"

    def parse(raw: object, _: Surroundings) -> float:
        if not isinstance(raw, int | float) or isinstance(raw, bool):
            is_quoted = isinstance(raw, str) and re.fullmatch(r"[+-]?\d+(\.\d+)?", raw)
            raise ValueError(f"expected {wanted}, found {shown(raw)}" + (f"; without quotes: {raw}" if is_quoted else ""))
        if not math.isfinite(raw) or raw < low:
            raise ValueError(f"expected {wanted}, found {raw}")
        return float(raw)

    return parse


def number(low: float = -math.inf) -> Value:
    return Value("number", _number(low))


def _with_unit(raw: str, units: Mapping[str, int], slips: Mapping[str, str], wanted: str) -> int:
    found = _NUMBER_AND_UNIT.fullmatch(raw)
    if found is None:
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    amount, unit = found.groups()
    if unit == "m" and "min" in units:
        raise ValueError(f'expected {wanted}; "{raw}" could be "{amount}min" or "{amount}ms"')
    if not unit:
        raise ValueError(f"expected {wanted}, found {shown(raw)}, which has no unit ({' '.join(units)})")
    if unit not in units:
        if unit in slips:
            raise ValueError(f'expected {wanted}, found {shown(raw)}; write "{amount}{slips[unit]}"')
        raise ValueError(f"expected {wanted} ({' '.join(units)}), found {shown(raw)}")
    if amount.startswith("-"):
        raise ValueError(f"expected {wanted}, found {shown(raw)}, which is negative")
    return round(float(amount) * units[unit]) if "." in amount else int(amount) * units[unit]


def duration(raw: object, _: Surroundings) -> int:
    """Nanoseconds."""
    wanted = 'a duration such as "5s"'
    if not isinstance(raw, str):
        is_number = isinstance(raw, int | float) and not isinstance(raw, bool) and raw > 0
        raise ValueError(f"expected {wanted}, found {shown(raw)}" + (f'; for so many seconds: "{raw}s"' if is_number else ""))
    return _not_too_long(_with_unit(raw, DURATION_UNITS, DURATION_SLIPS, wanted), raw)


def _not_too_long(length: int, raw: str) -> int:
    if length > LONGEST:
        raise ValueError(f'expected at most "{LONGEST // D}d", a hundred years, found {shown(raw)}')
    return length


def period(raw: object, around: Surroundings) -> int:
    """Nanoseconds, more than none."""
    length = duration(raw, around)
    if length <= 0:
        raise ValueError(f'expected a duration longer than nothing, such as "5s", found {shown(raw)}')
    return length


def silence(raw: object, around: Surroundings) -> int:
    """How long something may say nothing."""
    if raw == "never":
        return NEVER
    try:
        return period(raw, around)
    except ValueError as error:
        raise ValueError(f'{error}; for no limit: "never"') from None


def keepalive(raw: object, around: Surroundings) -> int:
    """Nanoseconds; MQTT has 16 bits for it, in whole seconds, and 0 would switch it off."""
    length = duration(raw, around)
    if not S <= length <= 65535 * S or length % S:
        raise ValueError(f'expected whole seconds from "1s" to "65535s", found {shown(raw)}')
    return length


def delay(raw: object, around: Surroundings) -> int:
    """Nanoseconds; longer than the stop of the daemon takes would be no wait for a batch."""
    length = duration(raw, around)
    if length > 10 * S:
        raise ValueError(f'expected at most "10s", found {shown(raw)}')
    return length


def speed(raw: object, around: Surroundings) -> float:
    """How many times as fast as recorded; 0: as fast as it goes."""
    value = _number(0)(raw, around)
    if value and not 0.001 <= value <= 1000:
        cure = "; as fast as it goes: 0" if value > 1 else ""
        raise ValueError(f"expected 0, or a number from 0.001 to 1000, found {value:g}{cure}")
    return value


def expiry(raw: object, around: Surroundings) -> int:
    """Nanoseconds; MQTT counts whole seconds, and half of one must not become a clean session."""
    length = duration(raw, around)
    if length % S:
        raise ValueError(f'expected "0s" (a clean session) or whole seconds, found {shown(raw)}')
    return length


def packet(raw: object, around: Surroundings) -> int:
    """Bytes that one frame or payload may have."""
    count = size(raw, around)
    if count > LARGEST_PACKET:
        raise ValueError(f'expected at most "{LARGEST_PACKET // MIB}MiB", the longest that MQTT can carry, found {shown(raw)}')
    return count


def factor(raw: object, around: Surroundings) -> float:
    """A number that values are multiplied by."""
    value = _number(-math.inf)(raw, around)
    if value == 0:
        raise ValueError("expected a number other than 0: value = raw x scale + offset would be the same whatever is measured")
    return value


def size(raw: object, _: Surroundings) -> int:
    """Bytes."""
    wanted = 'a size such as "8MiB"'
    if isinstance(raw, int) and not isinstance(raw, bool):
        raise ValueError(f'expected {wanted}, found {shown(raw)}; for so many bytes: "{raw}B"')
    if not isinstance(raw, str):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    count = _with_unit(raw, SIZE_UNITS, SIZE_SLIPS, wanted)
    if count <= 0:
        raise ValueError(f"expected {wanted}, found {shown(raw)}, which is nothing")
    return count


def rate(raw: object, _: Surroundings) -> float:
    """Per second."""
    wanted = 'a rate: a number a second, or such as "6/min", "4/h"'
    if isinstance(raw, str):
        amount, slash, unit = raw.replace(" ", "").partition("/")
        if not slash or unit not in RATE_UNITS or not re.fullmatch(r"\d+(\.\d+)?", amount):
            hertz = re.fullmatch(r"(\d+(?:\.\d+)?)(k?)hz", raw.replace(" ", "").lower())
            cure = f"; write {float(hertz[1]) * (1000 if hertz[2] else 1):g}" if hertz else ""
            raise ValueError(f"expected {wanted}, found {shown(raw)}{cure}")
        value = float(amount) / RATE_UNITS[unit]
    elif isinstance(raw, int | float) and not isinstance(raw, bool):
        value = float(raw)
    else:
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"expected {wanted}, more than 0, found {shown(raw)}")
    if not RATES[0] <= value <= RATES[1]:
        raise ValueError(f"expected {wanted}, from one in three years to {RATES[1]:.0f} a second, found {shown(raw)}")
    return value


def value_range(raw: object, _: Surroundings) -> tuple[float, float]:
    wanted = "a range such as [0, 150]"
    if not isinstance(raw, list):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if len(raw) != 2 or any(isinstance(x, bool) or not isinstance(x, int | float) or math.isnan(x) for x in raw):
        raise ValueError(f"expected {wanted} (two numbers), found {raw}")
    if raw[0] > raw[1]:
        raise ValueError(f"expected {wanted}, the lower number first, found {raw}")
    return float(raw[0]), float(raw[1])


def dtype(raw: object, _: Surroundings) -> str:
    if isinstance(raw, str) and raw in DTYPES:
        return raw
    cure = ""
    if isinstance(raw, str):
        meant = DTYPE_SLIPS.get(raw.lower()) or nearest(raw, DTYPES)
        cure = f'; did you mean "{meant}"?' if meant else ""
    raise ValueError(f"expected an element type ({' '.join(DTYPES)}), found {shown(raw)}{cure}")


def wire_type(raw: object, around: Surroundings) -> str:
    """An element type on the wire, which may be one that numpy does not have."""
    return raw if raw in ("int24", "uint24") and isinstance(raw, str) else dtype(raw, around)


def bit_field(raw: object, _: Surroundings) -> tuple[int, int]:
    """The lowest bit, and how many."""
    wanted = "the lowest bit and how many, such as [4, 1]"
    if not isinstance(raw, list) or len(raw) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in raw):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if raw[0] < 0 or raw[1] < 1 or sum(raw) > 64:
        raise ValueError(f"expected {wanted}, within 64 bits, found {raw}")
    return raw[0], raw[1]


def span(raw: object, _: Surroundings) -> Span:
    wanted = 'samples (a whole number) or a duration such as "60s"'
    if isinstance(raw, int) and not isinstance(raw, bool):
        if raw < 1:
            raise ValueError(f"expected {wanted}, at least one sample, found {raw}")
        return Span(samples=_not_too_many(raw))
    if not isinstance(raw, str):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if raw.isdigit():
        raise ValueError(f"expected {wanted}, found {shown(raw)}; for samples without quotes: {raw}")
    length = _with_unit(raw, DURATION_UNITS, DURATION_SLIPS, wanted)
    if length <= 0:
        raise ValueError(f"expected {wanted}, longer than nothing, found {shown(raw)}")
    return Span(duration=_not_too_long(length, raw))


def stop_bits(raw: object, _: Surroundings) -> float:
    if isinstance(raw, bool) or raw not in (1, 1.5, 2):
        raise ValueError(f"expected one of 1 1.5 2, found {shown(raw)}")
    return float(raw)


def dead_band(raw: object, _: Surroundings) -> float | None:
    """The smallest change that counts: 0.0 for `true` (any), None for `false`."""
    if isinstance(raw, bool):
        return 0.0 if raw else None
    if not isinstance(raw, int | float) or not math.isfinite(raw) or raw < 0:
        raise ValueError(f"expected true, or a number (the smallest change that counts), found {shown(raw)}")
    return float(raw)


def path(raw: object, around: Surroundings) -> Path:
    """Absolute; what is relative is relative to the configuration's folder."""
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError(f"expected the path of a file, found {shown(raw)}")
    return around.folder / raw


def small_file(raw: object, around: Surroundings) -> Path:
    return around.file(str(path(raw, around)))


PROVIDER_SLIPS = {"gpu": "cuda", "nvidia": "cuda", "trt": "tensorrt", "cpuexecutionprovider": "cpu"} | {
    "cudaexecutionprovider": "cuda",
    "tensorrtexecutionprovider": "tensorrt",
}


def providers(raw: object, _: Surroundings) -> tuple[str, ...] | None:
    """None: whichever is fastest."""
    if raw == "auto":
        return None
    known = ("tensorrt", "cuda", "cpu")
    if not isinstance(raw, list) or not raw:
        cure = f'; as a list: ["{raw}"]' if raw in known else ""
        raise ValueError(f'expected "auto" or a list of {quoted(known)}, found {shown(raw)}{cure}')
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
    raise ValueError(f"expected a number, a text, true or false, found {shown(raw)}")


def constant(raw: object, _: Surroundings) -> Any:
    """A number, or lists of numbers as deep as the model's input; lists become tuples."""
    if isinstance(raw, bool | int) or (isinstance(raw, float) and math.isfinite(raw)):
        return raw
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"expected a number or a list of numbers, found {shown(raw)}")
    parts = [constant(one, _) for one in raw]
    lengths = {len(part) if isinstance(part, tuple) else -1 for part in parts}
    if len(lengths) > 1:
        raise ValueError("expected lists of one length at each depth, found lists of different lengths")
    return tuple(parts)


def numbers(raw: object, _: Surroundings) -> tuple[float, ...]:
    given: list[Any] = raw if isinstance(raw, list) else [raw]
    if not given or any(isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) for x in given):
        raise ValueError(f"expected a number or a list of numbers, one a field, found {shown(raw)}")
    return tuple(map(float, given))


def picture_size(raw: object, _: Surroundings) -> tuple[int, int]:
    """Width and height in pixels."""
    wanted = "a width and a height in pixels, such as [640, 640]"
    if not isinstance(raw, list) or len(raw) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in raw):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    if not all(1 <= n <= LONGEST_SIDE for n in raw):
        raise ValueError(f"expected {wanted}, each from 1 to {LONGEST_SIDE}, found {raw}")
    return raw[0], raw[1]


def share(raw: object, around: Surroundings) -> float:
    """From 0 to 1."""
    value = _number(0)(raw, around)
    if value > 1:
        raise ValueError(f"expected a number from 0 to 1, found {value:g}" + (f"; write {value / 100:g}" if value <= 100 else ""))
    return value


def function(raw: object, around: Surroundings) -> Function:
    wanted = '"file.py:function"'
    if not isinstance(raw, str):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    file, colon, called = raw.rpartition(":")
    if not colon or not file.endswith(".py") or not called.isidentifier():
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    return Function(around.file(file), called)


STEPS = ("normalize", "detrend", "resize")


def step(raw: object, around: Surroundings) -> str | Function:
    if isinstance(raw, str) and raw in STEPS:
        return raw
    wanted = f'one of {quoted(STEPS)} or "file.py:function"'
    if isinstance(raw, str) and ":" in raw:
        return function(raw, around)
    meant = nearest(raw, STEPS) if isinstance(raw, str) else None
    raise ValueError(f"expected {wanted}, found {shown(raw)}" + (f'; did you mean "{meant}"?' if meant else ""))


def parse_field_path(raw: str) -> tuple[str | int, ...]:
    """`pressure.in`, `rows.0.v`, `"a.b".c` as its parts; bare digits are an index. Raises ValueError."""
    parts: list[str | int] = []
    rest = raw
    while True:
        quoted = re.match(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'', rest)
        if quoted:
            part: str | int = quoted[2] if quoted[2] is not None else re.sub(r"\\(.)", r"\1", quoted[1])
            rest = rest[quoted.end() :]
        else:
            word = rest.partition(".")[0]
            part, rest = int(word) if word.isdecimal() and word.isascii() else word, rest[len(word) :]
            if word == "" or any(c in word for c in "\"'"):
                raise ValueError(f'expected a path such as pressure.in, rows.0.v or "a.b".c, found {shown(raw)}')
        parts.append(part)
        if not rest:
            return tuple(parts)
        if not rest.startswith("."):
            raise ValueError(f'expected a path such as pressure.in, rows.0.v or "a.b".c, found {shown(raw)}')
        rest = rest[1:]


def path_of_name(name: str) -> tuple[str | int, ...]:
    """Where a field without a path of its own is: its name read as one, else the name as it stands."""
    try:
        return parse_field_path(name)
    except ValueError:
        return (name,)


def field_path(raw: object, _: Surroundings) -> tuple[str | int, ...]:
    if not isinstance(raw, str):
        raise ValueError(f"expected a path such as pressure.in, found {shown(raw)}")
    return parse_field_path(raw)


Text = Annotated[str, Value("text", text)]
Name = Annotated[str, Value("name", name)]
FieldName = Annotated[str, Value("name", field_name)]
Topic = Annotated[str, Value("topic", text)]
Filter = Annotated[str, Value("topic", topic_filter)]
BaseTopic = Annotated[str, Value("topic", base_topic)]
Flag = Annotated[bool, Value("bool", boolean)]
Count = Annotated[int, integer(1)]
Index = Annotated[int, integer(0)]
Number = Annotated[float, number()]
Factor = Annotated[float, Value("number", factor)]
Duration = Annotated[int, Value("duration", duration)]
Period = Annotated[int, Value("duration", period)]
Silence = Annotated[int, Value("duration or `never`", silence)]
Keepalive = Annotated[int, Value("duration", keepalive)]
Delay = Annotated[int, Value("duration", delay)]
Speed = Annotated[float, Value("number", speed)]
Expiry = Annotated[int, Value("duration", expiry)]
Size = Annotated[int, Value("size", size)]
Packet = Annotated[int, Value("size", packet)]
Rate = Annotated[float, Value("rate", rate)]
Range = Annotated[tuple[float, float], Value("range", value_range)]
StopBits = Annotated[float, Value("`1` `1.5` `2`", stop_bits)]
Marker = Annotated[bytes | OpenMarker, Value("bytes", marker)]
PlainBytes = Annotated[bytes, Value("bytes", plain_bytes)]
DType = Annotated[str, Value("type", dtype)]
WireType = Annotated[str, Value("type, `int24` `uint24`", wire_type)]
Bits = Annotated[tuple[int, int], Value("[low, count]", bit_field)]
Samples = Annotated[Span, Value("samples or duration", span)]
DeadBand = Annotated[float | None, Value("`true` or number", dead_band)]
FilePath = Annotated[Path, Value("path", path)]
SmallFile = Annotated[Path, Value("path", small_file)]
Providers = Annotated[tuple[str, ...] | None, Value("`auto` or list of `tensorrt` `cuda` `cpu`", providers)]
Option = Annotated[bool | int | float | str, Value("number, text, true or false", option)]
Constant = Annotated[Any, Value("number, list", constant)]
Numbers = Annotated[tuple[float, ...], Value("number+", numbers)]
PictureSize = Annotated[tuple[int, int], Value("ints", picture_size)]
Share = Annotated[float, Value("number", share)]
Custom = Annotated[Function, Value('`"file.py:function"`', function)]
StepName = Annotated[str | Function, Value('`normalize` `detrend` `resize` or `"file.py:function"`', step)]
FieldPath = Annotated[tuple[str | int, ...], Value("field path", field_path)]
