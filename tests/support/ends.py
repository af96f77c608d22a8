"""What the end of a process leaves in the file of its stages."""

from __future__ import annotations

import struct

from edged.system.end_mark import OWNER_DIED, WORD
from edged.system.hang_recorder import WORDS


def at_an_end(file: bytes, number: int = 1) -> bytes:
    """The file as the kernel leaves it at an end in the stage of this number, as `tests/system/test_end_mark.py` has it do."""
    data = bytearray(file)
    struct.pack_into("=I", data, WORDS + WORD * number, OWNER_DIED)
    return bytes(data)
