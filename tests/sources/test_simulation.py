import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.sources.simulation import CONDITION_S, CONDITIONS, FAULTS, SIGNALS, Machine, blocks, condition_at, vibration


def strongest_hz(x: np.ndarray, rate_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x))))
    return float(np.argmax(spectrum) * rate_hz / len(x))


def kurtosis(x: np.ndarray) -> float:
    return float((((x - x.mean()) / x.std()) ** 4).mean())


@given(cuts=st.lists(st.integers(0, 300), max_size=6), condition=st.sampled_from(CONDITIONS), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_same_seed_gives_the_same_signal_however_it_is_cut(cuts: list[int], condition: str, seed: int) -> None:
    total = sum(cuts) + 50
    whole = Machine(np.random.default_rng(seed), 1000, 25).take(total, condition)
    machine = Machine(np.random.default_rng(seed), 1000, 25)
    parts = [machine.take(n, condition) for n in [*cuts, 50]]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_shape_and_units(condition: str) -> None:
    x = vibration(np.random.default_rng(1), 1600, 0.5, condition, 29.0, gravity=9.81)
    assert x.shape == (800, 3)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert x[:, 2].mean() == pytest.approx(9.81, abs=0.5)
    assert np.abs(x[:, :2]).max() < 100


def test_imbalance_is_a_strong_line_at_the_speed_and_mostly_radial() -> None:
    x = vibration(np.random.default_rng(2), 2000, 4, "imbalance", 31.0)
    assert strongest_hz(x[:, 0], 2000) == pytest.approx(31, abs=0.5)
    assert x[:, 0].std() > 3 * x[:, 2].std()
    healthy = vibration(np.random.default_rng(2), 2000, 4, "healthy", 31.0)
    assert x[:, 0].std() > 3 * healthy[:, 0].std()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bearing_is_struck_at_its_own_frequency_and_rings_the_resonance(fault: str) -> None:
    machine = Machine(np.random.default_rng(3), 20_000, 25.0, snr_db=40, fault=fault, resonance_hz=3000)
    x = machine.take(80_000, "bearing")[:, 0]
    assert kurtosis(x) > 4
    ringing = np.abs(np.fft.rfft(x))
    hz = np.fft.rfftfreq(len(x), 1 / 20_000)
    assert hz[np.argmax(np.where(hz > 1000, ringing, 0))] == pytest.approx(3000, rel=0.1)
    # The envelope of the ringing repeats with the impacts.
    loud = np.convolve(np.diff(x) ** 2, np.ones(20), "same")
    spectrum = np.abs(np.fft.rfft(loud - loud.mean()))
    near = np.abs(hz[: len(spectrum)] - machine.bearing.impacts_per_turn * 25) < 5
    assert spectrum[near].max() > 10 * np.median(spectrum[hz[: len(spectrum)] < 500])


def test_looseness_has_half_orders_and_is_cut_off() -> None:
    x = vibration(np.random.default_rng(4), 2000, 8, "looseness", 20.0)[:, 0]
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x))))
    hz = np.fft.rfftfreq(len(x), 1 / 2000)
    floor = np.median(spectrum)
    for order in (0.5, 1.5, 2.5):
        assert spectrum[np.abs(hz - order * 20) < 0.5].max() > 20 * floor


def test_noise_is_as_loud_as_asked() -> None:
    quiet = vibration(np.random.default_rng(5), 1000, 8, "healthy", 25.0, snr_db=60)
    noisy = vibration(np.random.default_rng(5), 1000, 8, "healthy", 25.0, snr_db=0)
    power = (noisy - quiet).astype(np.float64).var()
    assert power == pytest.approx((0.5**2 + 0.2**2 + 0.1**2) / 2, rel=0.1)


def test_unknown_words_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="condition"):
        vibration(rng, 100, 1, "broken", 10)
    with pytest.raises(ValueError, match="fault"):
        Machine(rng, 100, 10, fault="seal")


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("rate_hz", [1.0, 1000.0])
def test_every_signal_goes_on_and_repeats_from_its_seed(signal: str, rate_hz: float) -> None:
    a, b, other = (blocks(signal, seed, rate_hz, 20) for seed in (7, 7, 8))
    first = [next(a) for _ in range(5)]
    assert all(x.shape == (20, 3) and x.dtype == np.float32 for x in first)
    assert all(np.array_equal(x, next(b)) for x in first)
    assert not np.array_equal(first[0], next(other))


def test_a_simulated_machine_goes_through_all_conditions() -> None:
    assert [condition_at(i * CONDITION_S) for i in range(5)] == [*CONDITIONS, "healthy"]
