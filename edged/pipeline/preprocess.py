"""Steps between a window and the model's inputs, and between the model's outputs and their meaning.

A step takes a batch `[n, *shape]` and gives a batch `[n, *shape of its own]`. Its constants are computed once, for the
shape that it stands behind. No step writes into what it was given: that may be a ring.

Users' own steps are functions in a file beside the configuration, loaded here. They are tried once with zeros, which
finds the shape that they give; from then on a row that they raise for or answer wrongly is a `StepError`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from edged.notation.files import read_small
from edged.system import patience
from edged.system.patience import PATIENCE_S, within

Array = NDArray[Any]
Shape = tuple[int, ...]
Outputs = dict[str, Array]


RAISED = BaseException
"""What is caught of a user's code: all of it. `sys.exit()` in a step is a fault of the step; it must not end the daemon."""


class StepError(Exception):
    """A user's step could not take row `row` of a batch: that row is to be rejected, the others are not to blame."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(text)
        self.row = row


class Step(msgspec.Struct, frozen=True):
    """One step, made for one input shape. `shape` is what it gives for a row; `nbytes` its constants."""

    run: Callable[[Array], Array]
    shape: Shape
    nbytes: int = 0


MAX_SPREAD = 65536
"""Numbers: above this (a picture), constants a row in size would cost more memory than they save time."""

MakeStep = Callable[[Shape, np.dtype[Any]], Step]
"""Makes a step for the shape of a row and the dtype of the stream. Raises ValueError where it does not fit."""


class Preprocess(msgspec.Struct, frozen=True):
    """Steps in order: `[n, *input_shape]`, which may come flat, to `[n, *output_shape]`. `nbytes` counts constants, and one row
    between two steps."""

    steps: tuple[Step, ...]
    input_shape: Shape
    output_shape: Shape
    nbytes: int

    def __call__(self, batch: Array) -> Array:
        """Raises StepError for a row that a user's step cannot take."""
        if batch.shape[1:] != self.input_shape:
            batch = batch.reshape(len(batch), *self.input_shape)
        for step in self.steps:
            batch = step.run(batch)
        return batch


def compose(makers: Sequence[MakeStep], input_shape: Shape, dtype: DTypeLike = np.float32, first: int = 1) -> Preprocess:
    """Makes each step for what the one before it gives. Raises ValueError, beginning with the number of the step; they count from
    `first`."""
    shape, nbytes, steps = tuple(input_shape), 0, []
    kind = np.dtype(dtype)
    for number, make in enumerate(makers, first):
        try:
            step = make(shape, kind)
        except ValueError as error:
            raise ValueError(f"step {number}: {error}") from None
        shape = step.shape
        nbytes += step.nbytes + int(np.prod(shape)) * kind.itemsize
        steps.append(step)
    return Preprocess(tuple(steps), tuple(input_shape), shape, nbytes)


def normalize(
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    low: Sequence[float] | float | None = None,
    high: Sequence[float] | float | None = None,
) -> MakeStep:
    """`(x - mean) / std`, or `(x - low) / (high - low)`; one number for all, or one a column (the last axis)."""
    if (mean is None) != (std is None) or (low is None) != (high is None) or (mean is None) == (low is None):
        raise ValueError("normalize takes mean and std, or min and max")

    def make(shape: Shape, dtype: np.dtype[Any]) -> Step:
        if mean is not None:
            shift, span = np.asarray(mean, np.float64), np.asarray(std, np.float64)
            names = ("mean", "std")
        else:
            shift, span = np.asarray(low, np.float64), np.asarray(high, np.float64) - np.asarray(low, np.float64)
            names = ("min", "max - min")
        for name, value in zip(names, (shift, span), strict=True):
            if value.size != 1 and (not shape or value.shape != shape[-1:]):
                columns = shape[-1] if shape else 1
                raise ValueError(
                    f"normalize: {value.size} numbers for {name}, the rows have {columns} columns: give one, or one a column"
                )
        if not np.all(np.isfinite(shift)) or not np.all(np.isfinite(span)) or np.any(span <= 0):
            raise ValueError(f"normalize: {names[1]} must be above 0")
        # Subtracted first: multiplying 101325 Pa by 1/5 first would cost most of a float32's digits.
        shift, factor = (_spread(value, shape).astype(dtype) for value in (shift, 1 / span))

        def run(batch: Array) -> Array:
            out: Array = np.subtract(batch, shift)
            out *= factor
            return out

        def run_by_column(batch: Array) -> Array:
            out = np.empty(batch.shape, dtype)
            for column, (a, b) in enumerate(zip(*by_column, strict=True)):
                np.subtract(batch[..., column], a, out=out[..., column])
                out[..., column] *= b
            return out

        is_spread = shift.shape in ((), shape) and factor.shape in ((), shape)
        by_column = [] if is_spread else [np.broadcast_to(x, shape[-1:]) for x in (shift, factor)]
        return Step(run if is_spread else run_by_column, shape, shift.nbytes + factor.nbytes)

    return make


def _spread(value: Array, shape: Shape) -> Array:
    """One number as it is, one a column written out for the whole row: ten times faster than broadcasting a few columns. Of a
    row that is too large for that, one a column, to be taken by column: six times faster."""
    if value.size == 1:
        return value.reshape(())
    return np.ascontiguousarray(np.broadcast_to(value, shape)) if np.prod(shape) <= MAX_SPREAD else value


def detrend() -> MakeStep:
    """Takes the least-squares line out of every column along time, the first axis of a row.

    With `q0 = 1 / sqrt(size)` and `q1 = (t - mean(t)) / |t - mean(t)|`, the line of a column y is `Q (Q' y)`: an orthonormal
    basis of all lines, so that two small matrix products do it.
    """

    def make(shape: Shape, dtype: np.dtype[Any]) -> Step:
        if len(shape) < 2 or shape[0] < 3:
            raise ValueError("detrend: needs a window of at least 3 samples: set window.size")
        size = shape[0]
        time = np.arange(size) - (size - 1) / 2
        basis = np.stack([np.full(size, size**-0.5), time / np.linalg.norm(time)], 1).astype(dtype)
        basis_t = np.ascontiguousarray(basis.T)

        def run(batch: Array) -> Array:
            # Time last and contiguous, since numpy is slow at loops over a few columns. Less the first sample: a large
            # constant (101325 Pa) would otherwise cost the products digits that the small changes need.
            columns: Array = batch.reshape(len(batch), size, -1).swapaxes(1, 2).astype(dtype, order="C")
            columns -= columns[:, :, :1].copy()
            columns -= np.matmul(np.matmul(columns, basis), basis_t)
            detrended: Array = columns.swapaxes(1, 2).reshape(batch.shape)
            return detrended

        return Step(run, shape, basis.nbytes + basis_t.nbytes)

    return make


def custom(name: str, folder: Path) -> MakeStep:
    """A user's function, `"file.py:function"` with the file relative to `folder`: one row (`[size, width]`) in, an array out."""

    def make(shape: Shape, dtype: np.dtype[Any]) -> Step:
        function = load_function(name, folder)
        try:
            trial = _as_numbers(within(PATIENCE_S, lambda: function(np.zeros(shape, dtype))))
        except RAISED as error:
            raise ValueError(f"{name} failed for zeros of shape {list(shape)}: {_said(error)}") from error
        expected = trial.shape

        def run(batch: Array) -> Array:
            out = np.empty((len(batch), *expected), dtype)
            for row, values in enumerate(batch):
                try:
                    answer = _as_numbers(function(values.astype(dtype)))  # a copy, since it may write into it
                    _check_shape(answer, expected)
                except RAISED as error:
                    raise StepError(row, f"{name}: {_said(error)}") from error
                out[row] = answer
            return out

        return Step(run, expected)

    return make


class Postprocess(msgspec.Struct, frozen=True):
    """Users' functions on model outputs, in order. `outputs` are the shapes and dtypes that come out, without the batch axis."""

    functions: tuple[tuple[str, Callable[[Outputs], Any]], ...]
    outputs: Mapping[str, tuple[Shape, np.dtype[Any]]]

    def __call__(self, outputs: Outputs, count: int) -> Outputs:
        """`count` rows of each output in, the same of each new one out. Raises StepError for a row that cannot be taken."""
        new = {name: np.empty((count, *shape), dtype) for name, (shape, dtype) in self.outputs.items()}
        for row in range(count):
            one: Outputs = {name: np.array(values[row]) for name, values in outputs.items()}
            for name, function in self.functions:
                try:
                    one = _as_outputs(function(one))
                except RAISED as error:
                    raise StepError(row, f"{name}: {_said(error)}") from error
            last = self.functions[-1][0] if self.functions else ""
            if one.keys() != new.keys():
                raise StepError(row, f"{last}: gave the outputs {', '.join(one)}; at start it gave {', '.join(new)}")
            for name, values in one.items():
                try:
                    _check_shape(values, self.outputs[name][0])
                except ValueError as error:
                    raise StepError(row, f"{last}: output {name}: {error}") from error
                new[name][row] = values
        return new


def compose_outputs(names: Sequence[str], folder: Path, outputs: Mapping[str, tuple[Shape, DTypeLike]]) -> Postprocess:
    """Loads the functions and tries them with zeros of the model's `outputs` (shapes without the batch axis).

    An array that a function gives instead of a dict is called `output`. Raises ValueError.
    """
    functions = tuple((name, load_function(name, folder)) for name in names)
    one: Outputs = {name: _blank(shape, dtype) for name, (shape, dtype) in outputs.items()}
    for name, function in functions:
        given = ", ".join(f"{key} {list(value.shape)}" for key, value in one.items())
        try:
            one = _as_outputs(within(PATIENCE_S, partial(function, one)))
        except RAISED as error:
            raise ValueError(f"{name} failed for zeros of {given}: {_said(error)}") from error
    return Postprocess(functions, {name: (value.shape, value.dtype) for name, value in one.items()})


def load_function(name: str, folder: Path, patience_s: float = PATIENCE_S) -> Callable[[Any], Any]:
    """The function that `"file.py:function"` names. Runs the file again each time.

    Raises ValueError, also for a file that does not return."""
    file, _, function_name = name.rpartition(":")
    if not file or not function_name.isidentifier():
        raise ValueError(f'"{name}": expected "file.py:function"')
    path = folder / file
    text = read_small(path)
    # Compiled from its text rather than imported: no bytecode is left in the folder, and an edited file is never stale.
    module = types.ModuleType(f"edged_step_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    try:
        code = compile(text, str(path), "exec")
        within(patience_s, lambda: exec(code, module.__dict__))
    except RAISED as error:
        raise ValueError(f"{path}: {_said(error)}") from error
    function = vars(module).get(function_name)
    if not callable(function):
        own = (key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
        known = ", ".join(own)
        raise ValueError(f"{path}: there is no function {function_name}; there are: {known or 'none'}")
    found: Callable[[Any], Any] = function
    return found


class _WrongAnswer(ValueError):
    pass


def _as_outputs(answer: Any) -> Outputs:
    if not isinstance(answer, Mapping):
        return {"output": _as_values(answer)}
    if not answer:
        raise _WrongAnswer("expected at least one output, found an empty dict")
    if not all(isinstance(name, str) for name in answer):
        raise _WrongAnswer("expected outputs named by text")
    return {name: _as_values(values) for name, values in answer.items()}


def _blank(shape: Shape, dtype: DTypeLike) -> Array:
    if dtype == "string":
        return np.full(shape, "", object)
    return np.zeros(shape, dtype)


def _as_values(answer: Any) -> Array:
    """Numbers, or strings as an array of objects."""
    array = np.asarray(answer)
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind == "O" and array.size and all(isinstance(one, str) for one in array.ravel()):
        return array
    return _as_numbers(answer)


def _as_numbers(answer: Any) -> Array:
    array = np.asarray(answer)
    if array.dtype.kind not in "biuf":
        raise _WrongAnswer(f"expected an array of numbers, found {type(answer).__name__} of {array.dtype}")
    return array


def _check_shape(array: Array, expected: Shape) -> None:
    if array.shape != expected:
        raise _WrongAnswer(f"gave the shape {list(array.shape)}; at start it gave {list(expected)}")


def _said(error: BaseException) -> str:
    """What went wrong in a user's file, and in which of its lines."""
    if isinstance(error, _WrongAnswer):
        return str(error)
    where, file = "", ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name not in (__file__, patience.__file__) and name == (
            file or name
        ):  # the frames of that file, not of the libraries it called
            file, where = name, f" (line {trace.tb_lineno} of {Path(name).name})"
        trace = trace.tb_next
    try:
        text = str(error)
    except RAISED:  # of a class of the user's
        text = ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"
