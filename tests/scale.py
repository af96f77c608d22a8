"""How much of each test `make test` runs, and how much `make soak` runs: all the counts, in one table."""

from __future__ import annotations

import os

IS_SOAK = bool(os.environ.get("EDGED_SOAK"))

# name: (in `make test`, in `make soak`)
COUNTS: dict[str, tuple[int, int]] = {
    "acknowledgements": (2_000, 10_000),
    "ends of a connection": (1_000, 2_000),
    "edits": (60, 1_000),
    "kills": (6, 100),
    "power cuts": (4, 200),
    "spool walks": (150, 3_000),
    "stops": (5, 50),
    "swaps": (20, 200),
}


def scale(name: str) -> int:
    test, soak = COUNTS[name]
    return soak if IS_SOAK else test
