"""What is learned tells what is wrong: with machines and pumps that were simulated, and two runtimes that agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edged.commands.learn import run
from edged.learn.expected import smooth
from edged.learn.features import INPUT, feature_names
from edged.learn.judge import auc
from edged.learn.moments import Moments
from edged.learn.normal import as_windows, feature_file, units_of
from edged.learn.rounds import Heard, Learned, fit
from edged.sources.simulation import CONDITIONS, Machine
from tests.support.recordings import pump

SIZE, HOP, RATE = 512, 256, 1000.0
FIELDS = ["ax", "ay", "az"]


def windows(seed: int, seconds: float, condition: str) -> NDArray[Any]:
    """Of one machine as the demo has them: its noise, and a speed like its machine's."""
    rng = np.random.default_rng(seed)
    signal = Machine(rng, RATE, speed_hz=rng.uniform(24.0, 31.0)).take(round(seconds * RATE), condition)
    starts = range(0, len(signal) - SIZE + 1, HOP)
    return np.stack([signal[i : i + SIZE] for i in starts])


def heard(parts: list[NDArray[Any]], every_s: float) -> Heard:
    """One key a part, all at the same times."""
    count = len(parts[0])
    together = np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:]).astype(np.float32)
    keys = [*range(len(parts))] * count
    times = [round(i * every_s * 1e9) for i in range(count) for _ in parts]
    return Heard(together, keys, times, {k: f"p{k}" for k in range(len(parts))}, together.shape[0])


@pytest.fixture(scope="module")
def learned() -> Learned:
    return fit(heard([windows(seed, 60.0, "healthy") for seed in range(3)], HOP / RATE), FIELDS, RATE, run)


@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_faults_of_machines_that_were_not_seen(learned: Learned, condition: str) -> None:
    def scores(of: str) -> NDArray[Any]:
        return run(learned.file, np.concatenate([windows(seed, 5.0, of) for seed in range(1000, 1008)]))[:, 0]

    assert auc(scores("healthy"), scores(condition)) >= 0.95


def test_one_is_the_quantile_of_the_last_third(learned: Learned) -> None:
    last = learned.scores[-learned.kept :]
    assert np.quantile(last, 0.999) == pytest.approx(1.0, rel=0.03)
    assert np.median(last) < 0.9


def test_any_runtime_says_the_same(learned: Learned) -> None:
    rows = as_windows(np.concatenate([windows(5, 2.0, "healthy"), windows(6, 2.0, "bearing")]), SIZE)
    found: Any = ReferenceEvaluator(learned.file).run(None, {INPUT: rows})
    np.testing.assert_allclose(found[0], run(learned.file, rows), rtol=1e-3)


def test_features_are_what_they_are_called() -> None:
    rows = np.random.default_rng(7).normal([0, 101325], [1, 30], (40, SIZE, 2)).astype(np.float32)
    rows[:, :, 0] += 5 * np.sin(2 * np.pi * 50 * np.arange(SIZE) / RATE)
    names = feature_names(["a", "b"], SIZE, RATE)
    mean, deviation = units_of(Moments.of(rows.reshape(-1, 2)))
    found = dict(zip(names, run(feature_file(SIZE, mean, deviation, True, len(names)), rows).T, strict=True))
    units = ((rows - mean) / deviation).astype(np.float64)[:, :, 1]
    still = units - units.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found["mean of b"], units.mean(axis=1), atol=1e-3)
    np.testing.assert_allclose(found["deviation of b"], np.log(units.std(axis=1) + 1e-3), atol=1e-3)
    np.testing.assert_allclose(found["RMS of b"], np.log(np.sqrt((units**2).mean(axis=1)) + 1e-3), atol=1e-3)
    np.testing.assert_allclose(found["peak of b"], np.log(np.abs(still).max(axis=1) + 1e-3), atol=1e-3)
    kurtosis = (still**4).mean(axis=1) / (units.var(axis=1) ** 2 + 1e-6)
    np.testing.assert_allclose(found["kurtosis of b"], np.log(kurtosis + 1), atol=1e-3)
    bands = {name: values.mean() for name, values in found.items() if name.startswith("a from")}
    assert max(bands, key=lambda name: bands[name]) == "a from 31.2 to 62.5 Hz"
    assert np.exp(bands["a from 31.2 to 62.5 Hz"]) == pytest.approx(12.5 / 13.5, rel=0.1)  # its share of the power


def test_one_pump_of_200_goes_wrong_in_a_day() -> None:
    """Learned in an hour; then 8,640 samples of each, in which one begins to leak at noon."""
    hour, day, worn = 360, 8640, 77
    course = [pump(seed, hour + day, hour + day // 2 if seed == worn else None) for seed in range(200)]
    found = fit(heard([one[:hour, None, :] for one in course], 10.0), ["temp", "p_in", "p_out", "rpm"], None, run, by_key=True)
    abnormal = set()
    for seed, one in enumerate(course):
        rows = one[hour:].astype(np.float32)
        scores = run(found.file, rows, np.tile(found.by_key[seed].astype(np.float32), (day, 1)))[:, 0]
        past = np.flatnonzero(smooth(scores, [0] * day, found.expected.smooth) > found.expected.above)
        if len(past):
            abnormal.add(seed)
            assert past[0] >= day // 2
    assert abnormal == {worn}
