"""How soon a thread that computes lets another one go on.

The event loop gives the interpreter lock away at each call of the kernel, and there are several for each line of a serial port.
While a thread plans a reload, each of them may cost the loop Python's switch interval of 5 ms, and a reply of a worker may take
seconds. The interval belongs to the process; whoever runs a loop with threads beside it makes it short meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0001
"""About the shortest that the kernel's timers tell apart."""


@contextmanager
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
