"""How long to wait before trying again: full jitter below a doubling limit, so that a fleet does not return all at once."""

from __future__ import annotations

import random

import msgspec


class Backoff(msgspec.Struct):
    """Full jitter (random between 0 and a limit that doubles from `first_s` to `cap_s`); `floor_s` is the least wait.

    `next_s()` gives the next wait in seconds; `reset()` starts over after good service.
    """

    first_s: float
    cap_s: float
    floor_s: float = 0.0
    rng: random.Random = msgspec.field(default_factory=random.Random)
    attempts: int = 0

    def next_s(self) -> float:
        limit = min(self.cap_s, self.first_s * 2.0**self.attempts)
        self.attempts = min(self.attempts + 1, 30)
        return self.floor_s + self.rng.random() * (limit - self.floor_s) if limit > self.floor_s else limit

    def reset(self) -> None:
        self.attempts = 0
