"""How much of each test `make test` runs, and how much `make soak` runs: all the counts, in one table."""

from __future__ import annotations

import os

IS_SOAK = bool(os.environ.get("EDGED_SOAK"))

# name: (in `make test`, in `make soak`)
COUNTS: dict[str, tuple[int, int]] = {
    "absent seconds": (4, 600),
    "acknowledgments": (2_000, 10_000),
    "ends of a connection": (1_000, 2_000),
    "broker restarts": (5, 100),
    "crashes at start": (4, 20),
    "deploys cut off": (10, 20),
    "edits": (300, 1_000),
    "fleet cuts": (3, 60),
    "half-open links": (1, 10),
    "kills": (6, 100),
    "messages": (100_000, 1_000_000),
    "model files": (1_000, 100_000),
    "outage results": (6_000, 400_000),
    "outage seconds": (5, 300),
    "outage spool MiB": (1, 64),
    "power cuts": (4, 200),
    "replay rate": (1_200, 4_800),
    "replugs": (8, 1_000),
    "retained topics": (3_000, 50_000),
    "seconds half-open": (0, 60),
    "seconds of service": (0, 6),
    "seconds without a broker": (2, 15),
    "soak seconds": (9, 7_200),
    "spool walks": (150, 3_000),
    "stops": (5, 50),
    "stuck results": (4_000, 40_000),
    "swaps": (20, 200),
    "throttled seconds": (4, 60),
}


def scale(name: str) -> int:
    test, soak = COUNTS[name]
    return soak if IS_SOAK else test
