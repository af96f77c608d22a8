"""What the model's numbers mean: a batch of outputs becomes one body (a dict for JSON) for each row.

Owns what an output type remembers for each key: the last results to be averaged, and whether the alarm is on. Works on the
whole batch at once, since most of the cost is the number of calls into numpy. A row whose outputs are not finite has no
result (None) and leaves no trace in that memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edged.decode.resize import Size, View, size_sent
from edged.records import Carried
from edged.results.heads.boxes import NMS, best, candidates, clipped, in_picture, only_of

SCORE_DECIMALS = 7
"""As many as a float32 holds of a probability; its other digits, as a double, are noise that a reader has to skip."""

BOX_DECIMALS = 1
"""A tenth of a pixel."""

Outputs = Mapping[str, NDArray[Any]]
Body = dict[str, Any]


class ValueField(NamedTuple):
    """One number of a `regress` output: value = output x scale + offset."""

    name: str
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """What to make of the outputs of one model.

    `tensors`: the outputs used (raw: any number, else one). `size`: numbers in a row of it. `label_tensor`: an output that
    names the class by itself, as scikit-learn's do; used where `tensors` is empty. `input`: for `error`, the model input
    that `tensors[0]` reconstructs. `keeps_arrays`: raw outputs stay arrays, for pipelines that only publish format "raw".
    `dtypes`: raw: the element type of each of `tensors`, where it is known.

    Of detect: `head` is how the tensor is laid out; `picture` the size of what the model sees, `view` how it came from the
    picture that was sent (None: it is that picture); `classes` are those wanted (None: all), `most` detections.
    """

    type: Literal["raw", "classify", "regress", "anomaly", "detect"]
    tensors: tuple[str, ...]
    size: int = 1
    max_keys: int = 1
    labels: tuple[str, ...] | None = None
    label_tensor: str | None = None
    softmax: bool | None = None
    top: int = 5
    smooth: int = 1
    fields: tuple[ValueField, ...] = ()
    error: Literal["mae", "mse"] | None = None
    input: str | None = None
    above: float | None = None
    below: float | None = None
    release: float | None = None
    keeps_arrays: bool = False
    dtypes: tuple[str, ...] = ()
    head: str = ""
    view: View | None = None
    picture: Size = (0, 0)
    iou: float = 0.45
    most: int = 100
    classes: tuple[int, ...] | None = None


class ResultField(NamedTuple):
    """A field of a result that `of`, `fields` and the next pipeline may name. `path` leads to it in the body."""

    name: str
    path: tuple[str, ...]
    kind: Literal["number", "text", "bool", "tensor", "object"]
    unit: str | None = None
    dtype: str | None = None  # of a tensor: what format "raw" sends it as


ENVELOPE_BEFORE = (
    ResultField("device", ("device",), "text"),
    ResultField("pipeline", ("pipeline",), "text"),
    ResultField("key", ("key",), "text"),
    ResultField("run", ("run",), "text"),
    ResultField("seq", ("seq",), "number"),
    ResultField("time", ("time",), "text"),
    ResultField("model", ("model",), "text"),
)
ENVELOPE_AFTER = (
    ResultField("degraded", ("degraded",), "bool"),
    ResultField("clock", ("clock",), "text"),
    ResultField("carried", ("carried",), "object"),
    ResultField("age_ms", ("age_ms",), "number", "ms"),
)
ENVELOPE = (*ENVELOPE_BEFORE, *ENVELOPE_AFTER)
"""The fields that every result has, before and after those of its output; `encode` gives them their values."""


def value_at(body: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path of a body, None if it is not there."""
    value: Any = body
    for part in path:
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def result_fields(plan: OutputPlan) -> tuple[ResultField, ...]:
    """All fields, besides those of the envelope, of the bodies that `make_shape(plan)` gives, in their order."""
    return _shape_of(plan).fields(plan)


def default_of(plan: OutputPlan) -> tuple[str | None, str | None]:
    """The fields that `change`, and that `above` and `below` judge where no `of` is given; None: `of` is required."""
    if plan.type == "classify":
        return "label", "score" if plan.tensors else None
    if plan.type == "anomaly":
        return ("anomaly" if _has_threshold(plan) else "score"), "score"
    if plan.type == "detect":
        return "count", "score"
    if plan.type == "regress":
        first = f"values.{_value_fields(plan)[0].name}"
        return first, first
    return None, None


class Shape(Protocol):
    """Turns outputs into bodies; one for each pipeline."""

    def __init__(self, plan: OutputPlan) -> None: ...

    @staticmethod
    def fields(plan: OutputPlan) -> tuple[ResultField, ...]: ...

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        """One body a row, of plain Python values; None for a row that is not finite. `keys`: the key id of each row. `carried`:
        what the result of each row carries, such as the size of a picture."""

    def reset(self, key: int) -> None:
        """Forgets what is remembered of a key."""


def is_hollow(body: Body) -> bool:
    """Whether a raw result holds values, and no number among them that is finite."""
    outputs = body.get("outputs")
    if not outputs:
        return False
    return not any(map(_says_something, outputs.values()))


def _says_something(value: Any) -> bool:
    if isinstance(value, list):
        return not value or any(map(_says_something, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or not value.size or _all_finite(value) or bool(np.isfinite(value).any())
    return value is not None


def make_shape(plan: OutputPlan) -> Shape:
    return _shape_of(plan)(plan)


def _shape_of(plan: OutputPlan) -> type[Shape]:
    if plan.type == "classify" and not plan.tensors:
        return _LabelOnly
    return _SHAPES[plan.type]


class _Raw:
    """`outputs`: every tensor as nested lists, what is not finite as null."""

    def __init__(self, plan: OutputPlan) -> None:
        self._names = plan.tensors
        self._keeps_arrays = plan.keeps_arrays

    @staticmethod
    def fields(plan: OutputPlan) -> tuple[ResultField, ...]:
        whole = ResultField("outputs", ("outputs",), "object")
        dtypes = plan.dtypes or (None,) * len(plan.tensors)
        each = zip(plan.tensors, dtypes, strict=True)
        return (whole, *(ResultField(f"outputs.{name}", ("outputs", name), "tensor", None, dtype) for name, dtype in each))

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        columns = [self._rows(outputs[name]) for name in self._names]
        if len(columns) == 1:
            [name] = self._names
            return [{"outputs": {name: row}} for row in columns[0]]
        return [{"outputs": dict(zip(self._names, row, strict=True))} for row in zip(*columns, strict=True)]

    def reset(self, key: int) -> None:
        pass

    def _rows(self, tensor: NDArray[Any]) -> Sequence[Any]:
        if self._keeps_arrays:
            return list(tensor.copy())  # the model's own array is written again by the next run
        if tensor.dtype.kind == "f" and not _all_finite(tensor):
            bad = ~np.isfinite(tensor)
            tensor = tensor.astype(object)
            tensor[bad] = None
        rows: list[Any] = tensor.tolist()
        return rows


class _Classify:
    """`label` and `score` of the best class, `scores` of the best few.

    Without `softmax` in the plan, scores that are no probabilities are taken for logits, from then on: many classes are
    judged by the first batch; a single column (the sigmoid of the second of two classes) always, since one logit may
    well lie between 0 and 1.
    """

    def __init__(self, plan: OutputPlan) -> None:
        self._tensor = plan.tensors[0]
        self._softmax = plan.softmax
        self._classes = max(plan.size, 2)
        self._labels = _labels(plan)
        self._top = plan.top
        self._mean = _Mean(plan.smooth, plan.max_keys, self._classes)

    @staticmethod
    def fields(plan: OutputPlan) -> tuple[ResultField, ...]:
        return (
            ResultField("label", ("label",), "text"),
            ResultField("score", ("score",), "number"),
            ResultField("scores", ("scores",), "object"),
            *(ResultField(f"scores.{label}", ("scores", label), "number") for label in _labels(plan)),
        )

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        raw = _rows_of(outputs[self._tensor])
        finite = _finite(raw)
        scores = self._mean.of(self._probabilities(raw, finite), keys, finite)
        labels = self._labels
        best = (-scores).argsort(axis=1, kind="stable")[:, : self._top].tolist()
        scores = scores.astype(np.float64).round(SCORE_DECIMALS)
        bodies: list[Body | None] = [
            {"label": labels[order[0]], "score": row[order[0]], "scores": {labels[i]: row[i] for i in order}}
            for order, row in zip(best, scores.tolist(), strict=True)
        ]
        return _only(bodies, finite)

    def reset(self, key: int) -> None:
        self._mean.reset(key)

    def _probabilities(self, raw: NDArray[Any], finite: NDArray[np.bool_] | None) -> NDArray[Any]:
        seen = raw if finite is None else raw[finite]
        is_single = raw.shape[1] == 1
        softmax = self._softmax
        if softmax is None and len(seen):
            softmax = not _are_probabilities(seen)
            if softmax or not is_single:
                self._softmax = softmax
        if finite is not None:
            raw = np.where(finite[:, None], raw, 0)
        if is_single:
            second = 1 / (1 + np.exp(-np.clip(raw, -80, 80))) if softmax else raw
            return np.concatenate((1 - second, second), axis=1)
        if not softmax:
            return raw
        powers: NDArray[Any] = np.exp(raw - np.maximum.reduce(raw, axis=1, keepdims=True))
        powers /= np.add.reduce(powers, axis=1, keepdims=True)
        return powers


class _LabelOnly:
    """`label`, for a model that says the class and no scores: an index into `labels`, or the class itself."""

    def __init__(self, plan: OutputPlan) -> None:
        assert plan.label_tensor is not None
        self._tensor = plan.label_tensor
        self._labels = plan.labels

    @staticmethod
    def fields(plan: OutputPlan) -> tuple[ResultField, ...]:
        return (ResultField("label", ("label",), "text"),)

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        said = outputs[self._tensor].reshape(len(keys)).tolist()
        labels = self._labels
        if labels is None:
            return [{"label": str(value)} for value in said]
        return [{"label": labels[int(v)] if 0 <= int(v) < len(labels) else str(v)} for v in said]

    def reset(self, key: int) -> None:
        pass


class _Regress:
    """`values`: the numbers of a row by name, scaled."""

    def __init__(self, plan: OutputPlan) -> None:
        fields = _value_fields(plan)
        self._tensor = plan.tensors[0]
        self._names = [f.name for f in fields]
        self._scale = np.array([f.scale for f in fields])
        self._offset = np.array([f.offset for f in fields])
        self._is_scaled = any(f.scale != 1 or f.offset != 0 for f in fields)
        self._mean = _Mean(plan.smooth, plan.max_keys, len(fields))

    @staticmethod
    def fields(plan: OutputPlan) -> tuple[ResultField, ...]:
        each = (ResultField(f"values.{f.name}", ("values", f.name), "number", f.unit) for f in _value_fields(plan))
        return (ResultField("values", ("values",), "object"), *each)

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        rows = _rows_of(outputs[self._tensor])
        finite = _finite(rows)
        if finite is not None:
            rows = np.where(finite[:, None], rows, 0)
        if self._is_scaled:
            rows = rows * self._scale + self._offset
        names = self._names
        values = self._mean.of(rows, keys, finite).tolist()
        return _only([{"values": dict(zip(names, row, strict=True))} for row in values], finite)

    def reset(self, key: int) -> None:
        self._mean.reset(key)


class _Anomaly:
    """`score`, and `anomaly`: whether it is past the threshold; once true, until it is back past `release`."""

    def __init__(self, plan: OutputPlan) -> None:
        self._tensor = plan.tensors[0]
        self._input = plan.input
        self._error = plan.error
        self._mean = _Mean(plan.smooth, plan.max_keys, 1)
        self._has_threshold = _has_threshold(plan)
        # A score that must not fall below a threshold is judged with its sign turned.
        self._sign = 1 if plan.below is None else -1
        threshold = plan.above if plan.below is None else plan.below
        release = threshold if plan.release is None else plan.release
        self._threshold = self._sign * (threshold or 0.0)
        self._release = self._sign * (release or 0.0)
        self._is_on = [False] * plan.max_keys

    @staticmethod
    def fields(plan: OutputPlan) -> tuple[ResultField, ...]:
        score = ResultField("score", ("score",), "number")
        return (score, ResultField("anomaly", ("anomaly",), "bool")) if _has_threshold(plan) else (score,)

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        rows = self._scores(_rows_of(outputs[self._tensor]), inputs)
        finite = _finite(rows)
        scores = self._mean.of(rows, keys, finite)[:, 0].tolist()
        if not self._has_threshold:
            return _only([{"score": score} for score in scores], finite)
        is_on, sign = self._is_on, self._sign
        bodies: list[Body | None] = []
        for i, (score, key) in enumerate(zip(scores, keys, strict=True)):
            if finite is None or finite[i]:
                is_on[key] = sign * score > (self._release if is_on[key] else self._threshold)
            bodies.append({"score": score, "anomaly": is_on[key]})
        return _only(bodies, finite)

    def reset(self, key: int) -> None:
        self._mean.reset(key)
        self._is_on[key] = False

    def _scores(self, rows: NDArray[Any], inputs: Outputs) -> NDArray[Any]:
        if self._error is None:
            return rows
        assert self._input is not None
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is dropped, not warned of
            difference = rows - _rows_of(inputs[self._input])
            size = np.square(difference) if self._error == "mse" else np.abs(difference)
            score: NDArray[np.float64] = size.mean(axis=1, keepdims=True, dtype=np.float64)
        return score


class _Detect:
    """`detections`, the best first: `label`, `score`, and `box` in pixels of the picture that was sent; how many, and the best
    score, 0 where there is none."""

    def __init__(self, plan: OutputPlan) -> None:
        self._plan = plan
        self._tensor = plan.tensors[0]
        self._above = 0.25 if plan.above is None else plan.above
        self._iou = None if plan.head == NMS else plan.iou

    @staticmethod
    def fields(plan: OutputPlan) -> tuple[ResultField, ...]:
        return (
            ResultField("detections", ("detections",), "object"),
            ResultField("count", ("count",), "number"),
            ResultField("score", ("score",), "number"),
        )

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        tensor = outputs[self._tensor]
        texts = carried or [None] * len(keys)
        return [self._body(row, text) if _all_finite(row) else None for row, text in zip(tensor, texts, strict=True)]

    def reset(self, key: int) -> None:
        pass

    def _body(self, row: NDArray[Any], carried: bytes | None) -> Body:
        plan = self._plan
        found = candidates(plan.head, row, self._above)
        if plan.classes is not None:
            found = only_of(found, plan.classes)
        found = best(found, self._iou, plan.most)
        if plan.view is not None and carried is not None:
            found = in_picture(found, plan.view, size_sent(carried))
        else:
            found = clipped(found, plan.picture)
        scores = found.scores.astype(np.float64).round(SCORE_DECIMALS).tolist()
        boxes = found.boxes.round(BOX_DECIMALS).tolist()
        detections = [
            {"label": self._label(i), "score": score, "box": box}
            for i, score, box in zip(found.classes.tolist(), scores, boxes, strict=True)
        ]
        return {"detections": detections, "count": len(detections), "score": scores[0] if scores else 0.0}

    def _label(self, i: int) -> str:
        labels = self._plan.labels
        return labels[i] if labels is not None and 0 <= i < len(labels) else str(i)


class _Mean:
    """The mean of the last `n` rows of each key; with n = 1 the rows themselves. Rows that are not finite are passed by."""

    def __init__(self, n: int, max_keys: int, width: int) -> None:
        self._n = n
        self._before = np.empty((max_keys if n > 1 else 0, n - 1, width))  # the last rows of each key, oldest first
        self._before.fill(0)  # touched now, so that its memory is resident from the start, as planned
        self._count = np.zeros(max_keys, np.int64)

    def of(self, rows: NDArray[Any], keys: Sequence[int], finite: NDArray[np.bool_] | None) -> NDArray[Any]:
        if self._n == 1:
            return rows
        ids = np.asarray(keys, np.intp)
        if finite is None and len(set(keys)) == len(keys):
            return self._of_each(ids, rows)
        out = np.zeros(rows.shape)
        for key in dict.fromkeys(keys):
            at = np.flatnonzero(ids == key if finite is None else (ids == key) & finite)
            out[at] = self._of_one(key, rows[at])
        return out

    def reset(self, key: int) -> None:
        if self._n > 1:
            self._before[key] = 0
            self._count[key] = 0

    def _of_each(self, keys: NDArray[np.intp], rows: NDArray[Any]) -> NDArray[Any]:
        """One row of each key."""
        last = np.concatenate((self._before[keys], rows[:, None]), axis=1)
        self._before[keys] = last[:, 1:]
        self._count[keys] += 1
        return np.asarray(last.sum(axis=1) / np.minimum(self._count[keys], self._n)[:, None])

    def _of_one(self, key: int, rows: NDArray[Any]) -> NDArray[Any]:
        """Some rows of one key, in order."""
        k, n = len(rows), self._n
        last = np.concatenate((self._before[key], rows))
        total = last[:k].copy()
        for shift in range(1, n):
            total += last[shift : shift + k]
        counts = np.minimum(np.arange(1, k + 1) + self._count[key], n)
        self._before[key] = last[k:]
        self._count[key] += k
        return np.asarray(total / counts[:, None])


def _rows_of(tensor: NDArray[Any]) -> NDArray[Any]:
    """`[k, *shape]` as `[k, n]`, in floats."""
    rows = tensor.reshape(len(tensor), -1)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float64)


def _finite(rows: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which rows are finite throughout; None: all."""
    return None if _all_finite(rows) else np.asarray(np.isfinite(rows).all(axis=1))


def _all_finite(numbers: NDArray[Any]) -> bool:
    """A sum of squares is finite only if every number is: one call where all is well. (It may overflow by itself.)"""
    return math.isfinite(np.vdot(numbers, numbers)) or bool(np.isfinite(numbers).all())


def _only(bodies: list[Body | None], finite: NDArray[np.bool_] | None) -> list[Body | None]:
    if finite is None:
        return bodies
    return [body if ok else None for body, ok in zip(bodies, finite.tolist(), strict=True)]


def _are_probabilities(rows: NDArray[Any]) -> bool:
    if rows.shape[1] == 1:
        return bool(((rows >= 0) & (rows <= 1)).all())
    return bool((rows >= 0).all() and (rows < 1.001).all() and (np.abs(rows.sum(axis=1) - 1) < 1e-3).all())


def _labels(plan: OutputPlan) -> tuple[str, ...]:
    return plan.labels or tuple(str(i) for i in range(max(plan.size, 2)))


def _value_fields(plan: OutputPlan) -> tuple[ValueField, ...]:
    """The fields of a regression: as configured, else named by the labels, else y0, y1, ..."""
    return plan.fields or tuple(ValueField(name) for name in plan.labels or (f"y{i}" for i in range(plan.size)))


def _has_threshold(plan: OutputPlan) -> bool:
    return plan.above is not None or plan.below is not None


_SHAPES: dict[str, type[Shape]] = {
    "raw": _Raw,
    "classify": _Classify,
    "regress": _Regress,
    "anomaly": _Anomaly,
    "detect": _Detect,
}
