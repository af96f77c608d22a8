"""Steps from samples over time to spectra: `spectrogram`, `log_mel`, `bands`. Names, parameters, defaults and numbers are those
of librosa (`stft`, `melspectrogram`, `power_to_db`) and scipy (`signal.welch`), which are not needed here.

A row is a window `[size, width]`, or one signal `[size]`. Each column is a signal of its own and comes first in what a step
gives, as in librosa; of a single column that axis is left out. All sums are in double precision, whatever numpy makes of float32.
Memory is that of one signal at a time, and planned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edged.pipeline.preprocess import Array, MakeStep, Shape, Step

Double = NDArray[np.float64]

WINDOWS: dict[str, tuple[float, ...]] = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "boxcar": (1.0,),
}
"""By scipy's names: the cosines that each is a sum of."""
MAX_FRAMES_BYTES = 256 << 20
"""Of the frames of one signal, which overlap: a hop of 1 would make a window into gigabytes."""


class Stft(msgspec.Struct, frozen=True):
    """The parameters of `librosa.stft`, and the `power` of what is made of it."""

    n_fft: int = 2048
    hop_length: int | None = None
    win_length: int | None = None
    window: str = "hann"
    center: bool = True
    power: float = 2.0


class Mel(msgspec.Struct, frozen=True):
    """The parameters of `librosa.filters.mel` and `librosa.power_to_db`; with `log_offset` the natural logarithm instead."""

    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    htk: bool = False
    norm: str = "slaney"
    ref: float | str = 1.0
    amin: float = 1e-10
    top_db: float = 80.0
    log_offset: float | None = None


def spectrogram(stft: Stft, name: str = "spectrogram") -> MakeStep:
    """`abs(librosa.stft(y)) ** power`: `[1 + n_fft / 2, frames]`."""

    def make(shape: Shape, dtype: np.dtype[Any]) -> Step:
        frames = _Frames(stft, _size(shape, name), name)
        return _step(frames.powers, (frames.bins, frames.count), shape, dtype, frames.nbytes)

    return make


def log_mel(stft: Stft, mel: Mel, sr: float | None) -> MakeStep:
    """`librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sr))`: `[n_mels, frames]`."""

    def make(shape: Shape, dtype: np.dtype[Any]) -> Step:
        size = _size(shape, "log_mel", "sr" if sr is None else "")
        assert sr is not None
        frames = _Frames(stft, size, "log_mel")
        basis = mel_basis(sr, stft.n_fft, mel)
        fixed = None if isinstance(mel.ref, str) else mel.ref

        def run(signal: Double) -> Double:
            powers: Double = basis @ frames.powers(signal)
            if mel.log_offset is not None:
                return np.asarray(np.log(powers + mel.log_offset))
            floor = 10 * np.log10(max(mel.amin, float(powers.max()) if fixed is None else fixed))
            decibels = 10 * np.log10(np.maximum(mel.amin, powers)) - floor
            loud: Double = np.maximum(decibels, decibels.max() - mel.top_db)
            return loud

        nbytes = frames.nbytes + basis.nbytes + 3 * 8 * mel.n_mels * frames.count
        return _step(run, (mel.n_mels, frames.count), shape, dtype, nbytes)

    return make


def bands(
    edges: Sequence[float],
    fs: float | None,
    nperseg: int | None = None,
    noverlap: int | None = None,
    window: str = "hann",
) -> MakeStep:
    """The power in each band, `[bands]`: `f, p = scipy.signal.welch(y, fs)`, and of that the sum of p times the distance of two
    frequencies, from each edge up to the next one; the last edge is in the last band, as with `numpy.histogram`."""

    def make(shape: Shape, dtype: np.dtype[Any]) -> Step:
        size = _size(shape, "bands", "fs" if fs is None else "")
        assert fs is not None
        length = min(nperseg or 256, size)
        overlap = length // 2 if noverlap is None else noverlap
        if overlap >= length:
            raise ValueError(f"bands: noverlap must be below nperseg, which is {length} here")
        if edges[-1] > fs / 2:
            raise ValueError(
                f"bands: edges go up to {edges[-1]:g} Hz, and {fs:g} samples per second hold nothing above {fs / 2:g} Hz"
            )
        frequency = np.fft.rfftfreq(length, 1 / fs)
        into = np.zeros((len(edges) - 1, len(frequency)))
        for band, (low, high) in enumerate(pairwise(edges)):
            is_last = band == len(edges) - 2
            into[band] = (frequency >= low) & ((frequency < high) | (is_last & (frequency == high)))
        if empty := [i for i, row in enumerate(into) if not row.any()]:
            low, high = edges[empty[0]], edges[empty[0] + 1]
            raise ValueError(
                f"bands: nothing lies from {low:g} to {high:g} Hz: {length} samples at {fs:g} per second tell frequencies "
                f"{fs / length:.3g} Hz apart; take a longer window (or nperseg), or wider bands"
            )
        taper = cosine_window(window, length)
        weight = np.full(len(frequency), 2.0)  # one-sided: all but 0 Hz and Nyquist stand for two
        weight[0] = 1
        if length % 2 == 0:
            weight[-1] = 1
        # Density times the distance of two frequencies, fs / length: fs itself cancels out.
        into *= weight / (length * np.square(taper).sum())
        starts = range(0, size - length + 1, length - overlap)

        def run(signal: Double) -> Double:
            segments = np.lib.stride_tricks.sliding_window_view(signal, length)[:: starts.step]
            level = segments.mean(axis=1, keepdims=True)
            spectra = np.fft.rfft((segments - level) * taper, axis=1)
            return np.asarray(into @ (np.square(spectra.real) + np.square(spectra.imag)).mean(axis=0))

        nbytes = into.nbytes + taper.nbytes + len(starts) * (2 * 8 * length + 32 * len(frequency))
        return _step(run, (len(edges) - 1,), shape, dtype, nbytes)

    return make


def cosine_window(name: str, size: int) -> Double:
    """`scipy.signal.get_window(name, size)`: periodic, as spectra want it."""
    angle = 2 * np.pi * np.arange(size) / size
    window = np.zeros(size)
    for order, weight in enumerate(WINDOWS[name]):
        window += (-1) ** order * weight * np.cos(order * angle)
    return window


def mel_basis(sr: float, n_fft: int, mel: Mel) -> Double:
    """`librosa.filters.mel`: triangles that are even on the mel scale, `[n_mels, 1 + n_fft / 2]`. Raises ValueError."""
    top = sr / 2 if mel.fmax is None else mel.fmax
    if not mel.fmin < top <= sr / 2:
        raise ValueError(
            f"log_mel: expected fmin < fmax <= {sr / 2:g} Hz, half of the samples per second; found {mel.fmin:g} and {top:g}"
        )
    low, high = _mel(np.array([mel.fmin, top]), mel.htk).tolist()
    ends = _hz(np.linspace(low, high, mel.n_mels + 2), mel.htk)
    slopes = ends[:, None] - np.fft.rfftfreq(n_fft, 1 / sr)[None, :]
    widths = np.diff(ends)[:, None]
    basis = np.maximum(0, np.minimum(-slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]))
    if mel.norm == "slaney":
        basis *= (2 / (ends[2:] - ends[:-2]))[:, None]
    return np.asarray(basis)


LINEAR_HZ, KNEE_HZ, KNEE_MEL, LOG_STEP = 200 / 3, 1000.0, 15.0, np.log(6.4) / 27


def _mel(hz: Double, htk: bool) -> Double:
    if htk:
        return np.asarray(2595 * np.log10(1 + hz / 700))
    with np.errstate(divide="ignore"):
        return np.where(hz >= KNEE_HZ, KNEE_MEL + np.log(hz / KNEE_HZ) / LOG_STEP, hz / LINEAR_HZ)


def _hz(mels: Double, htk: bool) -> Double:
    if htk:
        return np.asarray(700 * (10 ** (mels / 2595) - 1))
    return np.where(mels >= KNEE_MEL, KNEE_HZ * np.exp(LOG_STEP * (mels - KNEE_MEL)), mels * LINEAR_HZ)


class _Frames:
    """The short-time Fourier transform of signals of one size."""

    def __init__(self, stft: Stft, size: int, name: str) -> None:
        n_fft, length = stft.n_fft, stft.win_length or stft.n_fft
        hop = stft.hop_length or max(1, length // 4)
        if length > n_fft:
            raise ValueError(f"{name}: win_length = {length} is longer than n_fft = {n_fft}")
        if n_fft > size:
            raise ValueError(
                f"{name}: n_fft = {n_fft} is longer than the window of {size} samples: set n_fft, or a longer window"
            )
        self.bins = 1 + n_fft // 2
        self._pad = n_fft // 2 if stft.center else 0
        self._hop, self._n_fft, self._power = hop, n_fft, stft.power
        self.count = 1 + (size + 2 * self._pad - n_fft) // hop
        taper = cosine_window(stft.window, length)
        left = (n_fft - length) // 2
        self._taper = np.pad(taper, (left, n_fft - length - left))
        scratch = 8 * self.count * n_fft + 32 * self.count * self.bins
        if scratch > MAX_FRAMES_BYTES:
            raise ValueError(
                f"{name}: {self.count} frames of {n_fft} samples take {scratch >> 20} MiB; {MAX_FRAMES_BYTES >> 20} is the most: "
                "set a larger hop_length"
            )
        self.nbytes = self._taper.nbytes + 8 * (size + 2 * self._pad) + scratch

    def powers(self, signal: Double) -> Double:
        """`[bins, count]`."""
        padded = np.pad(signal, self._pad)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self._n_fft)[:: self._hop]
        spectra = np.fft.rfft(frames * self._taper, axis=1).T
        square = np.square(spectra.real) + np.square(spectra.imag)
        return np.asarray(square if self._power == 2 else square ** (self._power / 2))


def _size(shape: Shape, name: str, missing: str = "") -> int:
    """Samples of a signal. `missing`: the parameter that has the samples per second, where nobody said them."""
    if len(shape) not in (1, 2) or shape[0] < 2:
        raise ValueError(f"{name}: needs samples over time, and gets rows of {list(shape)}: set window.size")
    if missing and len(shape) == 1:
        raise ValueError(
            f"{name}: needs samples over time: set window.size; or {missing}, if each message holds a signal by itself"
        )
    if missing:
        raise ValueError(f"{name}: needs the samples per second: set rate of the source, or {missing} here")
    return shape[0]


def _step(run: Callable[[Double], Double], made: Shape, shape: Shape, dtype: np.dtype[Any], nbytes: int) -> Step:
    """A step that runs every column of every row by itself."""
    width = shape[1] if len(shape) == 2 else 1
    whole = made if width == 1 else (width, *made)

    def run_all(batch: Array) -> Array:
        signals = batch.reshape(len(batch), -1, width).astype(np.float64)
        out = np.empty((len(batch), width, *made), dtype)
        for row, columns in enumerate(signals):
            for column in range(width):
                out[row, column] = run(columns[:, column])
        return out.reshape(len(batch), *whole)

    return Step(run_all, whole, nbytes + 8 * shape[0] * width)
