"""Devices that speak when they are spoken to, on real pseudo-terminals: each is what its maker's protocol says of it."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from edged.decode.checksums import KINDS

Answer = Callable[[bytes], tuple[bytes, int]]
"""What a device sends for the bytes that it has got so far, and how many of those it is done with."""


class Device:
    """`with Device(path, answer) as device:` lies behind a link at `path`, and answers in a thread of its own.

    `heard` is all that was written to it. `is_off`: it hears and says nothing.
    """

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path = path
        self.heard = b""
        self.is_off = False
        self._answer = answer
        self._master = -1
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Device:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.path.symlink_to(os.ttyname(slave))
        self._slave = slave  # held, so that the master can be polled before anybody opens it
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._stopped)
        self._thread.join()
        self.path.unlink()
        for fd in (self._master, self._slave, self._stop):
            os.close(fd)

    def say(self, data: bytes) -> None:
        os.write(self._master, data)

    def _run(self) -> None:
        waiting = b""
        while True:
            ready, _, _ = select.select([self._master, self._stop], [], [])
            if self._stop in ready:
                return
            data = os.read(self._master, 4096)
            self.heard += data
            if self.is_off:
                waiting = b""
                continue
            waiting += data
            while waiting:
                answer, used = self._answer(waiting)
                if not used:
                    break
                waiting = waiting[used:]
                if answer:
                    self.say(answer)


def answers(known: dict[bytes, bytes]) -> Answer:
    """One that knows some questions by heart, and passes over everything else."""

    def answer(waiting: bytes) -> tuple[bytes, int]:
        for question, said in known.items():
            if waiting.startswith(question):
                return said, len(question)
            if question.startswith(waiting):
                return b"", 0
        return b"", 1

    return answer


def with_crc(body: bytes) -> bytes:
    return body + KINDS["crc16-modbus"].one(body).to_bytes(2, "little")


def modbus(units: dict[int, dict[str, dict[int, int]]], dead: set[int] | None = None, echoes: bool = False) -> Answer:
    """Units of a bus, each with its tables of registers and bits. Those that are `dead` say nothing; a register that is not
    there is an exception. `echoes`: the adapter hears itself."""
    tables = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}

    def answer(waiting: bytes) -> tuple[bytes, int]:
        if len(waiting) < 8:
            return b"", 0
        sent = waiting[:8]
        if with_crc(sent[:6]) != sent:
            return b"", 1
        address, function = sent[0], sent[1]
        echo = sent if echoes else b""
        if address not in units or address in (dead or ()):
            return echo, 8
        start, count = int.from_bytes(sent[2:4], "big"), int.from_bytes(sent[4:6], "big")
        held = units[address].get(tables[function], {})
        if any(start + i not in held for i in range(count)):
            return echo + with_crc(bytes((address, function | 0x80, 2))), 8
        values = [held[start + i] for i in range(count)]
        if function <= 2:
            data = bytearray((count + 7) // 8)
            for i, value in enumerate(values):
                data[i // 8] |= value << i % 8
        else:
            data = bytearray(b"".join(value.to_bytes(2, "big") for value in values))
        return echo + with_crc(bytes((address, function, len(data))) + data), 8

    return answer
