"""The vocabulary of remote models: how one is asked, what goes out, what comes back, and why nothing did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from numpy.typing import NDArray

from edged.model.inputs import InputPlan
from edged.notation.field_paths import Path as FieldPath
from edged.notation.values import HttpUrl, Secret
from edged.records import Cap

Array = NDArray[Any]
MAX_GIVEN = 16 * 1024
"""Bytes of what one question has beside its numbers, as JSON."""
MAX_PHOTO = 1024 * 1024
"""Bytes of its picture."""
PICTURE, FIELDS = "image", "fields"
"""Remote inputs by names of ours: the picture, and the fields that are sent by their own names."""
PREFIX = "remote: "
"""Before the names of remote inputs among the rows of a pipeline, whose other names are those of its fallback."""


@dataclass(frozen=True, slots=True)
class RemotePlan:
    """One `[model.NAME]` with a `url`. `peer_name` is what the peer calls it. `fallback`: the local model that answers for it.
    Times in ns. `most_bytes` is the largest request that a pipeline makes of a row, as far as the plan can tell."""

    name: str
    url: HttpUrl
    protocol: str
    peer_name: str = ""
    token: Secret | None = None
    headers: tuple[tuple[str, Secret], ...] = ()
    ca: Path | None = None
    body: str = "json"
    outputs: tuple[tuple[str, FieldPath], ...] = ()
    schema: str = ""
    stream: bool = False
    concurrency: int = 4
    timeout_ns: int = 30 * 10**9
    retries: int = 2
    cooldown_ns: int = 30 * 10**9
    limits: tuple[Cap, ...] = ()
    fallback: str | None = None
    max_bytes: int = 256 * 1024
    most_bytes: int = field(default=0, compare=False)


class AskPlan(msgspec.Struct, frozen=True):
    """What one pipeline sends of a row. `inputs` are rows of its slots. `fields` name the columns where those go out by name.
    `prompt` is the template's text, `names` the placeholders in it. `colours`: of a picture that steps have scaled, what each
    number is to be multiplied with, and what is added then. `outputs`: the tensors that results are made of, with the shape of a
    row where it is known."""

    remote: str
    inputs: tuple[InputPlan, ...]
    fields: tuple[tuple[str, int, int, tuple[int, ...]], ...] = ()
    prompt: str = ""
    names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """The pipelines whose results the prompt names."""
    colours: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    is_bgr: bool = False
    outputs: tuple[tuple[str, tuple[int, ...] | None], ...] = ()
    free: tuple[str, ...] = ()
    """The fields of a question that may be texts, lists and so on."""
    photo: str = ""
    """The field of a question that is a picture."""

    @property
    def given_bytes(self) -> int:
        """What a question may have beside its numbers."""
        return (MAX_GIVEN if self.free else 0) + (MAX_PHOTO if self.photo else 0)


class Wanted(NamedTuple):
    """A row as a protocol sees it."""

    inputs: Mapping[str, Array]
    prompt: str = ""
    picture: bytes = b""


def kind_of(picture: bytes) -> str:
    """Its media type."""
    return "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"


class Request(NamedTuple):
    """`target` is the path; `headers` beside those of the connection."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What a peer said of one row: tensors by name, or a text, and with a schema an object."""

    outputs: Mapping[str, Array] = {}
    text: str | None = None
    answer: Any = None


class NoAnswer(Exception):
    """There is no answer to use. `reason` is a counter's name. `is_final`: the same request will not do better. `blames_peer`: it
    says something of the peer, not of this row. `is_refusal`: the peer answered that it will not, or cannot."""

    def __init__(
        self,
        text: str,
        reason: str = "malformed",
        is_final: bool = False,
        blames_peer: bool = True,
        wait_s: float = 0.0,
        is_refusal: bool = False,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.is_refusal = is_refusal
        self.is_final = is_final
        self.blames_peer = blames_peer
        self.wait_s = wait_s


class Unanswered(Exception):
    """The row got no answer from its remote model, and no other model answers for it."""


class Limited(Exception):
    """The row would be more than `limit` allows."""
