"""A clock of its own for a process, by libfaketime; the monotonic clock stays the kernel's."""

from __future__ import annotations

from pathlib import Path

from tests.support.lacking import lacking


class FakeTime:
    """The clock of the processes started with `environ`; `set` moves it: `+1d`, or `@2026-11-30 12:00:00` in UTC."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))
        if not found:
            lacking("libfaketime")
        self._file = folder / "clock"
        self.set("+0")
        self.environ = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, clock: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(clock)
        new.replace(self._file)
