import asyncio
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.clock.clock import Clock
from edged.config.schema import Checksum, Decode, FieldSpec, Frame, Time
from edged.config.schema import ReplaySource as Settings
from edged.decode import DecodePlan, make_payload_decoder, plan_decode
from edged.decode.resize import View
from edged.decode.stream import make_stream_decoder
from edged.errors import Retryable
from edged.records import Block
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.recording import MAGIC, Recorder
from edged.sources.replay import CHUNK_BYTES, ReplaySource
from edged.stamp import KeyTable, Lateness, Stamper
from tests.support.pictures import BLUE, GREEN, RED, pixels, png
from tests.support.ptys import turns

AX, AY = FieldSpec(name="ax"), FieldSpec(name="ay")
CSV = Decode(format="csv", fields=(AX, AY))
S = 10**9


class Played:
    """A source with its parts and what it pushed."""

    def __init__(self, path: Path, *, decode: Decode = CSV, views: tuple[View, ...] = (), **keys: Any) -> None:
        settings = Settings(path=path, decode=decode, **{"speed": 0.0, **keys})
        plan = plan_decode(
            settings.decode,
            settings.key or (),
            frame=settings.frame,
            checksum=settings.checksum,
            max_bytes=settings.max_bytes,
            views=views,
        )
        assert isinstance(plan, DecodePlan), plan
        self.flow = Flow()
        self.counts = SourceCounts("accel")
        table = KeyTable(8, None) if settings.key else None
        self.stamper = Stamper(plan.time_format, settings.rate, table)
        self.source = ReplaySource(
            "accel",
            settings,
            make_stream_decoder(plan),
            make_payload_decoder(plan),
            self.stamper,
            self.flow,
            self.counts,
            Clock(),
            plan.is_slow,
        )
        self.blocks: list[Block] = []

    async def play(self) -> None:
        await asyncio.wait_for(self.source.run(self.blocks.append), 10)
        assert self.source.state == "finished"
        assert self.counts.balance() == 0

    @property
    def values(self) -> list[list[float]]:
        return np.concatenate([b.values for b in self.blocks]).tolist() if self.blocks else []

    @property
    def utc(self) -> list[int]:
        return np.concatenate([b.time + b.offset for b in self.blocks]).tolist() if self.blocks else []


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def test_a_plain_file_on_the_clock_of_its_rate(tmp_path: Path) -> None:
    lines = b"".join(b"%d,%d\n" % (i, 2 * i) for i in range(20_000))
    path = write(tmp_path / "run.csv", lines.removesuffix(b"\n"))  # the last line may lack its end
    played = [Played(path, rate=1000.0) for _ in range(2)]
    for p in played:
        before = Clock.now()
        await p.play()
        assert all(before <= b.arrival <= Clock.now() for b in p.blocks)
        assert len(p.blocks) < 10
    assert played[0].values == played[1].values == [[i, 2 * i] for i in range(20_000)]
    assert played[0].utc == played[1].utc
    np.testing.assert_allclose(played[0].utc, np.arange(20_000) * 1e6, atol=1e6)


async def test_a_header_and_its_own_times(tmp_path: Path) -> None:
    text = b"time,ax,spare,ay\n2026-01-02T03:04:05Z,1,x,2\n2026-01-02T03:04:06.5Z,3,x,4\n"
    decode = Decode(format="csv", header=True, fields=(AX, AY), time=Time(field="time", format="rfc3339"))
    p = Played(write(tmp_path / "run.csv", text), decode=decode)
    await p.play()
    assert p.values == [[1, 2], [3, 4]]
    assert np.diff(p.utc).tolist() == [3 * S // 2]
    assert p.utc[0] == 1767323045 * S
    assert [b.offset for b in p.blocks] == [0]


async def test_elapsed_times_count_from_1970(tmp_path: Path) -> None:
    decode = Decode(format="csv", fields=(FieldSpec(name="t"), AX, AY), time=Time(field="t", format="elapsed_ms"))
    p = Played(write(tmp_path / "run.csv", b"500,1,2\n510,3,4\n"), decode=decode)
    await p.play()
    assert p.utc == [500 * 10**6, 510 * 10**6]


async def test_binary_frames_with_damage_between(tmp_path: Path) -> None:
    def frame(value: int) -> bytes:
        body = b"\xaa\x55\x02" + struct.pack("<h", value)
        xor = 0
        for byte in body:
            xor ^= byte
        return body + bytes([xor])

    data = frame(1) + b"\xaa\xaa\x55" + frame(-2) + frame(3)[:-1] + b"\x00" + frame(4) * 40
    decode = Decode(format="struct", fields=(FieldSpec(name="a", dtype="int16"),))
    p = Played(
        write(tmp_path / "run.bin", data),
        decode=decode,
        frame=Frame(type="length", sync=b"\xaa\x55", length="uint8"),
        checksum=Checksum(type="xor8"),
    )
    await p.play()
    assert p.values == [[1], [-2], *[[4]] * 40]
    assert p.counts.rejected >= 1


def record_serial(path: Path) -> int:
    with Recorder(path, "serial", "accel", Clock()) as recorder:
        for data in (b"1,2\n3", b",4\n", b"5,6\n"):
            recorder.add(data)
    return Clock.utc()


async def test_a_recording_plays_on_its_own_clock(tmp_path: Path) -> None:
    ended = record_serial(tmp_path / "a.rec")
    played = [Played(tmp_path / "a.rec") for _ in range(2)]
    for p in played:
        await p.play()
        assert p.values == [[1, 2], [3, 4], [5, 6]]
    assert played[0].utc == played[1].utc
    assert ended - 10 * S < played[0].utc[0] < played[0].utc[1] < played[0].utc[2] <= ended


@pytest.mark.parametrize("speed", [0.0, 1e6])
async def test_silences_of_a_recording_end_blocks(speed: float, tmp_path: Path) -> None:
    reads = [(0, b"t 21.5\n"), (S // 100, b"h 40\n"), (S, b"t 22.5\n"), (S + S // 100, b"h 41\n")]
    path = tmp_path / "run.rec"
    with Recorder(path, "serial", "accel", Clock()):
        pass
    with path.open("ab") as file:
        for since, data in reads:
            file.write(struct.pack("<QI", since, len(data)) + data)
    decode = Decode(format="text", fields=(FieldSpec(name="t", after="t"), FieldSpec(name="h", after="h")))
    played = Played(path, decode=decode, frame=Frame(type="block", end=None, gap=S // 2), speed=speed)
    await played.play()
    assert played.values == [[21.5, 40], [22.5, 41]]


async def test_a_recording_of_messages_needs_no_frames(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.rec", "mqtt", "pumps", Clock()) as recorder:
        recorder.add(b'{"ax": 1, "ay": 2, "id": "p1"}', b"plant/1")
        recorder.add(b"nonsense", b"plant/1")
        recorder.add(b'{"ax": 3, "ay": 4, "id": "p2"}', b"plant/2")
    p = Played(tmp_path / "a.rec", decode=Decode(format="json", fields=(AX, AY)), key=("id",))
    await p.play()
    assert p.values == [[1, 2], [3, 4]]
    assert [np.unique(b.keys).tolist() for b in p.blocks] == [[0], [1]]
    assert (p.counts.messages, p.counts.rejected) == (3, 1)


async def test_pictures_from_frames_and_from_a_recording(tmp_path: Path) -> None:
    """Decoded beside the loop, in order; of each its size is carried."""
    decode = Decode(format="image", fields=(FieldSpec(name="image"),), max_pixels=10000)
    pictures = [png(pixels(4 * i, 4, (0, 0, 4 * i, 4, color))) for i, color in enumerate((RED, GREEN, BLUE), 1)]
    frames = b"".join(len(p).to_bytes(4, "little") + p for p in pictures)
    with Recorder(tmp_path / "recorded", "mqtt", "cam", Clock()) as recorder:
        for picture in pictures:
            recorder.add(picture, b"cam")
    plain = write(tmp_path / "frames", frames)
    view = View((2, 2), "stretch", "rgb")
    for path in (plain, tmp_path / "recorded"):
        played = Played(path, decode=decode, frame=Frame(type="length", length="uint32"), views=(view,), max_bytes=1 << 20)
        await played.play()
        assert [row[:3] for row in played.values] == [list(RED), list(GREEN), list(BLUE)]
        carried = [text for block in played.blocks for text in block.carried or ()]
        assert carried == [b'{"width":%d,"height":4}' % (4 * i) for i in (1, 2, 3)]


async def test_with_a_speed_it_is_a_live_sensor(tmp_path: Path) -> None:
    path = write(tmp_path / "run.csv", b"".join(b"%d,0\n" % i for i in range(300)))
    p = Played(path, rate=100.0, speed=20.0)  # 3 s in 150 ms
    before, utc = Clock.now(), Clock.utc()
    await p.play()
    assert len(p.values) == 300
    assert Clock.now() - before >= 299 * S // 100 // 20
    assert len(p.blocks) >= 3
    assert all(b.arrival >= before + int(b.values[-1, 0]) * S // 100 // 20 for b in p.blocks)
    assert all(utc <= t <= Clock.utc() + S for t in p.utc[-10:])


async def test_own_times_set_the_pace(tmp_path: Path) -> None:
    path = write(tmp_path / "run.csv", b"1000,1,0\n1000.2,2,0\n1004,3,0\n")
    decode = Decode(format="csv", fields=(FieldSpec(name="t"), AX, AY), time=Time(field="t", format="unix_s"))
    p = Played(path, decode=decode, speed=40.0)
    before = Clock.now()
    await p.play()
    assert [b.values[:, 0].tolist() for b in p.blocks] == [[1, 2], [3]]
    assert p.blocks[1].arrival - before >= S // 10
    assert p.utc == [1000 * S, 1000 * S + S // 5, 1004 * S]


async def test_a_recording_is_played_at_its_pace(tmp_path: Path) -> None:
    class Slow(Clock):
        at = 0

        def now(self) -> int:
            self.at += S
            return self.at

    with Recorder(tmp_path / "a.rec", "serial", "accel", Slow()) as recorder:
        for i in range(3):
            recorder.add(b"%d,0\n" % i)
    p = Played(tmp_path / "a.rec", speed=50.0)
    before = Clock.now()
    await p.play()
    assert [b.arrival - before >= (i + 1) * S // 50 for i, b in enumerate(p.blocks)] == [True] * 3


async def test_rate_is_that_of_one_key(tmp_path: Path) -> None:
    decode = Decode(format="csv", fields=(FieldSpec(name="id"), AX, AY))
    path = write(tmp_path / "run.csv", b"a,0,0\nb,0,0\na,1,0\nb,1,0\na,2,0\n")
    p = Played(path, decode=decode, key=("id",), rate=2.0)
    await p.play()
    assert max(p.utc) == S


async def test_a_held_flow_stops_it(tmp_path: Path) -> None:
    path = write(tmp_path / "run.csv", b"1,2\n" * 100_000)
    p = Played(path)
    running = asyncio.create_task(p.play())
    await turns(1)
    p.flow.hold()
    await turns(50)
    held = len(p.blocks)
    await turns(50)
    assert len(p.blocks) == held <= 2
    p.flow.release()
    await running
    assert p.counts.rows == 100_000


async def test_what_cannot_be_played_is_retryable(tmp_path: Path) -> None:
    for path, state in (
        (tmp_path / "none.csv", "missing"),
        (tmp_path, "refused"),
        (write(tmp_path / "bad.rec", MAGIC + b"{\n"), "refused"),
    ):
        p = Played(path)
        with pytest.raises(Retryable) as raised:
            await p.play()
        assert (p.source.state, p.source.reason) == (raised.value.state, raised.value.reason)
        assert raised.value.state == state
        assert str(path) in raised.value.reason


async def test_an_empty_file_is_finished_at_once(tmp_path: Path) -> None:
    p = Played(write(tmp_path / "empty.csv", b""))
    await p.play()
    assert p.blocks == []


async def test_a_fault_in_a_decoder_costs_its_piece(tmp_path: Path) -> None:
    class Faulty:
        def __init__(self, inner: Any) -> None:
            self.inner, self.reset, self.pending, self.is_waiting = inner, inner.reset, 0, False
            self.spoil, self.quiet = inner.spoil, inner.quiet
            self.pieces = 0

        def feed(self, data: bytes) -> Any:
            self.pieces += 1
            if self.pieces == 2:
                raise ZeroDivisionError("13")
            return self.inner.feed(data)

    path = write(tmp_path / "run.csv", b"1,2\n" * (3 * CHUNK_BYTES // 4))
    replay = Played(path, rate=100.0)
    replay.source._stream = Faulty(replay.source._stream)
    await replay.play()
    assert (len(replay.values), replay.counts.drops.by_reason) == (2 * CHUNK_BYTES // 4, {"internal_error": 1})


async def test_what_is_out_of_order_waits_on_the_clock_of_the_file(tmp_path: Path) -> None:
    """Whole, piece by piece: the same order, whoever looks when; at the end nothing waits."""
    order = [0, 2, 1, 3, 6, 5, 4, 7, 2]  # the last one is too late
    text = b"time,ax,ay\n" + b"".join(b"2026-01-02T03:04:%02dZ,%d,0\n" % (n, n) for n in order)
    decode = Decode(format="csv", header=True, fields=(AX, AY), time=Time(field="time", format="rfc3339"))
    p = Played(write(tmp_path / "run.csv", text), decode=decode)
    p.stamper.lateness = Lateness(2 * S, 5, lambda keys, arrival: None)
    await p.play()
    assert [x for x, _ in p.values] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert p.counts.drops.by_reason == {"late": 1}
    assert p.counts.read == 9
    assert len(p.stamper.lateness) == 0
