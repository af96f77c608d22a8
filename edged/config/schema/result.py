"""What a result holds, and when, where and how it goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edged.config.external import (
    Charset,
)
from edged.config.parsers.choices import Flag
from edged.config.parsers.measures import (
    CapOf,
    Duration,
    Period,
    Size,
)
from edged.config.parsers.names import (
    FieldName,
    Filter,
    Latch,
    Name,
    Text,
    Topic,
)
from edged.config.parsers.numbers import (
    Count,
    DeadBand,
    Factor,
    Number,
    Share,
    integer,
)
from edged.config.schema.keys import Key, Several, Table
from edged.notation.units import H
from edged.records import Cap
from edged.results.heads import table as heads
from edged.results.heads.detectors import table as detectors

if TYPE_CHECKING:
    HeadName = str
    DetectorName = str
else:
    HeadName = Literal[tuple(heads.HEADS)]
    DetectorName = Literal[tuple(detectors.HEADS)]


class OutputField(Table, frozen=True, kw_only=True):
    """One value of a regression."""

    FIRST = "name"
    name: Annotated[FieldName, Key("what the value is called in the result")]
    scale: Annotated[Factor, Key("value = raw x scale + offset")] = 1.0
    offset: Annotated[Number, Key("value = raw x scale + offset")] = 0.0
    unit: Annotated[Text | None, Key("the unit, for people: health shows it")] = None


class Output(Table, frozen=True, kw_only=True):
    """What the model's numbers mean."""

    FIRST = TYPE = "type"
    type: Annotated[
        HeadName,
        Key("what a result holds. " + "; ".join(f"{name}: {kind.holds}" for name, kind in heads.HEADS.items())),
    ] = "raw"
    tensor: Annotated[
        Annotated[tuple[FieldName, ...], Several(1)] | None,
        Key("which output of the model", default="the only one; raw: all"),
    ] = None
    softmax: Annotated[
        Flag | None,
        Key(
            "whether to make probabilities of the values",
            default="if the values are not probabilities",
            only=heads.with_key("softmax"),
        ),
    ] = None
    top: Annotated[Count, Key("how many labels `scores` has: the best", only=heads.with_key("top"))] = 5
    fields: Annotated[
        Annotated[tuple[OutputField, ...], Several(1)] | None,
        Key("names for the values, in order", default="by number", only=heads.with_key("fields")),
    ] = None
    error: Annotated[
        Literal["mae", "mse"] | None,
        Key("the model reconstructs its input: the error is the score", only=heads.with_key("error")),
    ] = None
    above: Annotated[
        Number | None,
        Key(
            "anomaly: the threshold, a higher score is abnormal; detect: the least score",
            default="detect: 0.25",
            only=heads.with_key("above"),
        ),
    ] = None
    below: Annotated[Number | None, Key("the threshold: a lower score is abnormal", only=heads.with_key("below"))] = None
    release: Annotated[
        Number | None, Key("the score at which it is normal again", default="the threshold", only=heads.with_key("release"))
    ] = None
    latch: Annotated[
        Latch,
        Key(
            "once abnormal, a key stays so until it is acknowledged: `true`: by `edged ack`; a topic: also by a message there on "
            "the brokers of its results, whose payload is the key, or empty for all. What was acknowledged ends when the score "
            "is back to normal. An alarm outlives a restart",
            only=heads.with_key("latch"),
        ),
    ] = False
    iou: Annotated[
        Share,
        Key(
            "of two boxes of one label that overlap more (intersection over union) the better one stays",
            only=heads.with_key("iou"),
        ),
    ] = 0.45
    max: Annotated[Count, Key("the most detections in a result: the best", only=heads.with_key("max"))] = 100
    head: Annotated[
        DetectorName,
        Key("how boxes lie in the outputs; auto: as metadata and shapes tell", only=heads.with_key("head")),
    ] = "auto"
    masks: Annotated[
        Literal["polygon", "rle"] | None,
        Key(
            "masks in the result: an outline in pixels of the picture, or COCO's runs on the model's own grid over it",
            only=heads.with_key("masks"),
        ),
    ] = None
    label: Annotated[
        Annotated[tuple[Text, ...], Several(1)] | None,
        Key("only detections of these", default="all", only=heads.with_key("label")),
    ] = None
    charset: Annotated[
        Charset | None,
        Key(
            "what the classes of a CTC head write, without the blank; a path is a file with one a line",
            default="the metadata's `character`",
            only=heads.with_key("charset"),
        ),
    ] = None
    blank: Annotated[Annotated[int, integer(0, 1 << 20)], Key("the class that writes nothing", only=heads.with_key("blank"))] = 0
    smooth: Annotated[
        Count,
        Key("the result is the mean of the last n results of the key", only=heads.with_key("smooth")),
    ] = 1


UNSAID = Output()
"""The output of a pipeline that says nothing of it."""


class When(Table, frozen=True, kw_only=True):
    """Which results edged sends. It counts what it holds back as `filtered`. All conditions given must hold."""

    change: Annotated[
        DeadBand,
        Key(
            "it differs from what this entry last published for the key; a number is a dead band",
            default="off",
        ),
    ] = None
    of: Annotated[
        FieldName | None,
        Key(
            "which field of the result; alone: the field is true",
            default="classify: `label` for change, `score` for above and below; anomaly: `anomaly`, `score`; "
            "detect: `count`, `score`; regress: the first value; raw: none",
        ),
    ] = None
    above: Annotated[Number | None, Key("the field is greater")] = None
    below: Annotated[Number | None, Key("the field is less")] = None
    label: Annotated[Annotated[tuple[Text, ...], Several(1)] | None, Key("the field is one of these")] = None
    min_interval: Annotated[
        Period | None,
        Key(
            "at most one result in this time. edged keeps the newest one that it held back (one for each key) and "
            "sends it when the time is over, if the conditions still hold, and at a stop; at QoS 1 it keeps it "
            "in the spool, so that a crash does not lose it"
        ),
    ] = None
    max_interval: Annotated[
        Period | None,
        Key("at least one result in this time while results come: the newest, whether or not the conditions hold"),
    ] = None


class Gate(Table, frozen=True, kw_only=True):
    """The pipeline runs only while another stream says so, key by key. edged counts what it does not run as `gated`. All
    conditions must hold."""

    source: Annotated[
        Name,
        Key("the stream that is judged: a source, or a pipeline by its results"),
    ]
    of: Annotated[
        FieldName | None,
        Key(
            "which field of it; alone: the field is true",
            default="required for a source; classify: `score`; anomaly: `score`; detect: `score`; regress: the first value",
        ),
    ] = None
    above: Annotated[Number | None, Key("the field is greater")] = None
    below: Annotated[Number | None, Key("the field is less")] = None
    label: Annotated[Annotated[tuple[Text, ...], Several(1)] | None, Key("the field is one of these")] = None
    change: Annotated[
        DeadBand,
        Key("the field differs from the result of the key before; a number is a dead band; of a pipeline", default="off"),
    ] = None
    hold: Annotated[Duration, Key("how long the gate stays open after the conditions last held", default='`"0s"`')] = 0


class ShownEntity(Table, frozen=True, kw_only=True):
    """How Home Assistant shows the results of this entry."""

    name: Annotated[Text | None, Key("the name that people see", default="the pipeline's")] = None
    device_class: Annotated[
        Text | None,
        Key(
            "Home Assistant's: of a sensor or, for anomaly, of a binary_sensor",
            default="`problem` for anomaly; by the unit, where that can mean one thing only",
        ),
    ] = None
    icon: Annotated[Text | None, Key('such as `"mdi:pump"`', default="none")] = None


class Unsure(Table, frozen=True, kw_only=True):
    """Which results say that the model was unsure, or that their input is worth a look. All conditions must hold."""

    of: Annotated[
        FieldName | None,
        Key(
            "which field of the result; alone: the field is true",
            default="classify: `score`; anomaly: `score`; detect: `score`; regress: the first value",
        ),
    ] = None
    above: Annotated[Number | None, Key("the field is greater")] = None
    below: Annotated[Number | None, Key("the field is less")] = None
    label: Annotated[Annotated[tuple[Text, ...], Several(1)] | None, Key("the field is one of these")] = None


class HardSamples(Table, frozen=True, kw_only=True):
    """Inputs that are worth a look, as recordings: kept on disk (`max_bytes`) or published (`topic`)."""

    SLIPS: ClassVar[Mapping[str, tuple[str, str]]] = {"rate": ("limit", 'a cap is limit = "6/h"')}
    when: Annotated[Unsure | None, Key("those whose results say so", default="none")] = None
    limit: Annotated[
        Annotated[tuple[CapOf, ...], Several(1)],
        Key('never more of those than this, such as `["6/h", "50/d"]`; others are counted', default='`"6/h"`'),
    ] = (Cap(6, H),)
    audit: Annotated[
        CapOf | None, Key("so many besides, on average, at random moments, whatever their results say", default="none")
    ] = None
    topic: Annotated[
        Topic | None,
        Key(
            "publish them there, at QoS 1, each message a recording; they are not kept while the broker is away. May hold "
            "`{device}`, `{base_topic}`, `{tags.NAME}` and `{pipeline}`"
        ),
    ] = None
    broker: Annotated[Name | None, Key("where `topic` and `labels` are", default="the only one")] = None
    max_bytes: Annotated[
        Size | None,
        Key("keep them in `device.state_dir/samples/PIPELINE`, at most so many bytes: the oldest go, those with a label last"),
    ] = None
    labels: Annotated[
        Filter | None,
        Key(
            "messages there say what the result of a kept sample should have been: "
            '`{"run": "...", "seq": 17, "label": "..."}`, with `run` and `seq` of the result'
        ),
    ] = None


class Publish(Table, frozen=True, kw_only=True):
    """Where results go, and which."""

    FIRST = "topic"
    IS_SAID_BY_EMPTY = True
    topic: Annotated[
        Topic | None,
        Key(
            "with a keyed source it must hold `{key}` or all captures",
            default='`"{base_topic}/{pipeline}"`, keyed: `"/{key}"` added',
        ),
    ] = None
    broker: Annotated[Name | None, Key("the broker to publish at", default="the only one")] = None
    qos: Annotated[Literal[0, 1], Key("1: the broker gets it at least once")] = 1
    retain: Annotated[Flag, Key("whether the broker keeps the last one for those who subscribe later")] = False
    format: Annotated[
        Literal["json", "msgpack", "cbor", "raw", "text"],
        Key("raw: the numbers of one field, little-endian, in the model's type, else float32; text: the bare value of one field"),
    ] = "json"
    fields: Annotated[
        Annotated[tuple[FieldName, ...], Several(1)] | None,
        Key("the fields of the result to send", default="all"),
    ] = None
    when: Annotated[When, Key("which results are sent", default="all")] = When()
    homeassistant: Annotated[
        Flag | ShownEntity | None,
        Key(
            "`false`: this entry makes no entity; `true`, or a table: this one does and no other of the pipeline",
            default="with `[homeassistant]` the first entry that it can read",
        ),
    ] = None
