"""How edged writes its log: for a person on a terminal, `key=value` for the journal, JSON for machines."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, ClassVar, TextIO, cast

import structlog

from edged.system.readable import readable, readable_lines
from edged.system.terminal import BOLD, DIM, RED, YELLOW, Look, look_of

_processors: list[Any] = []
"""Shared by every logger from its first line on; what `configure` puts in later is theirs too."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
WAITING_BYTES = 65536


class Writer:
    """Writes lines to a stream and never waits for it: the loop must not hang on a log that nobody reads.

    Where the reader of a pipe, a socket or a terminal has stopped reading, 64 KiB wait; what does not fit is counted, and the
    next line that does says `lines_lost`. A full disk or a reader that left costs lines, nothing else.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.look = look_of(stream)
        self.is_terminal = stream.isatty()
        self._waiting = bytearray()
        self._lost = 0
        self._is_ready: Callable[[int], object] | None = None
        try:
            self._fd = stream.fileno()
        except (OSError, ValueError):  # of memory: it never waits
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        self._is_ready = poll.poll

    def write(self, text: str) -> None:
        """One line, or several."""
        if self._is_ready is None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: it was closed
                self._stream.write(text)
            return
        self._send()
        line = text.encode("utf-8", "backslashreplace")
        if len(self._waiting) + len(line) > WAITING_BYTES:
            self._lost += 1
            return
        self._waiting += line
        self._send()

    def flush(self) -> None:
        """What can be written is written already."""

    def tell_lost(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A processor: the first line with room says how many had none."""
        if self._lost:
            self._send()
            if not self._waiting:
                event["lines_lost"], self._lost = self._lost, 0
        return event

    def _send(self) -> None:
        """What can be written now. A pipe that is ready takes PIPE_BUF bytes at once, so no write is longer."""
        assert self._is_ready
        while self._waiting and self._is_ready(0):
            try:
                del self._waiting[: os.write(self._fd, self._waiting[: select.PIPE_BUF])]
            except BlockingIOError:
                return
            except OSError:
                self._waiting.clear()
                self._lost += 1


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """`form` is `auto`, `console`, `logfmt` or `json`; auto is console on a terminal and logfmt elsewhere. Writes to standard
    error, or to `stream`.

    Times are left to the journal where it is the reader (logfmt without a terminal adds none of its own under systemd).
    """
    stream = stream or sys.stderr
    writer = Writer(stream)
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, writer)),
        cache_logger_on_first_use=True,
    )
    _choose(level, form, writer)


def reconfigure(level: str, form: str) -> None:
    """The same, later: for loggers that are in use as well. The stream stays."""
    writer = next(p.__self__ for p in _processors if getattr(p, "__func__", None) is Writer.tell_lost)
    _choose(level, form, writer)


def _choose(level: str, form: str, writer: Writer) -> None:
    if form == "auto":
        form = "console" if writer.is_terminal else "logfmt"
    renderers: dict[str, Any] = {
        "console": lambda: _Console(writer.look),
        "logfmt": lambda: structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        "json": lambda: structlog.processors.JSONRenderer(),
    }
    least = LEVELS[level]

    def is_wanted(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if LEVELS.get(method, logging.ERROR) < least:
            raise structlog.DropEvent
        return event

    _processors[:] = [
        is_wanted,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if form == "console" else "iso", utc=form != "console"),
        writer.tell_lost,
        _readable,
        structlog.processors.format_exc_info,
        _readable_trace,
        renderers[form](),
    ]


class _Console:
    """A line for a person: the time, the level where it is not info, what happened, and what belongs to it."""

    COLOURS: ClassVar = {"debug": DIM, "warning": YELLOW, "error": RED, "critical": RED}

    def __init__(self, look: Look) -> None:
        self._look = look
        self._rest = structlog.processors.LogfmtRenderer(bool_as_flag=False)

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        paint = self._look.paint
        level, trace = event.pop("level"), event.pop("exception", "")
        said = "" if level == "info" else paint(f"{level}: ", self.COLOURS.get(level, RED))
        line = f"{paint(event.pop('timestamp'), DIM)} {said}{paint(str(event.pop('event')), BOLD)}"
        rest = self._rest(logger, method, event)
        return "\n".join(part for part in (f"{line} {rest}".rstrip(), trace) if part)


def _readable(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Bytes from a sensor or a topic are shown as text, cut, never raw: nothing from outside can fake a line of the log."""
    for key, value in event.items():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        if isinstance(value, str):
            event[key] = readable(value)[:2000]
    return event


def _readable_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The trace of an exception, whose text may be from outside too."""
    if "exception" in event:
        event["exception"] = readable_lines(str(event["exception"]))
    return event
