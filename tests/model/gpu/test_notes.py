from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from edged.model.gpu.gpu import Found, Gpu
from edged.model.gpu.notes import Notes
from edged.model.gpu.providers import Probe

GPU = Gpu("Orin", "L4T 36.4 CUDA 12.6", 8 << 30, 4 << 30, True, "100300")


def test_a_probe(tmp_path: Path) -> None:
    note = Notes(tmp_path / "engines").of("m-1", "cuda")
    assert note.read() is None
    note.write(probe := Probe(run_ns=1e6, cpu_ns=9e6, rows=16))
    assert note.read() == probe
    note.doubt()
    assert note.read() is None
    note.trust()
    assert note.read() == probe
    note.path.write_bytes(b"{")
    assert note.read() is None


def test_a_gpu_for_as_long_as_its_driver_is_the_same(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "engines")
    notes.keep_found("a", Found(GPU))
    assert notes.found("a") == Found(GPU)
    assert notes.found("b") is None
    notes.keep_found("b", Found(GPU, {"tensorrt": "libnvinfer.so.10: gone"}))
    notes.keep_found("b", Found(None))
    assert notes.found("b") is None


def test_where_nothing_can_be_written_nothing_is_noted(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file")
    notes = Notes(tmp_path / "engines")
    notes.keep_found("a", replace(Found(GPU)))
    note = notes.of("m-1", "cuda")
    note.write(Probe())
    note.doubt()
    note.trust()
    assert (notes.found("a"), note.read()) == (None, None)
