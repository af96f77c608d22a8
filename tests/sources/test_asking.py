"""Devices that must be spoken to, as their makers describe them, on real pseudo-terminals; and whose turn it is to be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edged.clock.clock import Clock
from edged.config.load import read
from edged.config.schema import Send
from edged.errors import Problem
from edged.plan.sources import plan_sources
from edged.records import Block
from edged.sources.asked import Asked
from edged.sources.asking import LOST_BEFORE_SLOWER, SLOWEST_NS, Conversation, Turns, questions, said
from edged.sources.counts import SourceCounts
from edged.sources.flow import Flow
from edged.sources.kind import Parts
from edged.sources.serial import SerialSource, build
from edged.stamp import Stamper
from edged.system.hang_recorder import Stages
from tests.support.devices import Answer, Device, answers
from tests.support.ptys import LOOPS, until

S = 10**9


@pytest.fixture(params=list(LOOPS.values()), ids=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    return request.param  # type: ignore[no-any-return]


class Asking:
    """A source of a configuration, with what it pushed."""

    def __init__(self, folder: Path, keys: str) -> None:
        text = f'[broker.main]\nurl = "mqtt://localhost"\n[source.s]\ntype = "serial"\nport = "{folder}/port"\n{keys}'
        (folder / "edged.toml").write_text(text, "utf-8")
        draft = read(folder / "edged.toml", {})
        problems: list[Problem] = [p for p in draft.problems if not p.is_warning]
        plans = plan_sources(draft.config, {"device": "t", "base_topic": "edged/t"}, frozenset({"s"}), problems)
        assert not problems, problems
        self.plan = plans["s"]
        clock = Clock()
        self.counts = SourceCounts("s")
        parts = Parts(Stamper(None, self.plan.rate, None), Flow(), self.counts, clock, Stages(clock.now))
        source = build(self.plan, parts)
        assert isinstance(source, SerialSource)
        self.source = source
        self.blocks: list[Block] = []

    @property
    def rows(self) -> list[list[float]]:
        return [row for block in self.blocks for row in block.values.tolist()]

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.ensure_future(self.source.run(self.blocks.append))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


def played(run: Callable[..., None], folder: Path, answer: Answer, keys: str, count: int) -> tuple[Asking, Device]:
    """Reads so many rows of a device."""
    asking = Asking(folder, keys)
    device = Device(folder / "port", answer)

    async def main() -> None:
        with device:
            async with asking.running():
                await until(lambda: len(asking.rows) >= count, 10)

    run(main())
    assert asking.counts.balance() == 0
    return asking, device


def test_rplidar_starts_when_it_is_told_and_its_descriptor_is_no_data(run: Callable[..., None], tmp_path: Path) -> None:
    nodes = b"".join(
        bytes((15 << 2 | (2 if i else 1), (i * 64 << 1 | 1) & 0xFF, (i * 64 << 1 | 1) >> 8)) + (4000).to_bytes(2, "little")
        for i in range(6)
    )
    known = answers({b"\xa5\x20": bytes.fromhex("a5 5a 05 00 00 40 81") + nodes})
    keys = """send = { data = [0xA5, 0x20], answer = [0xA5, 0x5A, 0x05, 0x00, 0x00, 0x40, 0x81] }
frame = { type = "fixed", size = 5, sync = ["........", ".......1"] }
decode = { format = "struct", fields = [
  { name = "q", dtype = "uint8", bits = [2, 6] },
  { name = "angle", dtype = "uint16", bits = [1, 15], scale = 0.015625 },
  { name = "dist", dtype = "uint16", scale = 0.25 },
] }
"""
    asking, device = played(run, tmp_path, known, keys, 6)
    assert asking.rows == [[15, i, 1000] for i in range(6)]
    assert device.heard == b"\xa5\x20"
    assert asking.counts.asked.facts() == {"messages": 1, "bytes": 2, "answered": 1, "unanswered": 0, "skipped_bytes": 7}
    assert asking.counts.rejected == 0


def test_openbci_begins_after_its_banner_whatever_it_sent_before(run: Callable[..., None], tmp_path: Path) -> None:
    banner = b"OpenBCI V3 8-16 channel\r\nOn Board ADS1299 Device ID: 0x3E\r\nFirmware: v3.1.2\r\n$$$"
    sample = bytes.fromhex("a0 00") + (1000).to_bytes(3, "big") + (-1000).to_bytes(3, "big", signed=True) + bytes(24) + b"\xc0"
    known = answers({b"v": sample[7:] + banner, b"b": 3 * sample})
    keys = """rate = 250
send = [{ data = "v", answer = "$$$" }, "b"]
frame = { type = "fixed", sync = [0xA0], size = 33, tail = ["1100...."] }
decode = { format = "struct", endian = "big", fields = [
  { name = "_", dtype = "uint8" }, { name = "ch", dtype = "int24", shape = 8 }, { name = "_", dtype = "int16", shape = 3 },
  { name = "_", dtype = "uint8" },
] }
"""
    asking, device = played(run, tmp_path, known, keys, 3)
    assert asking.rows == [[1000, -1000, 0, 0, 0, 0, 0, 0]] * 3
    assert device.heard == b"vb"
    assert asking.counts.rejected == 0


def test_davis_is_woken_asked_and_its_loops_come_behind_ack(run: Callable[..., None], tmp_path: Path) -> None:
    case = Path(__file__).parents[1] / "cases" / "serial" / "davis-loop" / "input.bin"
    packets = case.read_bytes()
    known = answers({b"LOOP 2\n": packets, b"\n": b"\n\r"})
    keys = """baudrate = 19200
rate = 0.5
send = [{ data = "\\n", answer = "\\n\\r" }, { data = "LOOP 2\\n", every = "4s", answer = [0x06] }]
frame = { type = "fixed", sync = "LOO", size = 99 }
checksum = "crc16-xmodem"
decode = { format = "struct", rest = "skip", fields = [
  { name = "_", dtype = "uint8", shape = [4] }, { name = "bar", dtype = "uint16", scale = 0.001 },
  { name = "tin", dtype = "int16", scale = 0.1 },
] }
"""
    asking, device = played(run, tmp_path, known, keys, 2)
    assert [row == pytest.approx([29.921, 71.2]) for row in asking.rows] == [True, True]
    assert device.heard == b"\nLOOP 2\n"
    assert asking.plan.rate == 0.5


def test_elm327_is_set_up_once_and_asked_two_things_in_turn(run: Callable[..., None], tmp_path: Path) -> None:
    known = answers(
        {b"ATZ\r": b"\r\rELM327 v1.5\r\r>", b"ATE0\r": b"OK\r\r>", b"010C\r": b"41 0C 1A F8\r\r>", b"010D\r": b"41 0D 20 00\r\r>"}
    )
    keys = """baudrate = 38400
where = { pid = 0x0C }
send = [
  { data = "ATZ\\r", answer = ">" }, { data = "ATE0\\r", answer = ">" },
  { data = "010C\\r", every = "50ms" }, { data = "010D\\r", every = "50ms" },
]
frame = { type = "line", end = ">" }
decode = { format = "text", base = 16, pattern = '41 (?P<pid>[0-9A-F]{2}) (?P<rpm>[0-9A-F]{2} ?[0-9A-F]{2})', fields = ["rpm"] }
"""
    keys = keys.replace("(?P<rpm>[0-9A-F]{2} ?[0-9A-F]{2})", "(?P<high>[0-9A-F]{2}) (?P<low>[0-9A-F]{2})")
    keys = keys.replace('fields = ["rpm"]', 'fields = ["high", "low", "pid"]').replace("0x0C", "12")
    asking, device = played(run, tmp_path, known, keys, 3)
    assert asking.rows[:3] == [[0x1A, 0xF8]] * 3
    assert device.heard.startswith(b"ATZ\rATE0\r010C\r010D\r010C\r")
    assert asking.counts.drops.by_reason.keys() == {"other"}


def test_sds011_is_queried_with_its_checksum(run: Callable[..., None], tmp_path: Path) -> None:
    question = bytes.fromhex("aa b4 04 00 00 00 00 00 00 00 00 00 00 00 00 ff ff 02 ab")
    known = answers({question: bytes.fromhex("aa c0 d4 04 3a 0a a1 60 1d ab")})
    keys = """baudrate = 9600
send = { data = [0xAA, 0xB4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0x02, 0xAB], every = "50ms" }
frame = { type = "fixed", sync = [0xAA, 0xC0], size = 10, tail = [0xAB] }
checksum = { type = "sum8", start = 2 }
decode = { format = "struct", dtype = "uint16", scale = 0.1, rest = "skip", fields = ["pm25", "pm10"] }
"""
    asking, _ = played(run, tmp_path, known, keys, 2)
    assert [row == pytest.approx([123.6, 261.8]) for row in asking.rows[:2]] == [True, True]


def test_sdi12_gets_a_break_a_rest_and_its_command(run: Callable[..., None], tmp_path: Path) -> None:
    known = answers({b"0R0!": b"0+23.45-1.2\r\n"})
    keys = """baudrate = 1200
bytesize = 7
parity = "even"
send = { data = "0R0!", every = "200ms", break = "12ms" }
decode = { format = "text", pattern = '^0(?P<t>[+-][\\d.]+)(?P<p>[+-][\\d.]+)', fields = ["t", "p"] }
"""
    asking, device = played(run, tmp_path, known, keys, 2)
    assert asking.rows[:2] == [[23.45, -1.2]] * 2
    assert device.heard[:8] == b"0R0!0R0!"


def test_what_is_not_answered_is_sent_again_and_said(run: Callable[..., None], tmp_path: Path) -> None:
    asking = Asking(
        tmp_path,
        'send = { data = "s", answer = "OK\\r\\n", timeout = "20ms" }\ndecode = { format = "csv", fields = ["v"] }\n',
    )
    device = Device(tmp_path / "port", answers({b"s": b"OK\r\n7\n"}))

    async def main() -> None:
        with device:
            device.is_off = True
            async with asking.running():
                await until(lambda: len(device.heard) >= 2, 10)
                await until(lambda: asking.source.state == "silent")
                assert "it does not answer: 's' was sent" in asking.source.reason
                device.say(b"3\n4\n")  # before the answer nothing is data
                device.is_off = False
                await until(lambda: asking.rows, 10)
                assert asking.rows[0] == [7]  # a question that was sent again in the meantime may be answered twice
                assert (asking.source.state, asking.source.reason) == ("running", "")

    run(main())


def test_questions_are_asked_in_turn_and_in_step() -> None:
    turns = Turns([S, S, 2 * S])
    turns.begin(0)
    asked = []
    now = 0
    for _ in range(8):
        which, due = turns.next()
        now = max(now, due) + S // 10
        asked.append((which, due))
        turns.done(which, now, True)
    assert asked == [(0, 0), (1, 0), (2, 0), (0, S), (1, S), (0, 2 * S), (1, 2 * S), (2, 2 * S)]


def test_one_that_is_dead_is_asked_less_and_less_and_the_others_keep_their_pace() -> None:
    turns = Turns([S, S])
    turns.begin(0)
    asked: dict[int, list[int]] = {0: [], 1: []}
    now = 0
    while now < 200 * S:
        which, due = turns.next()
        now = max(now, due)
        asked[which].append(now // S)
        turns.done(which, now, which == 0)
    assert len(asked[0]) >= 200
    gaps = [b - a for a, b in zip(asked[1], asked[1][1:], strict=False)]
    assert gaps[:LOST_BEFORE_SLOWER] == [1] * LOST_BEFORE_SLOWER
    assert gaps[LOST_BEFORE_SLOWER:] == [2, 4, 8, 16, 32, 60, 60]
    assert SLOWEST_NS == 60 * S
    turns.done(1, now, True)
    assert not turns.is_failing(1)


def test_one_alone_keeps_its_pace_whether_it_is_answered_or_not() -> None:
    turns = Turns([S])
    turns.begin(0)
    for i in range(20):
        assert turns.next() == (0, i * S)
        turns.done(0, i * S, False)


def test_what_was_missed_is_not_made_good() -> None:
    turns = Turns([S])
    turns.begin(0)
    turns.done(0, 10 * S, True)
    assert turns.next() == (0, 10 * S)


def test_check_prints_what_is_sent(tmp_path: Path) -> None:
    keys = """send = [
  { data = "v", answer = "$$$" },
  { data = [0xFF, 0x01, 0x86, 0, 0, 0, 0, 0], checksum = { type = "neg8", start = 1 }, every = "5s", break = "12ms" },
]
decode = { format = "csv", fields = ["a"] }
"""
    plan = Asking(tmp_path, keys).plan
    settings: Any = plan.settings
    assert [said(one) for one in settings.send] == [
        "'v' when the port opens, and awaits '$$$'",
        "ff 01 86 00 00 00 00 00 79 every 5s, after a break of 12ms",
    ]
    assert plan.rate == pytest.approx(0.2)


def test_a_device_that_lost_its_power_behind_the_open_port_is_started_again(run: Callable[..., None], tmp_path: Path) -> None:
    sample = b"1,2\n"
    asking = Asking(tmp_path, 'rate = 100\nsend = "b"\ndecode = { format = "csv", fields = ["a", "b"] }\n')
    device = Device(tmp_path / "port", answers({b"b": 3 * sample}))

    async def main() -> None:
        with device:
            async with asking.running():
                await until(lambda: len(asking.rows) >= 3, 10)
                await until(lambda: len(asking.rows) >= 6, 20)  # it fell silent, was told so once more, and sends again

    run(main())
    assert device.heard == b"bb"
    assert asking.counts.asked.messages == 2


async def test_a_device_that_stays_silent_is_told_less_and_less_often() -> None:
    now = 0

    class Told(Clock):
        @staticmethod
        def now() -> int:
            return now

    talk = Conversation(questions([Send(data=b"b")]), Asked(), Told(), Flow(), lambda: True)

    def is_told(second: int) -> bool:
        nonlocal now
        now = second * S
        return talk.is_forgotten()

    assert [second for second in range(400) if is_told(second)] == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375]
    talk.heard()
    assert [second for second in range(400, 450) if is_told(second)] == [435, 440]
