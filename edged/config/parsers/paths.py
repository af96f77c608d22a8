"""Files that are named, and functions in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from edged.config.key_file import KeyFile, parse_key_file
from edged.config.parsers.value import Surroundings, Value
from edged.notation.files import read_small
from edged.notation.values import Function
from edged.notation.words import nearest, quoted, shown

STEPS = ("normalize", "detrend", "spectrogram", "log_mel", "bands", "resize")


def path(raw: object, around: Surroundings) -> Path:
    """Absolute; what is relative is relative to the configuration's folder."""
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError(f"expected the path of a file, found {shown(raw)}")
    return around.place(raw)


def small_file(raw: object, around: Surroundings) -> Path:
    return around.file(str(path(raw, around)))


def key_file(raw: object, around: Surroundings) -> KeyFile:
    where = small_file(raw, around)
    return parse_key_file(path(raw, around), str(raw), read_small(where))


def device_path(raw: object, _: Surroundings) -> str:
    """The path of a device, or a name of the file: which one is there is judged where the names are known."""
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError(f'expected a device such as "/dev/ttyUSB0", found {shown(raw)}')
    if raw.startswith("tcp:"):
        raise ValueError(f'expected a serial port, found {shown(raw)}; "tcp://" is reserved: Modbus over TCP is not there yet')
    return raw


def is_port_name(port: object) -> bool:
    """Whether a port is named that stands in a table of its own, and no path."""
    return isinstance(port, str) and "/" not in port


def function(raw: object, around: Surroundings) -> Function:
    wanted = '"file.py:function"'
    if not isinstance(raw, str):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    file, colon, called = raw.rpartition(":")
    if not colon or not file.endswith(".py") or not called.isidentifier():
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    return Function(around.file(file), called)


def step(raw: object, around: Surroundings) -> str | Function:
    if isinstance(raw, str) and raw in STEPS:
        return raw
    wanted = f'one of {quoted(STEPS)} or "file.py:function"'
    if isinstance(raw, str) and ":" in raw:
        return function(raw, around)
    meant = nearest(raw, STEPS) if isinstance(raw, str) else None
    raise ValueError(f"expected {wanted}, found {shown(raw)}" + (f'; did you mean "{meant}"?' if meant else ""))


DevicePath = Annotated[str, Value("string", device_path)]
FilePath = Annotated[Path, Value("path", path)]
SmallFile = Annotated[Path, Value("path", small_file)]
KeyTableFile = Annotated[KeyFile, Value("path", key_file)]
Custom = Annotated[Function, Value('`"file.py:function"`', function)]
STEP_NAME = Value(f'{" ".join(f"`{name}`" for name in STEPS)} or `"file.py:function"`', step)
StepName = Annotated[str | Function, STEP_NAME]
