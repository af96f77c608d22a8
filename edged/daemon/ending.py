"""Why and how the process ends: a signal, a bug, what cannot be run, or the end of all recordings.

Whoever meets one reports it here; the lifecycle waits for the first.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import structlog

from edged.daemon.signals import only_once
from edged.errors import EX_OK, EX_SOFTWARE

log: Any = structlog.get_logger("edged")


class Ending:
    """`code` is the exit status. `keeps_state`: whether the next start goes on with what is in memory; not after a bug."""

    def __init__(self) -> None:
        self.code = EX_OK
        self.keeps_state = True
        self.is_of_others: Callable[[BaseException], bool] = lambda error: False
        """Whether a fault is of a file of the user's, and is counted there."""
        self._has_come = asyncio.Event()
        self._signals = 0

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Signals, and what nobody caught, end the process from here on."""
        loop.set_exception_handler(self._on_bug)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
            only_once(number)

    async def wait(self) -> None:
        await self._has_come.wait()

    @property
    def has_come(self) -> bool:
        return self._has_come.is_set()

    def leave(self, reason: str, code: int) -> None:
        """In good order: what is configured cannot be run."""
        log.error("leaving", reason=reason)
        self.code = code
        self._has_come.set()

    def restart(self, stage: str) -> None:
        """In good order: a stage stands still, and systemd starts the process again with what was kept."""
        log.error(
            "leaving_to_restart",
            stage=stage,
            reason="the stage still blocks the event loop; edged ends, so that it is started again",
        )
        self.code = EX_SOFTWARE
        self._has_come.set()

    def finish(self) -> None:
        """Every recording was played to its end; the next time it is played from its beginning."""
        log.info("finished", reason="every recording was played to its end")
        self.keeps_state = False
        self._has_come.set()

    def fail(self, where: str, error: BaseException | None) -> None:
        """A bug: logged once with its trace, then the process ends, so that systemd starts a clean one."""
        log.error("internal_error", where=where, error=repr(error), exc_info=error)
        self.keeps_state = False
        self.code = EX_SOFTWARE
        self._has_come.set()

    def _on_bug(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or not self.is_of_others(error):
            self.fail(context.get("message", "callback"), error)

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:  # another one; the second of the same is for the kernel
            log.warning("second_signal", signal=number.name, reason="edged ends at once, and saves no state")
            os._exit(EX_SOFTWARE)
        log.info("signal", name=number.name)
        self._has_come.set()
