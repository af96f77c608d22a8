"""classify: the class that a row is of, by the scores of all classes or as the model says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edged.notation.words import listed
from edged.records import Carried
from edged.results.entities import MAX_OPTIONS, Entity
from edged.results.fields import ResultField
from edged.results.heads.head import SCORE_DECIMALS, Asked, Body, Head, OutputPlan, Outputs, Tensor, row_size, smoothed
from edged.results.heads.rows import Mean, finite_rows, only_finite, rows_of


class ClassifyPlan(OutputPlan, frozen=True):
    """`tensors`: one with the scores of all classes, or one for each class. `label_tensor`: an output that names the class by
    itself, as scikit-learn's do; used where `tensors` is empty. `classes`: what it says for each class, where that is known."""

    type: ClassVar[str] = "classify"
    label_tensor: str | None = None
    classes: tuple[str, ...] = ()
    softmax: bool | None = None
    top: int = 5

    def make_head(self) -> Head:
        return Classify(self) if self.tensors else LabelOnly(self)

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called; by number where nobody named them."""
        return self.labels or tuple(str(i) for i in range(max(self.size, 2)))

    def result_fields(self) -> tuple[ResultField, ...]:
        label = ResultField("label", ("label",), "text")
        if not self.tensors:
            return (label,)
        return (
            label,
            ResultField("score", ("score",), "number"),
            ResultField("scores", ("scores",), "object"),
            *(ResultField(f"scores.{name}", ("scores", name), "number") for name in self.names),
        )

    def entities(self) -> tuple[Entity, ...]:
        options = self.names if self.tensors or self.labels else ()  # else the model may say any text
        is_listed = 0 < len(options) <= MAX_OPTIONS
        label = self.result_fields()[0]
        return (Entity(label, device_class="enum", options=options) if is_listed else Entity(label),)

    def lasting_fields(self) -> tuple[ResultField, ...]:
        fields = self.result_fields()
        return fields if self.top >= max(self.size, 2) else tuple(f for f in fields if f.path[0] != "scores")

    def default_of(self) -> tuple[str | None, str | None]:
        return "label", "score" if self.tensors else None

    def summary(self) -> str:
        return f"classify: {listed(self.names)}{smoothed(self)}"

    @property
    def wanted(self) -> tuple[str, ...]:
        return self.tensors or ((self.label_tensor,) if self.label_tensor is not None else ())

    @property
    def judged_labels(self) -> tuple[str, ...] | None:
        return self.labels

    @property
    def averaged(self) -> int:
        return max(self.size, 2)


def plan_classify(asked: Asked) -> ClassifyPlan | None:
    tensors, s = asked.tensors, asked.settings
    if not asked.numbers and len(tensors) == 1 and row_size(tensors[0]) == 1:
        return _plan_label(asked, tensors[0])
    if (said := _said_otherwise(asked)) is not None:
        return _plan_label(asked, said)
    if columns := _columns(asked):
        return ClassifyPlan(
            columns, len(columns), asked.max_keys, asked.labels or asked.classes, s.smooth, softmax=s.softmax, top=s.top
        )
    tensor = asked.one()
    if tensor is None:
        return None
    if tensor.dtype == "int64" and row_size(tensor) != 1:
        text = f"{tensor.name} is {tensor}: several classes themselves and no scores"
        others = (
            "name the scores of one as output.tensor" if len(tensors) > 1 else "export the scores of each as an output of its own"
        )
        asked.wrong("output", f'{text}; {others}, or write output = "raw"')
        return None
    labels = asked.labels
    size = row_size(tensor) or (len(labels) if labels else 0)
    if not size:
        fix = f"give model.{asked.model}.labels"
        asked.wrong("output", f"{tensor.name} is {tensor}: how many classes that are is not said; {fix}")
        return None
    classes = max(size, 2)  # one number is the probability of the second of two
    if labels and len(labels) != classes:
        text = f"{len(labels)} labels ({listed(labels)}) for {classes} classes: {tensor.name} is {tensor}"
        asked.wrong("labels", text)
        return None
    return ClassifyPlan((tensor.name,), size, asked.max_keys, labels, s.smooth, softmax=s.softmax, top=s.top)


def _columns(asked: Asked) -> tuple[str, ...]:
    """Outputs of one number for each class that the graph names, in its order: scikit-learn's `zipmap` as "columns"."""
    names = tuple(t.name for t in asked.numbers if row_size(t) == 1)
    return names if len(names) > 1 and len(names) == len(asked.numbers) == len(asked.classes) else ()


def _said_otherwise(asked: Asked) -> Tensor | None:
    """The output that names the class by itself where its scores need not agree with it: the distances of clusters, or what tells
    outliers. Where the graph names its classes, or picks that of the largest score, they do."""
    if asked.settings.tensor is not None or asked.classes:
        return None
    whole = [t for t in asked.tensors if t.dtype in ("int64", "int32") and row_size(t) == 1]
    if len(whole) != 1 or len(asked.numbers) != 1 or len(asked.tensors) != 2:
        return None
    return None if asked.largest.get(whole[0].name) else whole[0]


def _plan_label(asked: Asked, tensor: Tensor) -> ClassifyPlan:
    for key in ("softmax", "top", "smooth"):
        if getattr(asked.settings, key) != getattr(type(asked.settings)(), key):
            text = f"has no effect: {tensor.name} is {tensor}, the class itself without probabilities"
            asked.wrong(f"output.{key}", text, "key")
    labels, classes = asked.labels, asked.classes
    if not labels or len(classes) != len(labels) or classes == labels or classes == tuple(map(str, range(len(classes)))):
        classes = ()  # an index, or the name itself
    return ClassifyPlan((), 1, asked.max_keys, labels, label_tensor=tensor.name, classes=classes)


class Classify:
    """`label` and `score` of the best class, `scores` of the best few.

    Without `softmax` in the plan, scores that are no probabilities are taken for logits, from then on: many classes are
    judged by the first batch; a single column (the sigmoid of the second of two classes) always, since one logit may
    well lie between 0 and 1.
    """

    def __init__(self, plan: ClassifyPlan) -> None:
        self._tensors = plan.tensors
        self._softmax = plan.softmax
        self._classes = max(plan.size, 2)
        self._labels = plan.names
        self._top = plan.top
        self._mean = Mean(plan.smooth, plan.max_keys, self._classes)

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        first, *others = [rows_of(outputs[name]) for name in self._tensors]
        raw = np.concatenate([first, *others], axis=1) if others else first
        finite = finite_rows(raw)
        scores = self._mean.of(self._probabilities(raw, finite), keys, finite)
        labels = self._labels
        best = (-scores).argsort(axis=1, kind="stable")[:, : self._top].tolist()
        scores = scores.astype(np.float64).round(SCORE_DECIMALS)
        bodies: list[Body | None] = [
            {"label": labels[order[0]], "score": row[order[0]], "scores": {labels[i]: row[i] for i in order}}
            for order, row in zip(best, scores.tolist(), strict=True)
        ]
        return only_finite(bodies, finite)

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


class LabelOnly:
    """`label`, for a model that says the class and no scores: an index into `labels`, or the class itself."""

    def __init__(self, plan: ClassifyPlan) -> None:
        assert plan.label_tensor is not None
        self._tensor = plan.label_tensor
        self._labels = plan.labels
        self._named = dict(zip(plan.classes, plan.labels or (), strict=True)) if plan.classes else {}

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        said = outputs[self._tensor].reshape(len(keys)).tolist()
        labels = self._labels
        if self._named:
            return [{"label": self._named.get(str(value), str(value))} for value in said]
        if labels is None or (said and isinstance(said[0], str)):
            return [{"label": str(value)} for value in said]
        return [{"label": labels[int(v)] if 0 <= int(v) < len(labels) else str(v)} for v in said]

    def reset(self, key: int) -> None:
        pass


def _are_probabilities(rows: NDArray[Any]) -> bool:
    if rows.shape[1] == 1:
        return bool(((rows >= 0) & (rows <= 1)).all())
    return bool((rows >= 0).all() and (rows < 1.001).all() and (np.abs(rows.sum(axis=1) - 1) < 1e-3).all())
