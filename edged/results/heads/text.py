"""text: what a model writes: by a CTC head and its characters, as tensors of strings, or from a step of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edged.records import Carried
from edged.results.entities import Entity
from edged.results.fields import ResultField
from edged.results.heads.head import SCORE_DECIMALS, Asked, Body, Head, OutputPlan, Outputs, Tensor, row_shape
from edged.results.heads.rows import all_finite

MAX_CHARACTERS = 4096
"""Of a result; what is longer is cut off."""
SPACE = " "


class TextPlan(OutputPlan, frozen=True):
    """`characters` are what each class of a CTC head writes, by index, the `blank` among them; none: the tensor holds strings."""

    type: ClassVar[str] = "text"
    characters: tuple[str, ...] = ()
    blank: int = 0

    def make_head(self) -> Head:
        return Ctc(self) if self.characters else Strings(self)

    def result_fields(self) -> tuple[ResultField, ...]:
        text = ResultField("text", ("text",), "text")
        return (text, ResultField("score", ("score",), "number")) if self.characters else (text,)

    def entities(self) -> tuple[Entity, ...]:
        return (Entity(self.result_fields()[0]),)

    def default_of(self) -> tuple[str | None, str | None]:
        return "text", "score" if self.characters else None

    def summary(self) -> str:
        return f"text: {f'{len(self.characters) - 1} characters of ' if self.characters else ''}{self.tensors[0]}"

    @property
    def text_bytes(self) -> int:
        return MAX_CHARACTERS


def plan_text(asked: Asked) -> TextPlan | None:
    strings = [t for t in asked.tensors if t.dtype in ("string", "object")]
    if strings:
        for key in ("charset", "blank"):
            if getattr(asked.settings, key) != getattr(type(asked.settings)(), key):
                asked.wrong(f"output.{key}", f"has no effect: {strings[0].name} is {strings[0]}, the text itself", "key")
        return TextPlan((strings[0].name,), max_keys=asked.max_keys)
    tensor = asked.one()
    if tensor is None:
        return None
    charset = asked.settings.charset or asked.characters
    if not charset:
        text = f"{tensor.name} is {tensor}; say what its classes write: charset = a list, or a file with one a line"
        asked.wrong("output", f'{text} (a model of strings, or a step that gives a string as "text", needs none)')
        return None
    characters = _characters(asked, tensor, charset)
    if characters is None:
        return None
    return TextPlan((tensor.name,), 1, asked.max_keys, characters=characters, blank=asked.settings.blank)


def _characters(asked: Asked, tensor: Tensor, charset: Sequence[str]) -> tuple[str, ...] | None:
    """What each class writes. Character files list neither the blank nor, as PaddleOCR's, the space at the end."""
    shape, blank = row_shape(tensor) or tensor.shape or (), asked.settings.blank
    classes = shape[-1] if shape and isinstance(shape[-1], int) else len(charset) + 1
    missing = classes - len(charset)
    if missing not in (0, 1, 2) or blank >= classes:
        text = f"{len(charset)} characters for {classes} classes: {tensor.name} is {tensor}; expected {classes - 1}"
        asked.wrong("output.charset" if asked.settings.charset else "output", f"{text}, without the blank")
        return None
    every = (*charset, SPACE) if missing == 2 else tuple(charset)
    return every if missing == 0 else (*every[:blank], "", *every[blank:])


class Ctc:
    """`text`: the best class of each step, without what repeats the step before, and without blanks; `score`: the mean of the
    probabilities of the steps that write."""

    def __init__(self, plan: TextPlan) -> None:
        self._tensor = plan.tensors[0]
        self._characters = np.array(plan.characters, object)
        self._blank = plan.blank

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        return [self._body(row) if all_finite(row) else None for row in outputs[self._tensor]]

    def reset(self, key: int) -> None:
        pass

    def _body(self, row: NDArray[Any]) -> Body:
        steps = row.reshape(-1, row.shape[-1])
        best = steps.argmax(axis=1)
        writes = best != self._blank
        writes[1:] &= best[1:] != best[:-1]
        at = np.flatnonzero(writes)[:MAX_CHARACTERS]
        written = best[at]
        text = "".join(self._characters[written[written < len(self._characters)]])
        scores = _probabilities(steps[at], written)
        score = round(float(scores.mean()), SCORE_DECIMALS) if len(scores) else 0.0
        return {"text": text, "score": score}


class Strings:
    """`text`: the strings of a row, one a line."""

    def __init__(self, plan: TextPlan) -> None:
        self._tensor = plan.tensors[0]

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        rows = outputs[self._tensor].reshape(len(keys), -1).tolist()
        return [{"text": "\n".join(map(_as_text, row))[:MAX_CHARACTERS]} for row in rows]

    def reset(self, key: int) -> None:
        pass


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _probabilities(steps: NDArray[Any], best: NDArray[Any]) -> NDArray[Any]:
    """Of each step that of its best class, whether probabilities came out, their logarithms or logits."""
    values = steps.astype(np.float64)
    if values.size and (values.min() < 0 or values.max() > 1.001):
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    found: NDArray[Any] = values[np.arange(len(values)), best]
    return found
