"""detect: boxes of what is seen in a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edged.config.words import did_you_mean, listed
from edged.decode.resize import Size, View, size_sent
from edged.records import Carried
from edged.results.fields import ResultField
from edged.results.heads.boxes import NMS, best, candidates, classes_of, clipped, fitting_layouts, in_picture, only_of
from edged.results.heads.head import SCORE_DECIMALS, Asked, Body, Check, Kind, OutputPlan, Outputs, Problems, Tensor, row_size
from edged.results.heads.rows import all_finite

if TYPE_CHECKING:
    from edged.config import schema

BOX_DECIMALS = 1
"""A tenth of a pixel."""
LEAST_SCORE = 0.25
"""Where `above` is not given."""
DETECTION_BYTES = 200
"""Bytes of one detection in a message: its label, its score and its box."""


@dataclass(frozen=True)
class DetectPlan(OutputPlan):
    """`layout` is how the tensor holds boxes; `picture` the size of what the model sees, `view` how it came from the picture that
    was sent (None: it is that picture); `classes` are those wanted (None: all), `most` detections."""

    type: ClassVar[str] = "detect"
    above: float | None = None
    layout: str = ""
    view: View | None = None
    picture: Size = (0, 0)
    iou: float = 0.45
    most: int = 100
    classes: tuple[int, ...] | None = None

    def make_head(self) -> Detect:
        return Detect(self)

    @property
    def least_score(self) -> float:
        return LEAST_SCORE if self.above is None else self.above

    def result_fields(self) -> tuple[ResultField, ...]:
        return (
            ResultField("detections", ("detections",), "object"),
            ResultField("count", ("count",), "number"),
            ResultField("score", ("score",), "number"),
        )

    def default_of(self) -> tuple[str | None, str | None]:
        return "count", "score"

    def summary(self) -> str:
        wanted = listed(self.labels[i] for i in self.classes) if self.classes is not None and self.labels else "all labels"
        return f"detect: {wanted} of {self.tensors[0]}, read as {self.layout}, above {self.least_score:g}"

    @property
    def text_bytes(self) -> int:
        return self.most * DETECTION_BYTES


def plan_detect(asked: Asked) -> DetectPlan | None:
    tensor = asked.one()
    if tensor is None:
        return None
    picture = next((i.picture_size for i in asked.inputs if i.value is None and all(i.picture_size)), None)
    if picture is None:
        asked.wrong("output", '"detect" needs a model that takes a picture: [N,3,height,width] or [N,height,width,3]')
        return None
    shape = tuple(a if isinstance(a, int) else None for a in (tensor.shape or ())[1:])
    labels, given = asked.labels, asked.boxes
    layouts = fitting_layouts(shape, len(labels) if labels else None, picture)
    if given is not None and len(shape) == 2:
        layouts = [given]
    if len(layouts) != 1:
        _report_layouts(asked, tensor, layouts)
        return None
    classes = classes_of(layouts[0], shape)
    if labels is not None and classes is not None and len(labels) != classes:
        text = f"{len(labels)} labels ({listed(labels)}) for {classes} classes: {tensor.name} is {tensor}, read as {layouts[0]}"
        asked.wrong("output", text)
        return None
    wanted = _classes(asked, labels or tuple(map(str, range(classes or 0))))
    if wanted is None and asked.settings.label is not None:
        return None
    s = asked.settings
    return DetectPlan(
        (tensor.name,),
        row_size(tensor) or 1,
        asked.max_keys,
        labels,
        above=s.above,
        layout=layouts[0],
        view=asked.view,
        picture=picture,
        iou=s.iou,
        most=s.max,
        classes=wanted,
    )


def _report_layouts(asked: Asked, tensor: Tensor, layouts: Sequence[str]) -> None:
    n = len(asked.labels) if asked.labels else 0
    if layouts:
        cure = f'say in model.toml: [detect] head = "{layouts[0]}"'
        text = f"{tensor.name} is {tensor}, which may be {' or '.join(layouts)}; {cure}"
    else:
        v8, v5 = (n + 4, n + 5) if n else ("4 + classes", "5 + classes")
        known = f" of {n} labels" if n else ""
        text = f"expected boxes{known} as [N,{v8},boxes], [N,boxes,{v5}] or, with NMS in the graph, [N,boxes,6]; "
        text += f"{tensor.name} is {tensor}"
    asked.wrong("output", text)


def _classes(asked: Asked, labels: Sequence[str]) -> tuple[int, ...] | None:
    """The classes that `label` names; None for all, or after saying that one is not there."""
    for name in asked.settings.label or ():
        if name not in labels:
            there = f"the model has {listed(labels)}" if labels else "the model has no labels: set model.NAME.labels"
            cure = there.replace("NAME", asked.model)
            asked.wrong("output.label", f'there is no label "{name}"; {cure}{did_you_mean(name, labels)}')
            return None
    return None if asked.settings.label is None else tuple(labels.index(name) for name in asked.settings.label)


def detections(table: schema.Output, raw: Mapping[str, Any]) -> Problems:
    if table.above is not None and not 0 <= table.above < 1:
        yield "above", f"expected a score from 0 to less than 1, found {table.above:g}"
    for name, count in Counter(table.label or ()).items():
        if count > 1:
            yield "label", f'"{name}" stands {count} times'


KIND = Kind(
    "`detections` (each `label`, `score`, `box`: left, top, right, bottom in pixels of the picture that was sent), `count`, "
    "`score` (the best)",
    plan_detect,
    ("above", "iou", "max", "label"),
    (Check(("above", "label"), detections),),
    shows_labels=True,
)


class Detect:
    """`detections`, the best first: `label`, `score`, and `box` in pixels of the picture that was sent; how many, and the best
    score, 0 where there is none."""

    def __init__(self, plan: DetectPlan) -> None:
        self._plan = plan
        self._tensor = plan.tensors[0]
        self._above = plan.least_score
        self._iou = None if plan.layout == NMS else plan.iou

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        tensor = outputs[self._tensor]
        texts = carried or [None] * len(keys)
        return [self._body(row, text) if all_finite(row) else None for row, text in zip(tensor, texts, strict=True)]

    def reset(self, key: int) -> None:
        pass

    def _body(self, row: NDArray[Any], carried: bytes | None) -> Body:
        plan = self._plan
        found = candidates(plan.layout, row, self._above)
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
