"""What comes before a model: windows, alignment, inputs and their steps."""

from __future__ import annotations

from typing import Annotated, Literal

from edged.config.parsers.choices import Flag
from edged.config.parsers.measures import (
    Period,
    Rate,
    Samples,
)
from edged.config.parsers.names import (
    FieldName,
    Name,
    Text,
)
from edged.config.parsers.numbers import (
    Constant,
    Count,
    Edges,
    Index,
    NotNegative,
    Numbers,
    PictureSize,
    Positive,
    Reference,
    integer,
)
from edged.config.parsers.paths import StepName
from edged.config.schema.keys import Key, Several, Table


class Window(Table, frozen=True, kw_only=True):
    """The newest samples of a key, as one input of the model."""

    size: Annotated[Samples, Key("newest samples in one run; a duration becomes samples by `rate`")]
    hop: Annotated[Samples | None, Key("new samples between two runs", default="`size`")] = None
    gap: Annotated[
        Period | None,
        Key(
            "a longer silence of a key starts its window over",
            default="3 periods (stamped on arrival: at least 1s); without `rate` none",
        ),
    ] = None


class Align(Table, frozen=True, kw_only=True):
    """How several streams become one. Equal keys are joined; an unkeyed stream joins to all."""

    to: Annotated[Name | None, Key("one row for each sample of this stream", default="the first source")] = None
    rate: Annotated[
        Rate | None,
        Key("instead of `to`: rows on a regular grid; also right for a single irregular source"),
    ] = None
    method: Annotated[
        Literal["previous", "nearest", "linear"],
        Key("which value the other streams give; nearest and linear wait for their next sample, at most `tolerance`"),
    ] = "previous"
    tolerance: Annotated[
        Period | None,
        Key(
            "the largest distance in time; an older value is bad (`on_bad` of its source)",
            default="`stale_after` of the joined source; required if that is `never`, or if neither it nor `rate` is set",
        ),
    ] = None


class Input(Table, frozen=True, kw_only=True):
    """What goes into one input of the model. A model of one input needs none of this."""

    fields: Annotated[
        Annotated[tuple[FieldName, ...], Several(1)] | None,
        Key("the fields, in the order the model gets them", default="all, in order"),
    ] = None
    size: Annotated[Count | None, Key("how many of the newest rows; 1: the latest values", default="the window's")] = None
    layout: Annotated[
        Literal["time,field", "field,time", "hwc", "chw"] | None,
        Key(
            "which axis is time; for pictures: height, width, color, or color, height, width",
            default="the one that fits; required if both do",
        ),
    ] = None
    value: Annotated[Constant, Key("a constant instead of fields")] = None
    template: Annotated[
        Text | None,
        Key(
            "of the input `prompt` of an openai model: a text with names in braces: captures of the topic, fields, and fields of "
            "another pipeline's newest result of the same key, `{look.count}`"
        ),
    ] = None


STFT = ("spectrogram", "log_mel")


class Step(Table, frozen=True, kw_only=True):
    """One step before the model: array in, array out."""

    FIRST = TYPE = "step"
    step: Annotated[StepName, Key("what to do")]
    mean: Annotated[Numbers | None, Key("(x - mean) / std; with `std`", only=("normalize",))] = None
    std: Annotated[Numbers | None, Key("(x - mean) / std; with `mean`", only=("normalize",))] = None
    min: Annotated[Numbers | None, Key("(x - min) / (max - min); with `max`", only=("normalize",))] = None
    max: Annotated[Numbers | None, Key("(x - min) / (max - min); with `min`", only=("normalize",))] = None
    size: Annotated[
        PictureSize | None,
        Key("width and height that every picture is brought to: `[640, 640]`", only=("resize",), required=("resize",)),
    ] = None
    fit: Annotated[
        Literal["letterbox", "stretch", "crop"],
        Key(
            (
                "letterbox: in proportion, with gray around it; crop: in proportion, the excess cut off; stretch: out "
                "of proportion"
            ),
            only=("resize",),
        ),
    ] = "letterbox"
    n_fft: Annotated[Count, Key("librosa's: samples of one spectrum", only=STFT)] = 2048
    hop_length: Annotated[
        Count | None, Key("librosa's: samples from one spectrum to the next", default="a quarter of `win_length`", only=STFT)
    ] = None
    win_length: Annotated[Count | None, Key("librosa's: samples that the window leaves", default="`n_fft`", only=STFT)] = None
    center: Annotated[
        Flag, Key("librosa's: frames are centered, with zeros before and after the samples; false: whole ones alone", only=STFT)
    ] = True
    power: Annotated[Positive, Key("librosa's: 2 is power, 1 is amplitude", only=STFT)] = 2.0
    window: Annotated[
        Literal["hann", "hamming", "blackman", "boxcar"], Key("scipy's: what a spectrum is weighted with", only=(*STFT, "bands"))
    ] = "hann"
    sr: Annotated[Rate | None, Key("librosa's: samples per second", default="`rate` of the source", only=("log_mel",))] = None
    n_mels: Annotated[Annotated[int, integer(1, 4096)], Key("librosa's: mel bands", only=("log_mel",))] = 128
    fmin: Annotated[NotNegative, Key("librosa's: lowest frequency, Hz", only=("log_mel",))] = 0.0
    fmax: Annotated[Positive | None, Key("librosa's: highest frequency, Hz", default="half of `sr`", only=("log_mel",))] = None
    htk: Annotated[Flag, Key("librosa's: the mel scale of HTK instead of Slaney's", only=("log_mel",))] = False
    norm: Annotated[
        Literal["slaney", "none"], Key("librosa's: slaney: each band has the area 1; none: the height 1", only=("log_mel",))
    ] = "slaney"
    ref: Annotated[
        Reference, Key("librosa's: the power that is 0 dB; `max`: the largest of each window, as `ref=np.max`", only=("log_mel",))
    ] = 1.0
    amin: Annotated[Positive, Key("librosa's: the least power", only=("log_mel",))] = 1e-10
    top_db: Annotated[Positive, Key("librosa's: nothing is further below the loudest of a window, dB", only=("log_mel",))] = 80.0
    log_offset: Annotated[
        Positive | None,
        Key("ln(mel + log_offset) in the place of decibels, as of VGGish (0.01) and YAMNet (0.001)", only=("log_mel",)),
    ] = None
    edges: Annotated[
        Edges | None,
        Key("Hz: `[1, 4, 8, 13]` is three bands; the power in each, by scipy's `welch`", only=("bands",), required=("bands",)),
    ] = None
    fs: Annotated[Rate | None, Key("scipy's: samples per second", default="`rate` of the source", only=("bands",))] = None
    nperseg: Annotated[Count | None, Key("scipy's: samples of a segment", default="256, at most the window", only=("bands",))] = (
        None
    )
    noverlap: Annotated[
        Index | None, Key("scipy's: samples that two segments share", default="half of `nperseg`", only=("bands",))
    ] = None
