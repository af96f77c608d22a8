"""A mark that the kernel makes in a mapped file when a thread ends, however it ends, a SIGKILL too.

The kernel keeps a list of the futexes that a thread holds, so that others learn of its end (set_robust_list(2), and
Documentation/locking/robust-futex-ABI.rst of Linux): when the thread ends, it writes FUTEX_OWNER_DIED into each of their words
that names the thread. Here each mark is such a word, and the thread "is about to take" the one that is set. So to set a mark is
a store into memory of our own, without a system call; and where the file was cut short, only the kernel's write fails, while a
store of ours would be the end of the process (SIGBUS).

The kernel no longer looks at glibc's list for this thread, which is for robust mutexes: edged has none.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import threading

SET_ROBUST_LIST = {
    ("x86_64", 8): 273,
    ("aarch64", 8): 99,
    ("riscv64", 8): 99,
    ("aarch64", 4): 338,
    ("armv8l", 4): 338,
    ("armv7l", 4): 338,
    ("armv6l", 4): 338,
}
"""The number of the system call, which glibc does not offer, by machine and bytes of a pointer."""
OWNER_DIED = 0x40000000
WORD = 4
PENDING = 2
"""The place in `EndMark.head` of what the thread is about to take."""
_HEADS: dict[int, mmap.mmap] = {}
"""Of each thread, what the kernel looks at when the thread ends."""


class EndMark:
    """`head[PENDING] = places[n]` sets mark n of `count`, in the place of the one before; 0 sets none. The kernel makes
    them after `keep_in`, and as long as this object lives."""

    def __init__(self, count: int) -> None:
        self._memory = self._file = mmap.mmap(-1, mmap.PAGESIZE)
        self.head = memoryview(self._memory).cast("P")
        self.places = [0] * count

    def keep_in(self, file: mmap.mmap, offset: int) -> None:
        """From now on the kernel marks a word of `file` when this thread ends; `words` of it are from `offset` on. Raises
        OSError."""
        pointer, machine = struct.calcsize("P"), os.uname().machine
        number = SET_ROBUST_LIST.get((machine, pointer))
        if number is None:
            raise OSError(errno.ENOSYS, f"no number of set_robust_list is known for {machine}")
        self._file = file
        first, head = _address(file) + offset, _address(self._memory)
        self.places[1:] = range(first + WORD, first + WORD * len(self.places), WORD)
        self.head[0], self.head[1], self.head[PENDING] = head, 0, 0  # an empty list, a futex is at 0 of its place, none is set
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(ctypes.c_long(number), ctypes.c_void_p(head), ctypes.c_size_t(3 * pointer)):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _HEADS[threading.get_native_id()] = self._memory


def words(count: int) -> bytes:
    """The words of so many marks, for this thread."""
    return struct.pack("=I", threading.get_native_id()) * count


def marked(found: bytes, count: int) -> list[int]:
    """Which marks the words in a file say: none or one, of a file of ours. Of one that was cut short, no word is marked."""
    return [n for n, word in enumerate(struct.unpack_from(f"={count}I", found.ljust(WORD * count, b"\0"))) if word & OWNER_DIED]


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
