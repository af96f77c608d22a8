"""How edged writes its log: for a person on a terminal, `key=value` for the journal, JSON for machines."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Lossy:
    """A stream whose failures are nobody's end: a full disk or a reader that left costs lines of the log, not the daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it was closed
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """`form` is `auto`, `console`, `logfmt` or `json`; auto is console on a terminal and logfmt elsewhere. Writes to standard
    error, or to `stream`.

    Times are left to the journal where it is the reader (logfmt without a terminal adds none of its own under systemd).
    """
    stream = stream or sys.stderr
    if form == "auto":
        form = "console" if stream.isatty() else "logfmt"
    renderers: dict[str, Any] = {
        "console": lambda: structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=24, sort_keys=False),
        "logfmt": lambda: structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        "json": lambda: structlog.processors.JSONRenderer(),
    }
    timestamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if form == "console" else "iso", utc=form != "console")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            timestamp,
            _readable,
            structlog.processors.format_exc_info,
            renderers[form](),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Lossy(stream))),
        cache_logger_on_first_use=True,
    )


def _readable(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Bytes from a sensor or a topic are shown as text, cut, never raw: nothing from outside can fake a line of the log."""
    for key, value in event.items():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        if isinstance(value, str):
            event[key] = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)[:2000]
    return event
