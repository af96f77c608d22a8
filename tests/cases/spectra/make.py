"""Writes reference.npz: what librosa and scipy make of one signal. Needs both; `python make.py` in an environment of its own.

Each member is `NAME__PARAMETERS` as JSON, so that the test calls the step with what the library was called with.
"""

from __future__ import annotations

import json
from pathlib import Path

import librosa  # type: ignore[import-not-found]
import numpy as np
from scipy import signal  # type: ignore[import-not-found]

RATE = 8000


def main() -> None:
    rng = np.random.default_rng(14)
    t = np.arange(2000) / RATE
    y = np.sin(2 * np.pi * 440 * t) + 0.3 * np.sin(2 * np.pi * 1800 * t**1.2) + 0.05 * rng.standard_normal(len(t)) + 0.4
    y = y.astype(np.float32)
    exact = y.astype(np.float64)
    found = {"signal": y}
    for parameters in (
        {"n_fft": 512},
        {"n_fft": 400, "hop_length": 160, "win_length": 320, "window": "hamming", "center": False},
        {"n_fft": 255, "hop_length": 100, "window": "blackman"},
        {"n_fft": 256, "power": 1.0, "window": "boxcar"},
    ):
        given = {k: v for k, v in parameters.items() if k != "power"}
        found[f"spectrogram__{json.dumps(parameters)}"] = np.abs(librosa.stft(exact, **given)) ** parameters.get("power", 2.0)
    for parameters in (
        {"n_fft": 512, "hop_length": 128},
        {
            "n_fft": 400,
            "hop_length": 160,
            "n_mels": 40,
            "fmin": 20.0,
            "fmax": 3800.0,
            "htk": True,
            "norm": "none",
            "top_db": 60.0,
        },
        {"n_fft": 1024, "hop_length": 512, "n_mels": 64, "power": 1.0, "center": False, "ref": 2.0, "amin": 1e-6},
        {"n_fft": 256, "hop_length": 64, "n_mels": 80},
        # as DNSMOS
        {"n_fft": 321, "hop_length": 160, "n_mels": 120, "ref": "max"},
        # as YAMNet: amplitudes of whole frames, the natural logarithm
        {
            "n_fft": 512,
            "hop_length": 80,
            "win_length": 200,
            "n_mels": 64,
            "fmin": 125.0,
            "fmax": 3900.0,
            "htk": True,
            "norm": "none",
            "power": 1.0,
            "center": False,
            "log_offset": 0.001,
        },
    ):
        given = {k: v for k, v in parameters.items() if k not in ("ref", "amin", "top_db", "norm", "log_offset")}
        norm = None if parameters.get("norm") == "none" else "slaney"
        mel = librosa.feature.melspectrogram(y=exact, sr=RATE, norm=norm, **given)
        db = {k: v for k, v in parameters.items() if k in ("ref", "amin", "top_db")}
        db = {k: np.max if v == "max" else v for k, v in db.items()}
        is_natural = "log_offset" in parameters
        log = np.log(mel + parameters["log_offset"]) if is_natural else librosa.power_to_db(mel, **db)
        found[f"log_mel__{json.dumps(parameters)}"] = log
    for parameters in (
        {"edges": [0, 100, 500, 1000, 4000]},
        {"edges": [50, 600, 2500], "nperseg": 1000, "noverlap": 250, "window": "hamming"},
        {"edges": [50, 600, 2500], "nperseg": 333},
    ):
        given = {k: v for k, v in parameters.items() if k != "edges"}
        f, p = signal.welch(exact, RATE, **given)
        found[f"bands__{json.dumps(parameters)}"] = np.histogram(f, parameters["edges"], weights=p)[0] * f[1]
    np.savez_compressed(Path(__file__).parent / "reference.npz", **{k: v.astype(np.float32) for k, v in found.items()})


if __name__ == "__main__":
    main()
