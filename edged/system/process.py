"""The process: settings that must be made before numpy and onnxruntime are imported, its standard streams."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from edged.errors import Fatal
from edged.system.readable import readable_lines

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
MALLOC = ((M_MMAP_THRESHOLD, 128 * 1024), (M_TRIM_THRESHOLD, 1024 * 1024), (M_ARENA_MAX, 1))

_was_closed: set[int] = set()
"""Numbers of the standard streams that the parent had closed."""


def set_up() -> bool:
    """Call first thing in `main`, before numpy or onnxruntime is imported. Returns whether malloc took its settings.

    glibc raises its mmap threshold with every large block freed, and then keeps what models free; a fixed threshold gives
    it back. What a large read needs while it is decoded, half a MiB in small blocks, stays: to give that back and fault it in
    again took 7 % of the serial path's time. One arena: the worker thread's memory need not live in a heap of its own.
    """
    _open_closed_streams()
    faulthandler.enable(file=2)  # all stacks into the journal at a crash, and at systemd's SIGABRT when the watchdog was not fed
    # structlog imports rich for its tracebacks wherever it is installed: 4 MiB that a daemon has no use for.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    # paho asks it for proxies, for sockets of its own that we never let it make; it brings http and email: 1.2 MiB.
    _put_off("urllib.request")
    # Words for errors, packages, golden samples, what shutil packs with, scratch folders: 1.8 MiB.
    for name in ("difflib", "tarfile", "zipfile", "bz2", "lzma", "tempfile"):
        _put_off(name)
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # a thread, a database and network use otherwise, from the import on
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    taken = [mallopt(name, value) == 1 for name, value in MALLOC]
    return all(taken)


def _open_closed_streams() -> None:
    """Opens standard input, output and error on /dev/null where the parent has closed them: else the next socket becomes
    number 2, and what a library writes to standard error goes to the broker."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(number, True)
            _was_closed.add(number)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _put_off(name: str) -> None:
    """Imports a module when something in it is used, not when it is imported. (`importlib.util.LazyLoader` would load it at its
    second import.)"""
    if name in sys.modules:
        return

    def load(wanted: str) -> Any:
        if wanted.startswith("__"):  # what imports ask of any module
            raise AttributeError(wanted)
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(importlib.import_module(name), wanted)

    stand_in = ModuleType(name)
    vars(stand_in)["__getattr__"] = load
    sys.modules[name] = stand_in
    package, _, own = name.rpartition(".")
    if package:
        setattr(importlib.import_module(package), own, stand_in)


def say(text: str, is_clean: bool = False) -> None:
    """Lines on standard output, as a terminal may be shown them; `is_clean`: what came from outside was made readable before, so
    that colours can stay. Raises as `flush` does, and Fatal when it was closed."""
    if 1 in _was_closed:
        raise Fatal("cannot write to standard output: it is closed")
    with _written():
        sys.stdout.write((text if is_clean else readable_lines(text)) + "\n")
        sys.stdout.flush()


def flush() -> None:
    """What was printed is written. Raises Fatal when it cannot be, as on a full disk, BrokenPipeError when nobody reads it."""
    with _written():
        sys.stdout.flush()


@contextlib.contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        give_up(1)
        if isinstance(error, BrokenPipeError):  # `| head`
            raise
        raise Fatal(f"cannot write to standard output: {error.strerror}") from error


def complain(text: str, is_clean: bool = False) -> None:
    """Lines on standard error, as a terminal may be shown them. Where that cannot be written there is nobody to be told.

    `is_clean`: what is from outside was made readable, and the rest may be colours."""
    try:
        sys.stderr.write((text if is_clean else readable_lines(text)) + "\n")
        sys.stderr.flush()
    except OSError:
        give_up(2)


def give_up(number: int) -> None:
    """What a stream still holds goes nowhere: else the interpreter tries again at its end, complains, and leaves with 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, number)
    os.close(nowhere)


def trim() -> None:
    """Gives freed memory back to the kernel; milliseconds, so not on the loop."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
