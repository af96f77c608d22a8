"""The machines that the vibration model is trained on, and those that it has never met.

Every machine has a speed, a bearing, gains, phases, a resonance and a noise level of its own, and is recorded in each of
the four conditions. What makes it a machine of the training set is its speed: the bands of HELD_OUT belong to the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spectra import RATE_HZ, SIZE, spectra

from edged.sources.simulation import CONDITIONS, Machine

SPEEDS_HZ = (14.0, 60.0)  # 840 to 3600 rpm
HELD_OUT = ((19.0, 22.0), (32.0, 35.0), (52.0, 56.0))
HOP = 256
WINDOWS = 3  # of one machine in one condition


@dataclass(frozen=True)
class Fleet:
    """How machines are drawn: see `edged.signal.Machine`. `resonance_hz` None: from 288 to 432 Hz.

    `is_shown`: the report has a table for it.
    """

    title: str
    count: int
    speed_hz: tuple[float, float] = SPEEDS_HZ
    is_held_out: bool = True
    snr_db: tuple[float, float] = (0.0, 30.0)
    severity: tuple[float, float] = (0.2, 1.5)
    resonance_hz: tuple[float, float] | None = None
    is_shown: bool = False


TRAINING = Fleet("training", 2500, is_held_out=False)
TESTS = (
    Fleet("speeds between those trained", 400, is_shown=True),
    Fleet("slower than any trained (11 to 14 Hz)", 150, speed_hz=(11.0, 14.0)),
    Fleet("faster than any trained (60 to 68 Hz)", 150, speed_hz=(60.0, 68.0)),
    Fleet("noisier than any trained (-6 to 0 dB)", 150, snr_db=(-6.0, 0.0), is_shown=True),
    Fleet("another resonance (230 to 290 Hz)", 150, resonance_hz=(230.0, 290.0)),
    Fleet("plain faults only (severity 0.7 to 1.5)", 150, severity=(0.7, 1.5)),
    Fleet("faults earlier than any trained (severity 0.1 to 0.2)", 150, severity=(0.1, 0.2), is_shown=True),
)


def draw_speed(rng: np.random.Generator, fleet: Fleet) -> float:
    while True:
        speed_hz = rng.uniform(*fleet.speed_hz)
        is_outside = not SPEEDS_HZ[0] <= speed_hz <= SPEEDS_HZ[1]
        if fleet.is_held_out == (is_outside or any(low <= speed_hz < high for low, high in HELD_OUT)):
            return speed_hz


def record(rng: np.random.Generator, fleet: Fleet) -> NDArray[np.float32]:
    """Windows of one machine of `fleet`, `[len(CONDITIONS), WINDOWS, SIZE, 3]`, m/s2."""
    resonance_hz = rng.uniform(*fleet.resonance_hz) if fleet.resonance_hz else None
    speed_hz, snr_db, severity = draw_speed(rng, fleet), rng.uniform(*fleet.snr_db), rng.uniform(*fleet.severity)
    machine = Machine(rng, RATE_HZ, speed_hz, snr_db, severity=severity, resonance_hz=resonance_hz)
    starts = HOP * np.arange(WINDOWS)[:, None] + np.arange(SIZE)
    return np.stack([machine.take(HOP * (WINDOWS - 1) + SIZE, condition)[starts] for condition in CONDITIONS])


def observe(rng: np.random.Generator, fleet: Fleet) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Spectra of all windows of a fleet, and the index of the condition that each shows."""
    seen = [spectra(record(rng, fleet).reshape(-1, SIZE, 3)) for _ in range(fleet.count)]
    return np.concatenate(seen), np.tile(np.repeat(np.arange(len(CONDITIONS)), WINDOWS), fleet.count)


def observe_standstill(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Spectra of `count` windows of machines that are off: the sensor's noise alone, every eighth without even that."""
    rms = 10 ** rng.uniform(-4.0, -0.5, (count, 1, 1))
    rms[::8] = 0
    return spectra(rms * rng.standard_normal((count, SIZE, 3)))
