"""All rounds of learning what is normal, on one device."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edged.learn.expected import Expected, drift, expect
from edged.learn.features import feature_names
from edged.learn.graph import float32
from edged.learn.moments import Moments
from edged.learn.normal import Normal, Run, as_windows, feature_file, reduce, references, scale_of, units_of
from edged.learn.scores import Scores


class Heard(msgspec.Struct, frozen=True):
    """Windows of a source in the order in which they ended: `[n, size, width]`, their keys and times (ns)."""

    windows: NDArray[np.float32]
    keys: list[int]
    times: list[int]
    names: dict[int, str]
    samples: int

    @property
    def seconds(self) -> float:
        return max((self.times[-1] - self.times[0]) / 1e9, 1e-9)


class Learned(msgspec.Struct, frozen=True):
    normal: Normal
    file: bytes
    scores: NDArray[np.float64]
    kept: int
    """Windows that were kept back, the last ones."""
    fields: Moments
    expected: Expected
    drift: list[tuple[str, float]]
    differs: list[tuple[str, float]]
    """Keys whose usual score is above 1."""
    by_key: dict[int, NDArray[np.float64]]
    """Of each key what it is judged by, where each is judged by its own."""
    references: NDArray[np.float32] | None
    """The same, window by window."""


def fit(heard: Heard, fields: Sequence[str], rate: float | None, run: Run, by_key: bool = False) -> Learned:
    """All rounds: two thirds of the time are learned from, the last third is kept back."""
    count, size, width = heard.windows.shape
    kept = count // 3
    used = count - kept
    seen = Moments.of(heard.windows[:used].reshape(-1, width))
    mean, deviation = units_of(seen)
    has_rate = rate is not None
    names = feature_names(fields, size, rate)
    inputs = as_windows(heard.windows, size)
    features = run(feature_file(size, mean, deviation, has_rate, len(names)), inputs)
    ids = np.asarray(heard.keys)
    rows: dict[int, NDArray[np.float64]] = {}
    standard, given = None, None
    if by_key:
        rows, standard = references({k: Moments.of(features[:used][ids[:used] == k]) for k in set(heard.keys[:used])})
        nothing = np.zeros(2 * len(names))
        given = float32(np.stack([rows.get(k, nothing) for k in heard.keys]))
    normal = reduce(size, has_rate, mean, deviation, Moments.of(features[:used]), standard)
    raw = run(normal.file(), inputs, given)[:, 0]
    normal = replace(normal, scale=scale_of(Scores.of(raw[used:])))
    scores = raw / normal.scale
    per_day = len(heard.keys) / heard.seconds * 86400
    usual = {k: float(np.median(scores[ids == k])) for k in set(heard.keys)}
    return Learned(
        normal,
        normal.file(),
        scores.astype(np.float64),
        kept,
        seen,
        expect(scores[used:], heard.keys[used:], per_day),
        drift(features, normal.feature_deviation, names),
        sorted(((heard.names.get(k, ""), s) for k, s in usual.items() if s > 1), key=lambda one: -one[1]),
        rows,
        given,
    )
