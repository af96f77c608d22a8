import contextlib
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.clock.clock import Clock
from edged.sources.recording import MAGIC, Header, Record, Recorder, read_header, read_records


class Ticking(Clock):
    """Monotonic ns that go on by 10 at each look; UTC stands at 5000."""

    def __init__(self) -> None:
        self._at = 90

    def now(self) -> int:
        self._at += 10
        return self._at

    def utc(self) -> int:
        return 5000


def read(data: bytes) -> tuple[Header | None, list[Record]]:
    file = io.BytesIO(data)
    header = read_header(file)
    return header, list(read_records(file, header.kind)) if header else []


def test_serial_reads_come_back_with_their_times(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.rec", "serial", "accel", Ticking()) as recorder:
        for data in (b"1,2\n3", b",4\n", bytes(range(256))):
            recorder.add(data)
        recorder.flush()
        assert (recorder.count, recorder.size) == (3, 264)
    header, records = read((tmp_path / "a.rec").read_bytes())
    assert header == Header("serial", "accel", 100, 5000)
    assert records == [Record(10, b"", b"1,2\n3"), Record(20, b"", b",4\n"), Record(30, b"", bytes(range(256)))]


def test_messages_come_back_with_their_topics(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.rec", "mqtt", "pumps", Ticking()) as recorder:
        recorder.add(b'{"t": 1}', "plant/ä/1".encode())
        recorder.add(b"", b"t")
    _, records = read((tmp_path / "a.rec").read_bytes())
    assert records == [Record(10, "plant/ä/1".encode(), b'{"t": 1}'), Record(20, b"t", b"")]


@given(cut=st.integers(0, 400), kind=st.sampled_from(["serial", "mqtt"]))
@settings(deadline=None)
def test_a_torn_tail_costs_only_the_torn_record(tmp_path_factory: pytest.TempPathFactory, cut: int, kind: str) -> None:
    path = tmp_path_factory.mktemp("rec") / "a.rec"
    with Recorder(path, kind, "s", Ticking()) as recorder:
        for i in range(10):
            recorder.add(b"x" * i, b"topic")
    whole = path.read_bytes()
    _, all_records = read(whole)
    file = io.BytesIO(whole)
    read_header(file)
    body = file.tell()
    _, records = read(whole[: body + cut])
    assert records == all_records[: len(records)]
    assert len(records) == 10 or body + cut < len(whole)


@given(st.binary(max_size=200))
def test_any_damage_ends_the_recording_and_nothing_else(junk: bytes) -> None:
    for kind in ("serial", "mqtt"):
        list(read_records(io.BytesIO(junk), kind))
    with contextlib.suppress(ValueError):
        read_header(io.BytesIO(MAGIC + junk))


def test_a_damaged_header_is_said_to_be_one() -> None:
    with pytest.raises(ValueError, match="damaged"):
        read_header(io.BytesIO(MAGIC + b'{"kind": "ser'))


def test_any_other_file_is_none_and_left_at_its_start() -> None:
    for data in (b"", b"time,ax\n1,2\n", b"edged"):
        file = io.BytesIO(data)
        assert read_header(file) is None
        assert file.read() == data


def test_unknown_header_keys_are_ignored() -> None:
    header = b'{"kind":"serial","source":"a","monotonic_ns":1,"utc_ns":2,"baudrate":9600}\n'
    assert read_header(io.BytesIO(MAGIC + header)) == Header("serial", "a", 1, 2)
