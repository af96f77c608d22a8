from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.pipeline.preprocess import MakeStep, compose
from edged.pipeline.spectral import Mel, Stft, bands, log_mel, spectrogram

FILE = Path(__file__).parents[1] / "cases" / "spectra" / "reference.npz"
"""What librosa and scipy make of a signal; make.py beside it wrote that."""
RATE = 8000.0
REFERENCE = dict(np.load(FILE))
SIGNAL = REFERENCE.pop("signal")
STFT = ("n_fft", "hop_length", "win_length", "window", "center", "power")


def of(given: dict[str, Any], kind: type) -> Any:
    return kind(**{k: v for k, v in given.items() if (k in STFT) == (kind is Stft)})


MAKERS: dict[str, Callable[[dict[str, Any]], MakeStep]] = {
    "spectrogram": lambda p: spectrogram(of(p, Stft)),
    "log_mel": lambda p: log_mel(of(p, Stft), of(p, Mel), RATE),
    "bands": lambda p: bands(p.pop("edges"), RATE, **p),
}


@pytest.mark.parametrize("case", [*REFERENCE])
def test_a_step_gives_what_librosa_and_scipy_give(case: str) -> None:
    name, _, parameters = case.partition("__")
    wanted = REFERENCE[case]
    made = compose([MAKERS[name](json.loads(parameters))], (len(SIGNAL), 1))
    found = made(SIGNAL[None, :, None])
    assert made.output_shape == wanted.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-5 if name == "log_mel" else 1e-5 * np.abs(wanted).max())


def test_every_column_is_a_signal_of_its_own_and_comes_first() -> None:
    both = np.stack([SIGNAL, SIGNAL[::-1]], axis=1)
    alone = compose([spectrogram(Stft(256))], (len(SIGNAL), 1))
    made = compose([spectrogram(Stft(256))], (len(SIGNAL), 2))
    found = made(np.stack([both, 2 * both]))
    assert made.output_shape == (2, *alone.output_shape)
    np.testing.assert_array_equal(found[0, 1], alone(SIGNAL[None, ::-1, None])[0])
    np.testing.assert_allclose(found[1], 4 * found[0], rtol=1e-5)
    assert compose([bands([1, 100, 500], RATE)], (2000, 3)).output_shape == (3, 2)


def test_a_message_that_holds_a_signal_needs_no_window() -> None:
    made = compose([bands([50, 600, 2500], RATE)], (len(SIGNAL),))
    np.testing.assert_array_equal(
        made(SIGNAL[None]), compose([bands([50, 600, 2500], RATE)], (len(SIGNAL), 1))(SIGNAL[None, :, None])
    )


def test_what_it_takes_is_in_the_plan() -> None:
    made = compose([log_mel(Stft(512, 64), Mel(), RATE)], (16000, 1))
    signal = np.zeros((1, 16000, 1), np.float32)
    tracemalloc.start()
    made(signal)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < made.nbytes < 3 * taken


@pytest.mark.parametrize(
    ("step", "shape", "said"),
    [
        (spectrogram(Stft()), (512, 3), "n_fft = 2048 is longer than the window of 512 samples"),
        (spectrogram(Stft(256, win_length=300)), (512, 3), "win_length = 300 is longer than n_fft = 256"),
        (spectrogram(Stft(4096, 1)), (1 << 20, 1), "set a larger hop_length"),
        (spectrogram(Stft()), (160, 160, 3), "set window.size"),
        (log_mel(Stft(256), Mel(), None), (512, 3), "set rate of the source, or sr here"),
        (log_mel(Stft(256), Mel(), None), (512,), "set window.size; or sr, if each message holds a signal"),
        (log_mel(Stft(256), Mel(fmax=4001), 8000), (512, 1), "fmin < fmax <= 4000 Hz"),
        (bands([1, 4], None), (512, 3), "set rate of the source, or fs here"),
        (bands([1, 70], 128), (512, 3), "hold nothing above 64 Hz"),
        (bands([1, 2, 4], 1000), (512, 3), "nothing lies from 1 to 2 Hz: 256 samples at 1000 per second"),
        (bands([1, 400], 1000, 128, 128), (512, 3), "noverlap must be below nperseg, which is 128"),
    ],
)
def test_what_does_not_fit_is_refused(step: MakeStep, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=f"step 1: .*{said}"):
        compose([step], shape)
