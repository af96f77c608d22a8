"""Samples with known answers, in an .npz beside a model: nothing in that file is trusted.

Whoever plans a model looks at the headers of its arrays; the data is read where the model is tried. Pickles are never read, the
directory of the archive is bounded before zipfile reads it, an array is never larger than it says, and whatever zipfile, zlib and
numpy raise for odd bytes is one error in words.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edged.system.plain_file import UnfitFile, opened_plain

MAX_BYTES = 64 << 20  # the file, and what it has unpacked
MAX_DIRECTORY = 64 << 10
END, END_BYTES, END_SPAN = b"PK\x05\x06", 22, (1 << 16) + 22
END_64, END_64_BYTES = b"PK\x06\x07", 20
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class _Header(NamedTuple):
    shape: tuple[int, ...]
    is_by_column: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Golden(msgspec.Struct, frozen=True):
    """Where the samples are, and how far the answers may be off: `|a - b| <= atol + rtol * |b|`."""

    path: Path
    rtol: float = 1e-3
    atol: float = 1e-4

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays, by what their headers say. Raises `OSError` or `ValueError`."""
        with _members(self.path) as members:
            return {name: _header(file).shape for name, file in members}

    def read(self, most: int | None = None) -> dict[str, NDArray[Any]]:
        """The arrays, or the first so many samples of each. Raises `OSError` or `ValueError`."""
        arrays: dict[str, NDArray[Any]] = {}
        with _members(self.path) as members:
            for name, file in members:
                header = _header(file)
                if header.size + sum(a.nbytes for a in arrays.values()) > MAX_BYTES:
                    raise ValueError(f"{header.size} bytes unpacked in {name}; {MAX_BYTES} is the most")
                arrays[name] = _array(file, header, most)
        return arrays


@contextmanager
def _members(path: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """The arrays by name, each to be read before the next one is taken."""
    try:
        with opened_plain(path, MAX_BYTES) as (fd, status):
            _check_directory(fd, status.st_size)
            with open(fd, "rb", closefd=False) as file, zipfile.ZipFile(file) as archive:
                yield _opened(archive)
    except UnfitFile:
        raise
    except zipfile.BadZipFile as error:
        raise ValueError(f"no .npz file: {error}") from None
    except (OSError, ValueError):
        raise
    except Exception as error:  # of odd bytes: zlib.error, EOFError, struct.error, RuntimeError, NotImplementedError, ...
        raise ValueError(f"a damaged .npz file: {error or type(error).__name__}") from None


def _opened(archive: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for info in archive.infolist():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename} is compressed in another way than numpy does it")
        with archive.open(info) as file:
            yield info.filename.removesuffix(".npy"), file


def _check_directory(fd: int, size: int) -> None:
    """zipfile reads the whole directory at once, and makes a few hundred bytes of each of its entries."""
    tail = os.pread(fd, END_SPAN, max(0, size - END_SPAN))
    at = len(tail) - END_BYTES if tail[-END_BYTES:][:4] == END and tail[-2:] == b"\0\0" else tail.rfind(END)
    if at < 0 or len(tail) < at + END_BYTES:
        raise ValueError("no .npz file: File is not a zip file")
    (directory_bytes,) = struct.unpack_from("<I", tail, at + 12)
    if directory_bytes > MAX_DIRECTORY or tail[max(0, at - END_64_BYTES) : at].startswith(END_64):
        raise ValueError(f"no .npz file: its directory has {directory_bytes} bytes; {MAX_DIRECTORY} is the most")


def _header(file: IO[bytes]) -> _Header:
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"an array in version {version} of numpy's format; expected 1.0 or 2.0")
    header = _Header(*HEADERS[version](file))
    if header.dtype.hasobject:
        raise ValueError("it holds Python objects, which are never read (allow_pickle)")
    return header


def _array(file: IO[bytes], header: _Header, most: int | None) -> NDArray[Any]:
    shape, by_column, dtype = header
    if most is not None and shape and not by_column:
        shape = (min(most, shape[0]), *shape[1:])
    wanted = math.prod(shape) * dtype.itemsize
    data = file.read(wanted)
    if len(data) != wanted:
        raise ValueError(f"a damaged .npz file: {len(data)} bytes of an array of {wanted}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if by_column else "C")
    return array if most is None else array[:most]
