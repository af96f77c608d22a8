"""Signals made from physics, so that demo, tests and training need no hardware.

Pure: the same seed gives the same signal, however it is cut into blocks. `vibration` makes one recording of one machine,
`Machine` goes on for ever, `blocks` is what the simulated sensors speak. Accelerations are in m/s2, fields ax, ay, az:
ax and ay are radial to the shaft, az lies along it.

What a machine's vibration is made of (Randall, "Vibration-based Condition Monitoring", chapters 2 and 5):

    healthy     rotation: 1x, 2x and 3x the shaft's speed, small
    imbalance   a strong 1x on the radial axes, a quarter turn apart, growing with the square of the speed
    bearing     an impact each time a ball meets a defect, with 1-2 % of slip between impacts, each ringing a structural
                resonance; on the inner race loud and soft once a turn of the shaft, on a ball once a turn of the cage
    looseness   many harmonics and half orders, cut off where the loose part hits its stop
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FIELDS = ("ax", "ay", "az")
CONDITIONS = ("healthy", "imbalance", "bearing", "looseness")
FAULTS = ("outer", "inner", "ball")
"""Where a bearing's defect may sit."""

CONDITION_S = 5.0
"""How long a simulated machine stays in one condition."""

ROTATION = ((1.0, 0.50), (2.0, 0.20), (3.0, 0.10))  # order, amplitude in m/s2: what any machine does
ROTATION_POWER = sum(a * a / 2 for _, a in ROTATION)
LOOSE_ORDERS = tuple(k / 2 for k in range(1, 21))
NYQUIST_SHARE = 0.45  # a sensor's own filter leaves nothing above this share of its rate
WANDER, WANDER_HZ = 0.003, 0.11  # a motor's speed is never quite steady

Signal = NDArray[np.float32]
Wave = NDArray[np.float64]


class Bearing(NamedTuple):
    """What a defect of a bearing does: impacts per turn and how the load on them varies per turn; the structure's own frequency,
    which they ring, its damping ratio, and by what share the balls slip from impact to impact."""

    impacts_per_turn: float
    modulation_per_turn: float
    resonance_hz: float
    damping: float
    slip: float


class Machine:
    """One machine with a bearing, gains and phases of its own, drawn from `rng`; runs on from `take` to `take`.

    `snr_db` is the power of the healthy rotation over that of the noise, so that a fault does not bring its own noise.
    `fault` says where a bearing's defect is (one of FAULTS; drawn if None), `severity` scales every fault (1 is plain,
    0.4 is early), `gravity` is added to az. `resonance_hz` is the structure's own frequency, which impacts ring.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        rate_hz: float,
        speed_hz: float,
        snr_db: float = 20.0,
        fault: str | None = None,
        severity: float = 1.0,
        gravity: float = 0.0,
        resonance_hz: float | None = None,
    ) -> None:
        self.rate_hz = rate_hz
        self.speed_hz = speed_hz
        self.severity = severity
        self.gravity = gravity
        self.noise_rms = (ROTATION_POWER / 10 ** (snr_db / 10)) ** 0.5
        self.fault = fault if fault is not None else str(rng.choice(FAULTS))
        self.bearing = Bearing(
            *_bearing(rng, self.fault),
            resonance_hz=resonance_hz or min(3000.0, 0.36 * rate_hz) * rng.uniform(0.8, 1.2),
            damping=rng.uniform(0.03, 0.08),
            slip=rng.uniform(0.01, 0.02),
        )
        self._gains = rng.uniform(0.6, 1.4, 3)
        self._orders = {name: self._draw(rng, lines) for name, lines in _spectra(rng, speed_hz).items()}
        self._wander = rng.uniform(0, 2 * np.pi)
        self._noise = np.random.default_rng(rng.integers(2**63))  # streams of their own: blocks of any size draw alike
        self._slips = np.random.default_rng(rng.integers(2**63))
        self._ticks = 0
        self._impact_s = float(rng.uniform(0, 1)) / (self.bearing.impacts_per_turn * speed_hz)
        self._tail: Wave = np.zeros((0, 3))

    def take(self, count: int, condition: str) -> Signal:
        """The next `count` samples in one of CONDITIONS, `[count, 3]`, m/s2."""
        t = np.arange(self._ticks, self._ticks + count) / self.rate_hz
        self._ticks += count
        phase = self._phase(t)
        wave = self._rotate(phase, "healthy")
        ringing = self._ring(count, condition == "bearing")
        if condition == "bearing":
            wave += ringing
        elif condition == "imbalance":
            wave += self._rotate(phase, "imbalance")
        elif condition == "looseness":
            loose = self._rotate(phase, "looseness")
            stop = 1.1 * self.severity * self._gains
            wave += np.clip(loose, -stop, 1.6 * stop)  # one side hits its stop earlier than the other
        elif condition != "healthy":
            raise ValueError(f"condition: expected one of {', '.join(CONDITIONS)}, found {condition!r}")
        wave += self._noise.standard_normal((count, 3)) * self.noise_rms
        wave[:, 2] += self.gravity
        return wave.astype(np.float32)

    def _phase(self, t: Wave | float) -> Any:
        """Angle of the shaft at time t, in radians."""
        wander = 2 * np.pi * WANDER_HZ
        return 2 * np.pi * self.speed_hz * (t + WANDER / wander * np.sin(wander * t + self._wander))

    def _draw(self, rng: np.random.Generator, lines: list[tuple[float, NDArray[Any], NDArray[Any]]]) -> list[Any]:
        """(order, what its sine weighs, what its cosine weighs) on the three axes, below the sensor's own filter."""
        kept = []
        for order, amplitude, angle in lines:
            turned = angle + rng.uniform(0, 2 * np.pi)
            if order * self.speed_hz < NYQUIST_SHARE * self.rate_hz:
                kept.append((order, amplitude * self._gains * np.cos(turned), amplitude * self._gains * np.sin(turned)))
        return kept

    def _rotate(self, phase: Wave, name: str) -> Wave:
        wave = np.zeros((len(phase), 3))
        for order, sines, cosines in self._orders[name]:
            wave += np.outer(np.sin(order * phase), sines) + np.outer(np.cos(order * phase), cosines)
        if name != "healthy":
            wave *= self.severity
        return wave

    def _ring(self, count: int, is_struck: bool) -> Wave:
        """What the structure rings after the impacts of this block and before; the rest is kept for the next."""
        omega = 2 * np.pi * self.bearing.resonance_hz
        length = int(5 / (self.bearing.damping * omega) * self.rate_hz) + 2  # until e^-5 is left
        wave = np.zeros((count + length, 3))
        wave[: len(self._tail)] += self._tail[: count + length]
        start, end = (self._ticks - count) / self.rate_hz, self._ticks / self.rate_hz
        while self._impact_s < end:
            first = int(np.ceil((self._impact_s - start) * self.rate_hz))
            after = np.arange(first, first + length - 1) / self.rate_hz + (start - self._impact_s)
            turn = self._phase(self._impact_s) * self.bearing.modulation_per_turn
            loudness = 1.0 if self.fault == "outer" else 0.55 + 0.45 * np.cos(turn)
            loudness *= 4.0 * self.severity * self._slips.uniform(0.85, 1.15)
            if is_struck:
                rung = loudness * np.exp(-self.bearing.damping * omega * after) * np.sin(omega * after)
                wave[first : first + length - 1] += np.outer(rung, self._gains * (1.0, 0.8, 0.5))
            self._impact_s += (1 + self.bearing.slip * self._slips.standard_normal()) / (
                self.bearing.impacts_per_turn * self.speed_hz
            )
        self._tail = wave[count:]
        return wave[:count]


def vibration(
    rng: np.random.Generator,
    rate_hz: float,
    seconds: float,
    condition: str,
    speed_hz: float,
    snr_db: float = 20.0,
    fault: str | None = None,
    severity: float = 1.0,
    gravity: float = 0.0,
    resonance_hz: float | None = None,
) -> Signal:
    """One recording of a machine drawn from `rng`: `[round(rate_hz * seconds), 3]`, m/s2. See Machine for the arguments.

    Raises ValueError for a condition that is not one of CONDITIONS.
    """
    machine = Machine(rng, rate_hz, speed_hz, snr_db, fault, severity, gravity, resonance_hz)
    return machine.take(round(rate_hz * seconds), condition)


def blocks(signal: str, seed: int, rate_hz: float, count: int) -> Iterator[Signal]:
    """The named signal of SIGNALS for ever, `[count, 3]` at a time.

    `vibration` is one machine that goes through CONDITIONS, CONDITION_S in each; `sine` three sines of 1 m/s2 a third
    of a turn apart, at 5 Hz or a tenth of a slower rate; `noise` white noise of 1 m/s2 rms.
    """
    return SIGNALS[signal](np.random.default_rng(seed), rate_hz, count)


def condition_at(seconds: float) -> str:
    """Which condition a simulated machine is in, so long after its start."""
    return CONDITIONS[int(seconds / CONDITION_S) % len(CONDITIONS)]


def _vibrations(rng: np.random.Generator, rate_hz: float, count: int) -> Iterator[Signal]:
    machine = Machine(rng, rate_hz, speed_hz=rng.uniform(24.0, 31.0))
    done = 0
    while True:
        yield machine.take(count, condition_at(done / rate_hz))
        done += count


def _sines(rng: np.random.Generator, rate_hz: float, count: int) -> Iterator[Signal]:
    turns_per_tick = min(5.0 / rate_hz, 0.1)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(3) * 2 * np.pi / 3
    done = 0
    while True:
        ticks = np.arange(done, done + count)[:, None]
        yield np.sin(2 * np.pi * turns_per_tick * ticks + angles).astype(np.float32)
        done += count


def _noises(rng: np.random.Generator, rate_hz: float, count: int) -> Iterator[Signal]:
    while True:
        yield rng.standard_normal((count, 3)).astype(np.float32)


SIGNALS: dict[str, Callable[[np.random.Generator, float, int], Iterator[Signal]]] = {
    "vibration": _vibrations,
    "sine": _sines,
    "noise": _noises,
}


def _bearing(rng: np.random.Generator, fault: str) -> tuple[float, float]:
    """Impacts a turn of the shaft, and how often their loudness swings a turn, for a bearing drawn from `rng`.

    With n balls of diameter d on a pitch circle D, seen under the contact angle: BPFO = n/2 (1 - d/D cos),
    BPFI = n/2 (1 + d/D cos), BSF = D/2d (1 - (d/D cos)^2), the cage 1/2 (1 - d/D cos), all in turns of the shaft.
    """
    balls = int(rng.integers(7, 13))
    ratio = rng.uniform(0.18, 0.28)
    lean = ratio * np.cos(np.radians(rng.uniform(0, 15)))
    cage = (1 - lean) / 2
    if fault == "outer":
        return balls * cage, 0.0
    if fault == "inner":
        return balls / 2 * (1 + lean), 1.0
    if fault == "ball":
        return (1 - lean**2) / ratio, cage  # a spot on a ball meets both races each turn of the ball: twice BSF
    raise ValueError(f"fault: expected one of {', '.join(FAULTS)}, found {fault!r}")


def _spectra(rng: np.random.Generator, speed_hz: float) -> dict[str, list[tuple[float, NDArray[Any], NDArray[Any]]]]:
    """By condition: (order, amplitudes on the three axes in m/s2, their angles to each other)."""
    free = [rng.uniform(0, 2 * np.pi, 3) for _ in range(len(ROTATION) + len(LOOSE_ORDERS))]
    healthy = [(order, np.full(3, a), free[i]) for i, (order, a) in enumerate(ROTATION)]
    heavy = rng.uniform(2.0, 4.0) * min(max((speed_hz / 25) ** 2, 0.5), 4.0)
    imbalance = [(1.0, heavy * np.array([1.0, 0.9, 0.15]), np.array([0.0, np.pi / 2, 1.0]))]
    looseness = [
        (order, np.full(3, rng.uniform(0.5, 1.0) * (1.0 if order % 1 == 0 else 0.7) / order**0.4), free[len(ROTATION) + i])
        for i, order in enumerate(LOOSE_ORDERS)
    ]
    return {"healthy": healthy, "imbalance": imbalance, "looseness": looseness}
