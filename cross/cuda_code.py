"""Which GPUs the code in a CUDA library is for, read from its fat binaries.

A wheel that lacks a Jetson's code installs, imports and lists CUDA there, and fails at the first kernel. The form of a fat binary
is not documented: a header of 16 bytes, then entries, each of a header and its code.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

MAGIC = bytes.fromhex("50ed55ba01001000")
PTX, BINARY = 1, 2
ARCHITECTURE_AT = 28


def architectures(library: Path) -> set[str]:
    """`sm_87`: code for it alone. `compute_80`: what the driver translates for it and any younger one."""
    found = set()
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(MAGIC)
        while at >= 0:
            (size,) = struct.unpack_from("<Q", data, at + len(MAGIC))
            at += 16
            end = min(at + size, len(data))
            while at + ARCHITECTURE_AT + 4 <= end:
                kind, header, code = struct.unpack_from("<HxxIQ", data, at)
                (number,) = struct.unpack_from("<I", data, at + ARCHITECTURE_AT)
                found.add(f"{'compute' if kind == PTX else 'sm'}_{number}")
                at += max(header + code, 1)
            at = data.find(MAGIC, end)
    return found


def runs_on(found: set[str], gpu: str) -> bool:
    """A Jetson runs code for itself and no other, or what is to be translated and not for a younger one."""
    number = int(gpu.removeprefix("sm_"))
    return gpu in found or any(one.startswith("compute_") and int(one[8:]) <= number for one in found)
