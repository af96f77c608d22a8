from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from edged.system import end_mark
from edged.system.end_mark import EndMark, marked

START = """
import mmap, os, signal, sys, threading
from edged.system.end_mark import PENDING, EndMark, words
path = sys.argv[1]
with open(path, "r+b") as file:
    file.truncate(8192)
    file.seek(256)
    file.write(words(10))
    file.flush()
    memory = mmap.mmap(file.fileno(), 8192)
mark = EndMark(10)
mark.keep_in(memory, 256)
def set_mark(number):
    mark.head[PENDING] = mark.places[number]
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def marks_after(path: Path, work: str) -> list[int]:
    """The marks in a file once a process has ended that did this work."""
    path.touch()
    subprocess.run([sys.executable, "-c", START + work, str(path)], check=False, cwd=Path(__file__).parents[2], timeout=60)
    return marked(path.read_bytes()[256:], 10)


@pytest.mark.parametrize(
    ("work", "marks"),
    [
        ("kill()", []),
        ("set_mark(1); kill()", [1]),
        ("set_mark(1); set_mark(9); kill()", [9]),
        ("set_mark(9); set_mark(0); kill()", []),
        ("set_mark(2); os.kill(os.getpid(), signal.SIGSEGV)", [2]),
        ("set_mark(2); os.abort()", [2]),
        ("set_mark(2); os._exit(0)", [2]),
        ("set_mark(2); del mark, memory; kill()", []),
        ('set_mark(2); os.execv("/bin/true", ["true"])', [2]),
        ("set_mark(2); os.truncate(path, 0); kill()", []),
        ("set_mark(2); threading.Thread(target=kill).start(); signal.pause()", [2]),
        ("set_mark(2); thread = threading.Thread(target=int); thread.start(); thread.join(); set_mark(0); kill()", []),
        ("set_mark(2); os.waitpid(os.fork() or kill(), 0); set_mark(0); kill()", []),
    ],
)
def test_the_kernel_marks_what_was_set_at_the_end(tmp_path: Path, work: str, marks: list[int]) -> None:
    assert marks_after(tmp_path / "file", work) == marks


def test_a_machine_of_which_nothing_is_known_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_mark, "SET_ROBUST_LIST", {})
    with mmap.mmap(-1, 8192) as memory, pytest.raises(OSError, match="no number of set_robust_list is known"):
        EndMark(10).keep_in(memory, 0)


def test_a_kernel_without_them_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_mark, "SET_ROBUST_LIST", dict.fromkeys(end_mark.SET_ROBUST_LIST, 1 << 20))
    with pytest.raises(OSError, match="not implemented"):
        EndMark(10).keep_in(mmap.mmap(-1, 8192), 0)
