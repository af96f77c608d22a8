"""The configuration's steps before and after the model as the functions that run them. Users' files are loaded here."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import DTypeLike

from edged.config.schema import Step
from edged.notation.files import read_small
from edged.notation.values import Function
from edged.pipeline.preprocess import (
    MakeStep,
    Postprocess,
    Preprocess,
    compose,
    compose_outputs,
    custom,
    detrend,
    normalize,
)
from edged.pipeline.spectral import Mel, Stft, bands, log_mel, spectrogram

SPECTRA = ("spectrogram", "log_mel", "bands")


def with_rate(steps: Sequence[Step], rate: float | None) -> tuple[Step, ...]:
    """The steps with the samples per second of the windows that they get, where they ask for that and say nothing themselves."""
    given = {"log_mel": "sr", "bands": "fs"}
    return tuple(
        msgspec.structs.replace(step, **{key: rate})
        if (key := given.get(str(step.step))) and getattr(step, key) is None
        else step
        for step in steps
    )


def make_preprocess(steps: Sequence[Step], shape: tuple[int, ...], dtype: DTypeLike, picture: tuple[int, ...] = ()) -> Preprocess:
    """The steps for rows of `shape`. Rows of pictures are seen as `[*picture]`, or `[size, *picture]` of a window; they have been
    resized, which is their first step, and are floats after the next. Raises ValueError, with a text for a person."""
    first = 2 if picture else 1
    _check_order(steps, first)
    makers = [_maker(step) for step in steps]
    if picture:
        return compose(makers, (*shape[:-1], *picture), np.float32, first)
    return compose(makers, shape, dtype, first)


def _check_order(steps: Sequence[Step], first: int) -> None:
    """What is a spectrum already is no signal over time any more, though its shape may look like one."""
    spectrum = ""
    for number, step in enumerate(steps, first):
        if step.step in (*SPECTRA, "detrend") and spectrum:
            raise ValueError(f"step {number}: {step.step} takes samples over time, and {spectrum} has made a spectrum of them")
        if step.step in SPECTRA:
            spectrum = str(step.step)


def make_postprocess(
    functions: Sequence[Function], outputs: Mapping[str, tuple[tuple[int, ...], DTypeLike]]
) -> Postprocess | None:
    """The functions for outputs of these shapes (without the batch axis); None for none. Raises ValueError."""
    if not functions:
        return None
    folder = functions[0].path.parent
    return compose_outputs([f"{f.path.name if f.path.parent == folder else f.path}:{f.name}" for f in functions], folder, outputs)


def code_of(functions: Iterable[Function]) -> tuple[str, ...]:
    """A digest of the file of each function. Of one that cannot be read, whoever loads it says so."""
    found = []
    for function in functions:
        with contextlib.suppress(ValueError):
            found.append(hashlib.sha256(read_small(function.path)).hexdigest()[:16])
    return tuple(found)


def _maker(step: Step) -> MakeStep:
    match step.step:
        case "normalize":
            return normalize(step.mean, step.std, step.min, step.max)
        case "detrend":
            return detrend()
        case "spectrogram":
            return spectrogram(_stft(step))
        case "log_mel":
            mel = Mel(step.n_mels, step.fmin, step.fmax, step.htk, step.norm, step.ref, step.amin, step.top_db, step.log_offset)
            return log_mel(_stft(step), mel, step.sr)
        case "bands":
            return bands(step.edges or (), step.fs, step.nperseg, step.noverlap, step.window)
        case Function() as function:
            return custom(f"{function.path.name}:{function.name}", function.path.parent)
    raise ValueError(f"no such step: {step.step}")


def _stft(step: Step) -> Stft:
    return Stft(step.n_fft, step.hop_length, step.win_length, step.window, step.center, step.power)
