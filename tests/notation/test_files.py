from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.notation.files import MAX_BYTES, read_small


def test_what_a_small_file_holds(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(MAX_BYTES))
    assert read_small(tmp_path / "file") == bytes(MAX_BYTES)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "{} is not there; mount it"),
        (os.mkdir, "expected a file, {} is a folder"),
        (os.mkfifo, "{}: expected a plain file, found a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "{}: expected a plain file, found a device"),
        (lambda path: path.write_bytes(bytes(MAX_BYTES + 1)), "{}: expected at most 1.0 MiB, found 1.0 MiB"),
        (lambda path: path.symlink_to(path), "{} cannot be read: too many levels of symbolic links"),
    ],
)
def test_what_is_none_is_refused_in_words(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "file")
    with pytest.raises(ValueError, match=r"\w") as caught:
        read_small(tmp_path / "file", "; mount it")
    assert str(caught.value) == said.format(tmp_path / "file")
