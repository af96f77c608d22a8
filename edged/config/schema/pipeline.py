"""`[pipeline.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edged.config.parsers.measures import (
    Period,
)
from edged.config.parsers.names import (
    Name,
)
from edged.config.parsers.numbers import (
    Count,
    integer,
)
from edged.config.parsers.paths import Custom
from edged.config.schema.inputs import Align, Input, Step, Window
from edged.config.schema.keys import Key, Several, Table
from edged.config.schema.result import UNSAID, Gate, HardSamples, Output, Publish
from edged.notation.values import Function


class Pipeline(Table, frozen=True, kw_only=True):
    """The path from streams through a model to topics."""

    source: Annotated[
        Annotated[tuple[Name, ...], Several(1)],
        Key("one stream, or several that `align` joins; the first sets the pace"),
    ]
    model: Annotated[
        Name | None,
        Key("the model; without one the samples or windows themselves are the result (`outputs`)"),
    ] = None
    output: Annotated[
        Output, Key("what the model's numbers mean", default="as the model's metadata say (Ultralytics' `task`), else `\"raw\"`")
    ] = UNSAID
    publish: Annotated[
        Annotated[tuple[Publish, ...], Several()],
        Key("where results go; `[]`: nowhere (a step of a chain)", default="one, all defaults"),
    ] = (Publish(),)
    preprocess: Annotated[
        Annotated[tuple[Step, ...], Several()] | None,
        Key(
            "steps before the model, in order",
            default="the manifest's normalization; of pictures also `resize` to what the metadata say (Ultralytics' `imgsz`)",
        ),
    ] = None
    postprocess: Annotated[
        Annotated[tuple[Custom, ...], Several()],
        Key("steps after the model: outputs in, outputs out", default="none"),
    ] = ()
    slots: Annotated[
        Count | None,
        Key(
            "how many windows may wait for the model: the limit of the queue",
            default="the most of: 2 x `batch.max`; `max_keys` if keyed; what fits in 1 MiB, up to 256",
        ),
    ] = None
    overflow: Annotated[
        Literal["drop_oldest", "drop_newest", "latest_only", "block"] | None,
        Key(
            (
                "what edged drops when all slots are taken; latest_only: only the newest of each key waits; block: "
                "withhold acknowledgments, so that the broker keeps the rest (MQTT at QoS 1), or stop reading the "
                "port; not for MQTT at QoS 0"
            ),
            default='`"block"` if all sources are MQTT at QoS 1 or replay at speed 0, else `"drop_oldest"`',
        ),
    ] = None
    deadline: Annotated[
        Period | None,
        Key(
            "edged drops a result that is older when it is made (counted from the arrival of its newest sample), "
            "as `expired`, and does not run what would be"
        ),
    ] = None
    priority: Annotated[
        Annotated[int, integer(-1000, 1000)],
        Key("of pipelines that share a model the higher runs first, equal ones take turns; when memory is short it is shed last"),
    ] = 0
    gate: Annotated[
        Gate | None,
        Key(
            (
                "run only while another stream says so, key by key: by the same sample where both start from one "
                "source, otherwise by the newest that is not after it; closed while nothing is known, and while that "
                "stream is stale"
            ),
            default="none",
        ),
    ] = None
    samples: Annotated[
        HardSamples | None,
        Key("inputs that the model was unsure of, and a random share, kept or published to be labelled", default="none"),
    ] = None
    window: Annotated[Window | None, Key("samples of one run", default="none: each sample by itself")] = None
    align: Annotated[Align | None, Key("how several streams become one", default="to the first source")] = None
    inputs: Annotated[
        dict[str, Input],
        Key("what goes into which input of the model", default="all fields into the only input"),
    ] = msgspec.field(default_factory=dict)

    @property
    def functions(self) -> dict[str, Function]:
        """The user's own, before and after the model, by the key that names each."""
        steps = [step.step for step in self.preprocess or ()]
        named = (("preprocess", steps), ("postprocess", self.postprocess))
        return {f"{key}[{i}]": one for key, of in named for i, one in enumerate(of) if isinstance(one, Function)}
