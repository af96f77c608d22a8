"""Hands one thing to everybody who takes it, with one policy for faults: whoever fails costs nobody else anything.

Every stream goes out by it: samples of serial ports, recordings, simulations and MQTT, results of a pipeline, and what gates are
told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def fan_out(takers: Iterable[Callable[..., object]], lose: Callable[[Exception], object], *what: Any) -> None:
    """Calls every taker with `what`, in order. `lose` counts the fault of one that raises; a pipeline counts its own."""
    for take in takers:
        try:
            take(*what)
        except Exception as error:
            lose(error)
