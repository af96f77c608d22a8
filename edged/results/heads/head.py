"""What an output type is: a row of the table, a plan, and what turns outputs into the bodies of results.

A kind of output is one file with these three. Its plan is made once, from the settings and the model's outputs, and answers
everything that others ask of the output: the fields of a result, those that conditions judge, what it costs. It knows its
`Head`, which works on whole batches, since most of the cost is the number of calls into numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import msgspec
from numpy.typing import NDArray

from edged.decode.resize import Size, View
from edged.late import Late
from edged.records import Carried
from edged.results.entities import Entity
from edged.results.fields import ResultField

if TYPE_CHECKING:
    from edged.config import schema

SCORE_DECIMALS = 7
"""As many as a float32 holds of a probability; its other digits, as a double, are noise that a reader has to skip."""

Outputs = Mapping[str, NDArray[Any]]
Body = dict[str, Any]
Names = Callable[[int], tuple[str, ...]]
"""The parts of a key, by its id."""
Problems = Iterator["tuple[str, str] | tuple[str, str, str]"]
"""Key, text and where to point: what is wrong with the settings by themselves."""


class Head(Protocol):
    """Turns outputs into bodies; one for each pipeline. Owns what is remembered of each key."""

    def results(self, outputs: Outputs, inputs: Outputs, keys: Sequence[int], carried: Carried = ()) -> list[Body | None]:
        """One body a row, of plain Python values; None for a row that is not finite, which leaves no trace in what is remembered.
        `keys`: the key id of each row. `carried`: what the result of each row carries, such as the size of a picture."""

    def reset(self, key: int) -> None:
        """Forgets what is remembered of a key."""


@runtime_checkable
class Latching(Protocol):
    """A head whose alarms can stay until somebody acknowledges them."""

    latches: bool

    @property
    def latched(self) -> list[int]:
        """The keys whose alarm nobody has acknowledged."""

    def latch(self, key: int) -> None:
        """As if it had been abnormal: what an earlier run left."""

    def acknowledge(self, key: int) -> bool:
        """Whether there was an alarm. It ends now, or when the score is back to normal."""


class OutputPlan(msgspec.Struct, frozen=True):
    """What to make of the outputs of one model.

    `tensors`: the outputs used (raw: any number, else one). `size`: numbers in a row of it. `smooth`: results of a key averaged.
    """

    type: ClassVar[str]
    tensors: tuple[str, ...]
    size: int = 1
    max_keys: int = 1
    labels: tuple[str, ...] | None = None
    smooth: int = 1

    def make_head(self) -> Head:
        raise NotImplementedError

    def make_head_of(self, names: Names | None) -> Head:
        """The head of a pipeline whose keys have these names; None: it has no keys."""
        return self.make_head()

    def result_fields(self) -> tuple[ResultField, ...]:
        """All fields, besides those of the envelope, of the bodies that the head gives, in their order."""
        raise NotImplementedError

    def default_of(self) -> tuple[str | None, str | None]:
        """The fields that `change`, and that `above` and `below` judge where no `of` is given; None: `of` is required."""
        return None, None

    def lasting_fields(self) -> tuple[ResultField, ...]:
        """The fields that every result has; the others only some have."""
        return self.result_fields()

    def entities(self) -> tuple[Entity, ...]:
        """What Home Assistant shows of a result, what the output is about first; nothing where no field is fit for that."""
        return ()

    def summary(self) -> str:
        """The line of `edged check`."""
        raise NotImplementedError

    @property
    def wanted(self) -> tuple[str, ...]:
        """The model's outputs that results are made of."""
        return self.tensors

    @property
    def judged_labels(self) -> tuple[str, ...] | None:
        """All values that the field `label` can have; None where they are not known, or there is no such field."""
        return None

    @property
    def averaged(self) -> int:
        """Numbers of a result that `smooth` averages."""
        return 0

    @property
    def text_bytes(self) -> int:
        """Bytes of a message beside those of its fields that are numbers."""
        return 0

    @property
    def keys_apart(self) -> int:
        """Keys that have limits of their own."""
        return 0

    @property
    def keeps_arrays(self) -> bool:
        """Whether values stay arrays, for pipelines that only publish format "raw"."""
        return False


class Tensor(Protocol):
    """An output of the model, as its file describes it; as a text, with its type and shape."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str | None: ...
    @property
    def shape(self) -> tuple[int | str | None, ...] | None: ...


class Input(Protocol):
    """An input of the model. `value` is that of a constant, None where samples fill it."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def value(self) -> Any: ...
    @property
    def picture_size(self) -> Size: ...


class Wrong(Protocol):
    def __call__(self, key: str, text: str, at: str = "value") -> None: ...


class Asked(msgspec.Struct, frozen=True):
    """All that a kind may plan with.

    `tensors` are the outputs that it may use, `boxes` how the manifest says that boxes lie in one, `view` how pictures come to
    the model. `is_sent_raw`: results go nowhere but into messages of format "raw". `wrong` takes what cannot be done, with a key
    of the pipeline.
    """

    settings: schema.Output
    tensors: Sequence[Tensor]
    inputs: Sequence[Input]
    labels: tuple[str, ...] | None
    max_keys: int
    model: str
    view: View | None
    boxes: str | None
    is_sent_raw: bool
    wrong: Wrong
    largest: Mapping[str, bool | None] = msgspec.field(default_factory=dict)
    """Of each output whether it names the class whose score is the largest; None where the graph does not show it."""
    classes: tuple[str, ...] = ()
    """What the graph itself calls its classes, by index, where it does."""
    characters: tuple[str, ...] = ()
    """What the metadata say that a recogniser of text writes."""
    task: str = ""
    keypoints: tuple[int, int] | None = None
    """Ultralytics' words for what a model finds: boxes alone, masks, key points (how many, of how many numbers), angles."""
    decoder: str = ""
    """How RT-DETR's decoder says it (`model/metadata.py`); empty for other models."""

    @property
    def numbers(self) -> list[Tensor]:
        """The tensors of floating-point numbers."""
        return [t for t in self.tensors if (t.dtype or "").startswith("float")]

    def one(self) -> Tensor | None:
        """The one tensor that the output is about: the only one, or the only one of floating-point numbers. None after saying
        that there is none."""
        kind, tensors, numbers = self.settings.type, self.tensors, self.numbers
        if len(tensors) == 1:
            if tensors[0].dtype in (None, "string"):
                self.wrong("output", f'{tensors[0].name} is {tensors[0]}; "{kind}" needs numbers')
                return None
            return tensors[0]
        if len(numbers) == 1:
            return numbers[0]
        listed_all = ", ".join(f"{t.name}: {t}" for t in tensors)
        fix = f'output = {{ type = "{kind}", tensor = "{(numbers or tensors)[0].name}" }}'
        self.wrong("output", f"the model has {len(tensors)} outputs ({listed_all}); say which one: {fix}")
        return None


class Check(msgspec.Struct, frozen=True):
    """What must hold between the keys `reads` of the settings; it is not asked when one of them is wrong by itself. `find` gets
    the settings and the plain table."""

    reads: tuple[str, ...]
    find: Late[Callable[[schema.Output, Mapping[str, Any]], Problems]]


class Kind(msgspec.Struct, frozen=True):
    """A row of the table. `holds` says what a result has; `keys` are the settings that have an effect, besides `type` and
    `tensor`."""

    holds: str
    plan: Late[Callable[[Asked], OutputPlan | None]]
    keys: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    takes_several: bool = False
    needs_model: bool = True
    shows_labels: bool = False


def row_shape(tensor: Tensor) -> tuple[int, ...] | None:
    """The shape of one row, None where the file leaves that open."""
    if tensor.shape is None:
        return None
    axes = tensor.shape
    if len(axes) > 1 or (axes and not isinstance(axes[0], int)):
        axes = axes[1:]
    sizes = tuple(a for a in axes if isinstance(a, int))
    return sizes if len(sizes) == len(axes) else None


def row_size(tensor: Tensor) -> int | None:
    """Numbers in one row."""
    shape = row_shape(tensor)
    return None if shape is None else math.prod(shape)


def smoothed(plan: OutputPlan) -> str:
    """What a summary says of `smooth`."""
    return f", mean of {plan.smooth}" if plan.smooth > 1 else ""
