"""Recordings made for a test, with the times that it wants."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edged.clock.clock import Clock
from edged.sources.recording import Recorder
from edged.sources.simulation import Machine

BLOCK = 50
START_NS = 1_790_000_000 * 10**9


class SetClock(Clock):
    """Stands at `at`, in ns."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0
        self.now = lambda: self.at
        self.utc = lambda: START_NS + self.at


def record(path: Path, kind: str, records: Iterable[tuple[float, bytes, bytes]]) -> Path:
    """Of (seconds, topic, data)."""
    clock = SetClock()
    with Recorder(path, kind, "x", clock) as recorder:
        for at, topic, data in records:
            clock.at = round(at * 1e9)
            recorder.add(data, topic)
    return path


def vibration(path: Path, seed: int, course: Iterable[tuple[str, float]]) -> Path:
    """A machine at 1000 samples a second, as CSV lines from a port: so many seconds in each condition."""
    machine = Machine(np.random.default_rng(seed), 1000.0, 27.0)
    blocks = [machine.take(BLOCK, condition) for condition, seconds in course for _ in range(round(seconds * 1000 / BLOCK))]
    lines = ("".join(f"{x:.3f},{y:.3f},{z:.3f}\n" for x, y, z in block.tolist()).encode() for block in blocks)
    return record(path, "serial", ((i * BLOCK / 1000, b"", data) for i, data in enumerate(lines)))


def pump(seed: int, steps: int, worn_from: int | None = None) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A pump every 10 s: temperature, pressures before and behind it, turns a minute. `worn_from`: it leaks from that step on,
    more and more for 50 steps."""
    rng = np.random.default_rng(seed)
    usual, t = rng.uniform(0.6, 0.9), 10.0 * np.arange(steps)
    load = usual + 0.05 * np.sin(2 * np.pi * t / 1800 + rng.uniform(0, 6)) + rng.normal(0, 0.01, steps)
    speed = rng.uniform(1400, 1500) + rng.normal(0, 8, steps)
    before = rng.uniform(1.4, 1.8) + rng.normal(0, 0.02, steps)
    behind = before + 6 * load * (speed / 1450) ** 2 + rng.normal(0, 0.05, steps)
    temperature = rng.uniform(45, 52) + 20 * (load - usual) + rng.normal(0, 0.3, steps)
    if worn_from is not None:
        wear = np.clip((np.arange(steps) - worn_from) / 50, 0, 1)
        behind -= 2.0 * wear
        temperature += 12 * wear
    return np.stack([temperature, before, behind, speed], axis=1)
