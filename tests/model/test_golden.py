from __future__ import annotations

import contextlib
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edged.model.golden import MAX_BYTES, Golden


def saved(path: Path) -> Path:
    np.savez_compressed(path, x=np.arange(12, dtype=np.float32).reshape(4, 3), y=np.asfortranarray(np.eye(4, 2)))
    return path


def npy(shape: str, data: bytes = b"", descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def zipped(path: Path, compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Golden:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return Golden(path)


def refused(golden: Golden) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        golden.read()
    return str(caught.value)


def test_all_of_it_and_the_first_samples(tmp_path: Path) -> None:
    golden = Golden(saved(tmp_path / "g.npz"))
    assert golden.shapes() == {"x": (4, 3), "y": (4, 2)}
    whole, first = golden.read(), golden.read(2)
    np.testing.assert_array_equal(whole["x"], np.arange(12).reshape(4, 3))
    np.testing.assert_array_equal(whole["y"], np.eye(4, 2))
    np.testing.assert_array_equal(first["x"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(first["y"], np.eye(2))
    assert golden.read(9)["x"].shape == (4, 3)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "g.npz", x=np.array([{}]))
    assert "it holds Python objects" in refused(Golden(tmp_path / "g.npz"))
    (tmp_path / "g.npz").write_bytes(pickle.dumps([1]))
    assert refused(Golden(tmp_path / "g.npz")).startswith("no .npz file")
    assert "magic string" in refused(zipped(tmp_path / "g.npz", x=pickle.dumps([1])))


def test_an_array_is_never_larger_than_it_may_be(tmp_path: Path) -> None:
    golden = zipped(tmp_path / "g.npz", x=npy("(1, 99999999999)", bytes(1000)))
    assert refused(golden) == f"399999999996 bytes unpacked in x; {MAX_BYTES} is the most"
    assert golden.shapes() == {"x": (1, 99999999999)}
    half = npy("(12582912,)", bytes(48 << 20))
    assert f"{MAX_BYTES} is the most" in refused(zipped(tmp_path / "g.npz", x=half, y=half))
    assert "bytes of an array of 400" in refused(zipped(tmp_path / "g.npz", x=npy("(100,)", bytes(5))))


def test_only_what_numpy_writes_is_unpacked(tmp_path: Path) -> None:
    golden = zipped(tmp_path / "g.npz", zipfile.ZIP_LZMA, x=npy("(1,)", bytes(4)))
    assert refused(golden) == "x.npy is compressed in another way than numpy does it"


def test_a_directory_of_many_entries_is_not_read(tmp_path: Path) -> None:
    golden = zipped(tmp_path / "g.npz", zipfile.ZIP_STORED, **{f"x{i}": b"" for i in range(2000)})
    assert "its directory has" in refused(golden)
    data = bytearray((tmp_path / "g.npz").read_bytes())
    end = len(data) - 22
    data[end + 12 : end + 16] = struct.pack("<I", 100)  # it lies, and the place for large archives tells the truth
    data[end:end] = b"PK\x06\x07" + bytes(16)
    (tmp_path / "g.npz").write_bytes(data)
    assert "its directory has" in refused(golden)


def test_files_that_are_none_are_refused_at_once(tmp_path: Path) -> None:
    golden = Golden(tmp_path / "g.npz")
    os.mkfifo(golden.path)
    assert refused(golden) == "expected a plain file, found a pipe"
    golden.path.unlink()
    golden.path.symlink_to("/dev/zero")
    assert refused(golden) == "expected a plain file, found a device"
    golden.path.unlink()
    golden.path.touch()
    os.truncate(golden.path, 300 << 20)
    assert refused(golden) == "expected at most 64.0 MiB, found 300.0 MiB"


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6), cut=st.integers(0, 200))
def test_damage_is_an_error_in_words(tmp_path: Path, places: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(saved(tmp_path / "g.npz").read_bytes())
    for at, byte in places:
        data[at % len(data)] = byte
    (tmp_path / "g.npz").write_bytes(data[: len(data) - cut if cut < 20 else None])
    arrays: dict[str, NDArray[Any]] = {}
    with contextlib.suppress(ValueError, OSError):
        arrays = Golden(tmp_path / "g.npz").read()
    assert sum(a.nbytes for a in arrays.values()) <= MAX_BYTES
