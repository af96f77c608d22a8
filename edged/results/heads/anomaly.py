"""anomaly: a score, and whether it is abnormal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edged.records import Carried
from edged.results.entities import Entity, measured
from edged.results.fields import ResultField
from edged.results.heads.head import Asked, Body, Input, Names, OutputPlan, Outputs, Problems, row_size, smoothed
from edged.results.heads.rows import Mean, finite_rows, only_finite, rows_of

if TYPE_CHECKING:
    from edged.config import schema

SCORE_PLACES = 3
"""Of a score that is shown to people."""


class Limits(NamedTuple):
    """Where a key is abnormal, and where it is normal again."""

    key: str
    threshold: float
    release: float


class AnomalyPlan(OutputPlan, frozen=True):
    """`input`: for `error`, the model input that the tensor reconstructs."""

    type: ClassVar[str] = "anomaly"
    error: Literal["mae", "mse"] | None = None
    input: str | None = None
    above: float | None = None
    below: float | None = None
    release: float | None = None
    latch: bool | str = False
    by_key: tuple[Limits, ...] = ()

    def make_head(self) -> Anomaly:
        return Anomaly(self)

    def make_head_of(self, names: Names | None) -> Anomaly:
        return AnomalyByKey(self, names) if self.by_key and names is not None else Anomaly(self)

    @property
    def has_threshold(self) -> bool:
        return self.above is not None or self.below is not None

    def result_fields(self) -> tuple[ResultField, ...]:
        score = ResultField("score", ("score",), "number")
        return (score, ResultField("anomaly", ("anomaly",), "bool")) if self.has_threshold else (score,)

    def entities(self) -> tuple[Entity, ...]:
        score, *anomaly = self.result_fields()
        if not anomaly:
            return (measured(score, decimals=SCORE_PLACES),)
        return (Entity(anomaly[0], "binary_sensor", device_class="problem"), measured(score, "score", SCORE_PLACES))

    def default_of(self) -> tuple[str | None, str | None]:
        return ("anomaly" if self.has_threshold else "score"), "score"

    def summary(self) -> str:
        word, threshold = ("above", self.above) if self.below is None else ("below", self.below)
        release = f", normal again at {self.release:g}" if self.release is not None else ""
        by = f" or a message on {self.latch}" if isinstance(self.latch, str) else ""
        latched = f", until acknowledged by edged ack{by}" if self.latch else ""
        own = f", {len(self.by_key)} keys have their own" if self.by_key else ""
        what = self.error or self.tensors[0]
        return f"anomaly: {what} {word} {threshold:g}{release}{own}{latched}{smoothed(self)}"

    @property
    def keys_apart(self) -> int:
        return len(self.by_key)

    @property
    def averaged(self) -> int:
        return 1


def plan_anomaly(asked: Asked) -> AnomalyPlan | None:
    tensor = asked.one()
    if tensor is None:
        return None
    s, size = asked.settings, row_size(tensor)
    of: Input | None = None
    if s.error is None:
        if size not in (None, 1):
            fix = 'if the model reconstructs its input: error = "mae"'
            asked.wrong("output", f"{tensor.name} is {tensor}, not one score; {fix}")
            return None
    else:
        of = _reconstructed(asked)
        if of is None:
            return None
        if size is not None and size != math.prod(of.shape):
            text = f'"{s.error}" compares {tensor.name}: {tensor} with {of.name}, whose rows are {list(of.shape)}'
            asked.wrong("output.error", f"{text}: both must hold equally many numbers")
            return None
    return AnomalyPlan(
        (tensor.name,),
        size or 1,
        asked.max_keys,
        smooth=s.smooth,
        error=s.error,
        input=of.name if of is not None else None,
        above=s.above,
        below=s.below,
        release=s.release,
        latch=s.latch,
    )


def _reconstructed(asked: Asked) -> Input | None:
    filled = [i for i in asked.inputs if i.value is None]
    if len(filled) == 1:
        return filled[0]
    names = ", ".join(i.name for i in filled)
    asked.wrong("output.error", f"the error is that of one input, and the model has {len(filled)}: {names}")
    return None


def thresholds(table: schema.Output, raw: Mapping[str, Any]) -> Problems:
    if table.above is None and table.below is None:
        yield "above", "required: the score from which on a result is abnormal (or below)", "table"
    elif table.above is not None and table.below is not None:
        yield "below", "expected above or below, found both; a score is abnormal on one side", "key"
    elif table.release is not None:
        if table.above is not None and table.release > table.above:
            yield "release", f"expected at most above, {table.above:g}, found {table.release:g}; it is where normal begins again"
        if table.below is not None and table.release < table.below:
            yield "release", f"expected at least below, {table.below:g}, found {table.release:g}; it is where normal begins again"


class Anomaly:
    """`score`, and `anomaly`: whether it is past the threshold; once true, until it is back past `release`, and, where it
    latches, until it was acknowledged."""

    def __init__(self, plan: AnomalyPlan) -> None:
        self._tensor = plan.tensors[0]
        self._input = plan.input
        self._error = plan.error
        self._mean = Mean(plan.smooth, plan.max_keys, 1)
        self._has_threshold = plan.has_threshold
        # A score that must not fall below a threshold is judged with its sign turned.
        self._sign = 1 if plan.below is None else -1
        threshold = plan.above if plan.below is None else plan.below
        release = threshold if plan.release is None else plan.release
        self._usual = (self._sign * (threshold or 0.0), self._sign * (release or 0.0))
        self._is_on = [False] * plan.max_keys
        self.latches = bool(plan.latch)
        self._is_latched = [False] * plan.max_keys

    @property
    def latched(self) -> list[int]:
        """The keys whose alarm nobody has acknowledged."""
        return [key for key, is_latched in enumerate(self._is_latched) if is_latched] if self.latches else []

    def latch(self, key: int) -> None:
        """As if it had been abnormal: what an earlier run left."""
        self._is_latched[key] = self.latches

    def acknowledge(self, key: int) -> bool:
        """Whether there was an alarm. It ends now, or when the score is back to normal."""
        was_latched, self._is_latched[key] = self._is_latched[key], False
        return was_latched

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        rows = self._scores(rows_of(outputs[self._tensor]), inputs)
        finite = finite_rows(rows)
        scores = self._mean.of(rows, keys, finite)[:, 0].tolist()
        if not self._has_threshold:
            return only_finite([{"score": score} for score in scores], finite)
        is_on, sign = self._is_on, self._sign
        bodies: list[Body | None] = []
        for i, (score, key) in enumerate(zip(scores, keys, strict=True)):
            if finite is None or finite[i]:
                threshold, release = self._limits(key)
                is_on[key] = sign * score > (release if is_on[key] else threshold)
                self._is_latched[key] |= self.latches and is_on[key]
            bodies.append({"score": score, "anomaly": is_on[key] or self._is_latched[key]})
        return only_finite(bodies, finite)

    def reset(self, key: int) -> None:
        self._mean.reset(key)
        self._is_on[key] = self._is_latched[key] = False

    def _limits(self, key: int) -> tuple[float, float]:
        """Threshold and release of a key, with the sign turned as that of the score."""
        return self._usual

    def _scores(self, rows: NDArray[Any], inputs: Outputs) -> NDArray[Any]:
        if self._error is None:
            return rows
        assert self._input is not None
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is dropped, not warned of
            difference = rows - rows_of(inputs[self._input])
            size = np.square(difference) if self._error == "mse" else np.abs(difference)
            score: NDArray[np.float64] = size.mean(axis=1, keepdims=True, dtype=np.float64)
        return score


class AnomalyByKey(Anomaly):
    """The same, where keys have limits of their own. Those of a key are looked up when it is first seen."""

    def __init__(self, plan: AnomalyPlan, names: Names) -> None:
        super().__init__(plan)
        self._names = names
        self._own = {one.key: (self._sign * one.threshold, self._sign * one.release) for one in plan.by_key}
        self._known: list[tuple[float, float] | None] = [None] * plan.max_keys

    def reset(self, key: int) -> None:
        super().reset(key)
        self._known[key] = None

    def _limits(self, key: int) -> tuple[float, float]:
        limits = self._known[key]
        if limits is None:
            limits = self._known[key] = self._own.get("/".join(self._names(key)), self._usual)
        return limits
