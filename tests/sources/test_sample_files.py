from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edged.sources.recording import Header, Record, Sample, head_of, read_header, read_records, record_of
from edged.sources.sample_files import Named, Unknown, attach, keep, samples_in

S = 10**9
MAX_BYTES = 1 << 20


def sample(seq: int, size: int = 100, label: str = "") -> tuple[str, bytes]:
    named = Named(1_700_000_000 * S + seq * S, "1a2b3c4d", seq)
    header = Header(
        "mqtt", "cam", 5, named.time_ns, Sample("look", "unsure", named.time_ns, msgspec.Raw(b'{"score":0.5}'), "yard", label)
    )
    return named.file(), head_of(header) + record_of("mqtt", Record(0, b"cam/yard", b"x" * size))


def test_a_sample_is_a_recording(tmp_path: Path) -> None:
    name, data = sample(7)
    assert keep(tmp_path, [(name, data)], MAX_BYTES) == 0
    assert name == "20231114T221327.000Z-1a2b3c4d-7.rec"
    with (tmp_path / name).open("rb") as file:
        header = read_header(file)
        assert header is not None
        assert header.sample is not None
        assert (header.kind, header.source, header.sample.key, bytes(header.sample.result)) == (
            "mqtt",
            "cam",
            "yard",
            b'{"score":0.5}',
        )
        assert list(read_records(file, header.kind)) == [Record(0, b"cam/yard", b"x" * 100)]


def test_a_label_goes_into_the_header_and_leaves_the_rest(tmp_path: Path) -> None:
    name, data = sample(7)
    keep(tmp_path, [(name, data), sample(17), sample(70)], MAX_BYTES)
    assert attach(tmp_path, "1a2b3c4d", 7, "no \u2603 person", MAX_BYTES) == [name]
    with (tmp_path / name).open("rb") as file:
        header = read_header(file)
        assert header is not None
        assert header.sample is not None
        assert header.sample.label == "no \u2603 person"
        assert [one.data for one in read_records(file, "mqtt")] == [b"x" * 100]
    assert attach(tmp_path, "1a2b3c4d", 7, "person", MAX_BYTES) == [name], "the last word counts"
    for run, seq in (("1a2b3c4d", 8), ("ffffffff", 7)):
        with pytest.raises(Unknown, match=f"no sample of run {run}, seq {seq}"):
            attach(tmp_path, run, seq, "person", MAX_BYTES)
    with pytest.raises(Unknown):
        attach(tmp_path / "none", "1a2b3c4d", 7, "person", MAX_BYTES)


def test_the_oldest_go_and_those_with_a_label_last(tmp_path: Path) -> None:
    size = len(sample(1)[1])
    for seq in range(1, 5):
        keep(tmp_path, [sample(seq)], 4 * size + 20)
    attach(tmp_path, "1a2b3c4d", 1, "x", MAX_BYTES)
    assert keep(tmp_path, [sample(5)], 4 * size + 20) == 1
    assert [path.name.split("-")[-1] for path in samples_in(tmp_path)] == ["1.rec", "3.rec", "4.rec", "5.rec"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 * size + 20
    assert keep(tmp_path, [sample(6, 2 * size)], 4 * size + 20) == 3
    assert [path.name.split("-")[-1] for path in samples_in(tmp_path)] == ["1.rec", "6.rec"]
    with pytest.raises(ValueError, match=r"samples\.max_bytes"):
        keep(tmp_path, [sample(7, 5 * size)], 4 * size)
    assert len(samples_in(tmp_path)) == 2, "nothing goes for what never fits"
