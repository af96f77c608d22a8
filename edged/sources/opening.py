"""A port that is opened for as long as it is there: what every reader of one does around its reading."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from edged.errors import Retryable
from edged.serialport.discovery import appeared, find, missing
from edged.serialport.port import LineSettings, SerialPort


async def opened(settings: LineSettings, turn: Callable[[str, str], None], work: Callable[[SerialPort], Awaitable[None]]) -> None:
    """Waits for the port, since its return is noticed at once, opens it and works on it. `turn` is told state and reason.

    Raises Retryable when it cannot be opened or goes away.
    """
    if find(settings.port) is None:
        away = missing(settings.port)
        turn(away.state, away.reason)
        await appeared(settings.port)
    turn("connecting", "")
    try:
        async with SerialPort(settings) as port:
            await work(port)
    except Retryable as e:
        turn(e.state, e.reason)
        raise
