"""What the demo prints: a line a result, and what the daemon and the simulated machine say between them."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any, TextIO

from edged.system.readable import readable
from edged.system.terminal import DIM, GREEN, YELLOW, look_of

TIME, CONDITION, SCORE, BAR, LATENCY, MEMORY = 10, 12, 6, 22, 11, 17
"""Widths of the columns. In a narrow terminal the bar goes first, then the memory, then the time."""

STEADY_S = 3.0  # before that, processor time is all start

QUIET_EVENTS = {"starting", "model", "signal", "stopping", "state", "broker"}
"""Of these only warnings are shown; all of the log is in a file."""

LOGFMT = re.compile(r'(\S+?)=("(?:[^"\\]|\\.)*"|\S*)')


class Screen:
    """Prints to `stream`; with colours and cut to its width where that is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.results = 0
        self.right = 0
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._look = look_of(stream)
        self._health: dict[str, Any] = {}
        self._truth = ""

    def title(self, what: str, text: str) -> None:
        self._stream.write(f"{what:15}{text}\n")
        self._stream.flush()

    def interrupted(self) -> None:
        """Ctrl-C: the terminal has shown ^C where the next line would begin."""
        if self._is_terminal:
            self._stream.write("\n")

    def truth(self, condition: str) -> None:
        """The simulated machine is in this condition from now on."""
        if not self._truth:
            self._line(self._columns("time", "result", "score", "", "latency", "memory"))
        self._truth = condition
        self._line(f"-- the simulated machine: {condition} --", DIM)

    def health(self, body: bytes | str) -> None:
        self._health = json.loads(body)

    def result(self, body: bytes | str) -> None:
        facts = json.loads(body)
        self.results += 1
        self.right += facts["label"] == self._truth
        bar = "#" * round(facts["score"] * (BAR - 2))
        age = f"{facts['age_ms']:.2f} ms"
        score = f"{facts['score']:.2f}"
        colour = GREEN if facts["label"] == "healthy" else YELLOW
        self._line(self._columns(facts["time"][11:19], facts["label"], score, bar, age, self._memory()), colour)

    def log(self, line: str) -> None:
        """A line of the daemon's log, as key=value; anything else is shown as it is."""
        facts = dict(LOGFMT.findall(line))
        level, event = facts.pop("level", ""), facts.pop("event", "").strip('"')
        facts.pop("timestamp", None)
        if not event:
            self._line(f"edged: {line}")
        elif level != "info" or event not in QUIET_EVENTS:
            rest = " ".join(f"{k}={v}" for k, v in facts.items())
            self._line(f"edged: {'' if level == 'info' else f'{level}: '}{event} {rest}", DIM if level == "info" else YELLOW)

    def summary(self) -> None:
        parts = [f"{self.results} results, {self.right} as the machine was"]
        if self._health:
            parts.append(self._memory())
            if self._health["uptime_s"] >= STEADY_S:
                share = 100 * self._health["cpu_s"] / self._health["uptime_s"]
                parts.append(f"{share:.1f} % of a core over {self._health['uptime_s']:.0f} s, start included")
        self._stream.write("; ".join(parts) + "\n")
        self._stream.flush()

    def _memory(self) -> str:
        if not self._health:
            return ""
        memory = self._health["memory"]
        return f"{memory['resident_mib']:.0f} of {memory['budget_mib']:.0f} MiB"

    def _columns(self, time: str, condition: str, score: str, bar: str, latency: str, memory: str) -> str:
        room = self._width() - CONDITION - SCORE - LATENCY
        has_time = room >= TIME
        has_memory = room >= TIME + MEMORY
        has_bar = room >= TIME + MEMORY + BAR
        return (
            (f"{time:{TIME}}" if has_time else "")
            + f"{condition:{CONDITION}}{score:{SCORE}}"
            + (f"{bar:{BAR}}" if has_bar else "")
            + f"{latency:{LATENCY}}"
            + (f"{memory:{MEMORY}}" if has_memory else "")
        )

    def _width(self) -> int:
        return shutil.get_terminal_size().columns if self._is_terminal else 1000

    def _line(self, text: str, colour: str = "") -> None:
        text = readable(text.rstrip())[: self._width()]
        self._stream.write((self._look.paint(text, colour) if colour else text) + "\n")
        self._stream.flush()
