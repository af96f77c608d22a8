"""detect: boxes of what is seen in a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edged.decode.resize import Size, View, size_sent
from edged.notation.words import did_you_mean, listed
from edged.records import Carried
from edged.results.entities import Entity, measured
from edged.results.fields import ResultField
from edged.results.heads.boxes import Placing, best, is_inside, only_of, placing
from edged.results.heads.detectors import detr
from edged.results.heads.detectors.reading import Array, Found, Reading, Seen
from edged.results.heads.detectors.table import AUTO, readings
from edged.results.heads.head import SCORE_DECIMALS, Asked, Body, OutputPlan, Outputs, Problems, Tensor, row_size
from edged.results.heads.masks import MAX_POINTS, MAX_RUNS, POLYGON, mixed, outline, points_each, runs
from edged.results.heads.rows import all_finite

if TYPE_CHECKING:
    from edged.config import schema

PIXEL_DECIMALS = 1
"""A tenth of a pixel."""
MIN_SCORE = 0.25
"""Where `above` is not given."""
DETECTION_BYTES = 200
"""Bytes of one detection in a message: its label, its score and its box."""
POINT_BYTES = 16
RUN_BYTES = 6


class DetectPlan(OutputPlan, frozen=True):
    """`reading` is how the tensors hold boxes; `picture` the size of what the model sees, `view` how it came from the picture
    that was sent (None: it is that picture); `classes` are those wanted (None: all), `most` detections, `masks` their form."""

    type: ClassVar[str] = "detect"
    above: float | None = None
    reading: Reading | None = None
    view: View | None = None
    picture: Size = (0, 0)
    iou: float = 0.45
    most: int = 100
    classes: tuple[int, ...] | None = None
    masks: str | None = None

    def make_head(self) -> Detect:
        return Detect(self)

    @property
    def least_score(self) -> float:
        return MIN_SCORE if self.above is None else self.above

    @property
    def head(self) -> str:
        return self.reading.name if self.reading is not None else ""

    def result_fields(self) -> tuple[ResultField, ...]:
        return (
            ResultField("detections", ("detections",), "object"),
            ResultField("count", ("count",), "number"),
            ResultField("score", ("score",), "number"),
        )

    def entities(self) -> tuple[Entity, ...]:
        return tuple(measured(field, decimals=0) for field in self.result_fields() if field.name == "count")

    def default_of(self) -> tuple[str | None, str | None]:
        return "count", "score"

    def summary(self) -> str:
        wanted = listed(self.labels[i] for i in self.classes) if self.classes is not None and self.labels else "all labels"
        members = self.reading.members if self.reading is not None else None
        beside = "" if members is None or members.keypoints is None else f" with {members.keypoints[0]} key points"
        beside += ", rotated" if members is not None and members.is_rotated else ""
        beside += f", masks as {self.masks}" if self.masks is not None else ""
        return f"detect: {wanted}{beside} of {listed(self.tensors)}, read as {self.head}, above {self.least_score:g}"

    @property
    def text_bytes(self) -> int:
        members = self.reading.members if self.reading is not None else None
        points = 4 if members is not None and members.is_rotated else 0
        points += members.keypoints[0] * 2 if members is not None and members.keypoints is not None else 0
        points += MAX_POINTS if self.masks == POLYGON else 0
        run_bytes = MAX_RUNS * RUN_BYTES if self.masks is not None and self.masks != POLYGON else 0
        return self.most * (DETECTION_BYTES + points * POINT_BYTES + run_bytes)


def plan_detect(asked: Asked) -> DetectPlan | None:
    s = asked.settings
    tensors = [t for t in asked.tensors if t.dtype not in (None, "string")]
    if not tensors:
        asked.one()
        return None
    picture = next((i.picture_size for i in asked.inputs if i.value is None and all(i.picture_size)), None)
    if picture is None:
        asked.wrong("output", '"detect" needs a model that takes a picture: [N,3,height,width] or [N,height,width,3]')
        return None
    head = s.head if s.head != AUTO else asked.boxes or AUTO
    seen = _seen(asked, tensors, picture, head != AUTO)
    found = readings(seen, head)
    if not found and head != AUTO:
        found = readings(replace(seen, classes=None), head)
    if len(found) != 1:
        _report(asked, tensors, [r.name for r in found], head, detr.doubt(seen))
        return None
    [reading] = found
    labels, classes = asked.labels, reading.classes
    by_name = {t.name: t for t in tensors}
    main = by_name[reading.tensors[0]]
    if labels is not None and classes is not None and len(labels) != classes:
        text = f"{len(labels)} labels ({listed(labels)}) for {classes} classes: {main.name} is {main}, read as {reading.name}"
        asked.wrong("output", text)
        return None
    wanted = _classes(asked, labels or tuple(map(str, range(classes or 0))))
    if wanted is None and s.label is not None:
        return None
    if s.masks is not None and reading.members.masks is None:
        asked.wrong("output.masks", f"the model makes no masks: {main.name} is {main}, read as {reading.name}", "key")
        return None
    if s.masks is None and reading.members.masks is not None:  # what nobody asks for is not fetched
        reading = replace(reading, tensors=reading.tensors[:1], members=reading.members._replace(masks=None))
    return DetectPlan(
        reading.tensors,
        row_size(main) or 1,
        asked.max_keys,
        labels,
        above=s.above,
        reading=reading,
        view=asked.view,
        picture=picture,
        iou=s.iou,
        most=s.max,
        classes=wanted,
        masks=s.masks,
    )


def _seen(asked: Asked, tensors: Sequence[Tensor], picture: Size, is_told: bool) -> Seen:
    shapes = {t.name: tuple(a if isinstance(a, int) else None for a in (t.shape or ())[1:]) for t in tensors}
    whole = frozenset(t.name for t in tensors if (t.dtype or "").startswith(("int", "uint")))
    classes = len(asked.labels) if asked.labels else None
    return Seen(shapes, classes, picture, asked.task, asked.keypoints, asked.decoder, whole, is_told)


def _report(asked: Asked, tensors: Sequence[Tensor], names: Sequence[str], head: str, doubt: str) -> None:
    n = len(asked.labels) if asked.labels else 0
    said = ", ".join(f"{t.name} is {t}" for t in tensors)
    if names:
        fix = f'output = {{ type = "detect", head = "{names[0]}" }}'
        asked.wrong("output", f"{said}, which may be {' or '.join(names)}; say which: {fix}")
        return
    if doubt and head in (AUTO, "detr"):
        asked.wrong("output", f"{doubt}: model.{asked.model}.labels = [...]")
        return
    v8, v5 = (n + 4, n + 5) if n else ("4 + classes", "5 + classes")
    known = f" of {n} labels" if n else ""
    if head != AUTO:
        asked.wrong("output", f"no boxes{known} as {head} has them; {said}")
        return
    text = f"expected boxes{known} as [N,{v8},boxes], [N,boxes,{v5}], with NMS in the graph [N,boxes,6], or boxes, scores and "
    asked.wrong("output", f"{text}classes as outputs of their own; {said}")


def _classes(asked: Asked, labels: Sequence[str]) -> tuple[int, ...] | None:
    """The classes that `label` names; None for all, or after saying that one is not there."""
    for name in asked.settings.label or ():
        if name not in labels:
            there = f"the model has {listed(labels)}" if labels else "the model has no labels: set model.NAME.labels"
            fix = there.replace("NAME", asked.model)
            asked.wrong("output.label", f'there is no label "{name}"; {fix}{did_you_mean(name, labels)}')
            return None
    return None if asked.settings.label is None else tuple(labels.index(name) for name in asked.settings.label)


def detections(table: schema.Output, raw: Mapping[str, Any]) -> Problems:
    if table.above is not None and not 0 <= table.above < 1:
        yield "above", f"expected a score from 0 to less than 1, found {table.above:g}"
    for name, count in Counter(table.label or ()).items():
        if count > 1:
            yield "label", f'"{name}" is listed {count} times'


class Detect:
    """`detections`, the best first: `label`, `score`, and `box` in pixels of the picture that was sent, with what else the model
    says of each; how many, and the best score, 0 where there is none."""

    def __init__(self, plan: DetectPlan) -> None:
        assert plan.reading is not None
        self._plan = plan
        self._reading = plan.reading
        self._above = plan.least_score
        self._iou = None if plan.reading.is_final else plan.iou

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        tensors = {name: outputs[name] for name in self._reading.tensors}
        texts = carried or [None] * len(keys)
        rows = ({name: tensor[i] for name, tensor in tensors.items()} for i in range(len(keys)))
        return [self._body(row, text) if _is_finite(row) else None for row, text in zip(rows, texts, strict=True)]

    def reset(self, key: int) -> None:
        pass

    def _body(self, row: Mapping[str, NDArray[Any]], carried: bytes | None) -> Body:
        plan, reading = self._plan, self._reading
        found = reading.candidates(row, self._above)
        if plan.classes is not None:
            found = only_of(found, plan.classes)
        found = best(found, self._iou, plan.most, reading.members.is_rotated)
        if plan.view is not None and carried is not None:
            place = placing(plan.view, size_sent(carried))
        else:
            place = placing(None, plan.picture)
        boxes = place.boxes(found.boxes)
        found = found.only(kept := is_inside(boxes))
        scores = found.scores.astype(np.float64).round(SCORE_DECIMALS).tolist()
        detections: list[Body] = [
            {"label": self._label(i), "score": score, "box": box}
            for i, score, box in zip(found.classes.tolist(), scores, _rounded(boxes[kept]), strict=True)
        ]
        if found.more is not None:
            for i, detection in enumerate(detections):
                detection |= self._members(found, i, row, place)
        return {"detections": detections, "count": len(detections), "score": scores[0] if scores else 0.0}

    def _members(self, found: Found, i: int, row: Mapping[str, NDArray[Any]], place: Placing) -> Body:
        """What a detection has beside its box."""
        assert found.more is not None
        members, more = self._reading.members, found.more[i].astype(np.float64)
        if members.keypoints is not None:
            points = more.reshape(members.keypoints)
            placed = place.points(points[:, :2]).round(PIXEL_DECIMALS)
            shown = points[:, 2:].round(SCORE_DECIMALS) if points.shape[1] > 2 else np.ones((len(points), 1))
            return {"keypoints": np.concatenate((placed, shown), axis=1).tolist()}
        if members.is_rotated:
            x, y, w, h, angle = more
            along, across = np.array([np.cos(angle), np.sin(angle)]) * w / 2, np.array([-np.sin(angle), np.cos(angle)]) * h / 2
            corners = np.array([x, y]) + np.array([-along - across, along - across, along + across, -along + across])
            return {"corners": _rounded(place.points(corners)), "angle": round(float(np.degrees(angle)), 2)}
        if members.masks is not None:
            return {"mask": self._mask(more, row[members.masks], found.boxes[i], place, points_each(len(found.scores)))}
        return {}

    def _mask(self, factors: Array, prototypes: Array, box: Array, place: Placing, most: int) -> Any:
        width, height = self._plan.picture
        grid = mixed(factors, prototypes, box, (width, height))
        cell = np.array([width / prototypes.shape[2], height / prototypes.shape[1]])
        if self._plan.masks == POLYGON:
            return _rounded(place.points(np.clip(outline(grid, most) * cell, box[:2], box[2:])))
        first = np.round(np.maximum(place.offset, 0) / cell).astype(int)
        shown = np.array(place.size) / np.array(place.scale)
        size = np.maximum(1, np.minimum(np.round(shown / cell).astype(int), np.array(prototypes.shape[:0:-1]) - first))
        return runs(grid, (int(size[0]), int(size[1])), (int(first[0]), int(first[1])))

    def _label(self, i: int) -> str:
        labels = self._plan.labels
        return labels[i] if labels is not None and 0 <= i < len(labels) else str(i)


def _is_finite(row: Mapping[str, NDArray[Any]]) -> bool:
    return all(map(all_finite, row.values()))


def _rounded(points: Array) -> list[Any]:
    found: list[Any] = points.round(PIXEL_DECIMALS).tolist()
    return found
