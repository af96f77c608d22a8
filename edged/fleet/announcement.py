"""What a retained announcement says, and whether this device takes it. Pure: time, keys and what is kept are arguments.

    {"signed": "<the announcement as JSON text>", "signature": "<base64 Ed25519 of it>"}

The announcement is signed as the text that it is, so that nobody has to agree on how JSON is written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from edged.fleet.signatures import is_signed

MAX_BYTES = 48 * 1024
CONFIGURATION = ""
"""Stands for the configuration where models go by their names: no model is called so."""
CLOCK_SLACK_S = 24 * 3600
"""A device whose clock is further behind the signature cannot judge an end date."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


class Refused(ValueError):
    """An announcement that is not taken; the text says why."""


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signed: str
    signature: str


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`topic` is the group for which it was signed: it means nothing elsewhere. `counter` rises with each announcement of a model
    in a group. `signed_at` and `until` are Unix seconds. With `back` who runs `version` goes back to the one before, and
    there is nothing to fetch. With `configuration` it is of one, and `model` is empty."""

    topic: str
    model: str
    version: str
    counter: int
    signed_at: int
    until: int
    sha256: str = ""
    size: int = 0
    url: str = ""
    devices: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    percent: float = 100.0
    back: bool = False
    configuration: bool = False


class Known(NamedTuple):
    """The last announcement that was taken of a model: its counter, and the SHA-256 of its text."""

    counter: int = -1
    digest: str = ""


class Offer(NamedTuple):
    """An announcement, and the SHA-256 of the text that was signed."""

    announcement: Announcement
    digest: str


def read(payload: bytes, keys: list[Any], topic: str, model: str, sources: Sequence[str], known: Known, utc_s: float) -> Offer:
    """What is announced on the topic of a model. Raises Refused.

    `known` is what was taken last: anything older, and anything else with the same counter, is refused.
    """
    if len(payload) > MAX_BYTES:
        raise Refused(f"{len(payload)} bytes, more than the {MAX_BYTES} that an announcement may have")
    try:
        envelope = msgspec.json.decode(payload, type=Envelope)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refused(f"not an announcement: {error}") from None
    if not is_signed(keys, envelope.signed, envelope.signature):
        raise Refused("none of the keys in signed_by made the signature")
    try:
        one = msgspec.json.decode(envelope.signed, type=Announcement)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refused(f"signed, but not understood: {error}; is it for a newer edged?") from None
    digest = hashlib.sha256(envelope.signed.encode()).hexdigest()
    _check(one, topic, model, sources)
    if one.counter < known.counter:
        raise Refused(f"its counter is {one.counter}, and edged took {known.counter} before: it is older, or a replay")
    if one.counter == known.counter and digest != known.digest:
        raise Refused(f"two different announcements have the counter {one.counter}; sign again with a higher one")
    if utc_s < one.signed_at - CLOCK_SLACK_S:
        raise Refused("the clock of this device is behind the time of the signature: set the clock (NTP)")
    if utc_s > one.until:
        raise Refused("it has expired; sign it again")
    return Offer(one, digest)


def _check(one: Announcement, topic: str, model: str, sources: Sequence[str]) -> None:
    if one.topic != topic:
        raise Refused(f"it was signed for the topic {one.topic}, and this is {topic}")
    if one.configuration is not (model == CONFIGURATION):
        raise Refused(f"it was signed for {'configurations' if one.configuration else 'models'}, and this is another topic")
    if one.model != model:
        raise Refused(f"it was signed for the model {one.model}, and this topic is that of {model}")
    if not 0 <= one.percent <= 100:
        raise Refused(f"percent is {one.percent:g}; expected 0 to 100")
    if one.counter < 0:
        raise Refused("its counter is negative")
    if one.back:
        return
    if not _VERSION.fullmatch(one.version):
        raise Refused("expected a version of at most 64 letters, digits, _ . + and -")
    if not _SHA256.fullmatch(one.sha256) or one.size <= 0:
        raise Refused("expected sha256 (64 hex digits) and size (bytes) of the file")
    if not is_below(one.url, sources):
        raise Refused(f"its URL is not below any of `from`: {one.url[:200]}")


def is_below(url: str, sources: Sequence[str]) -> bool:
    """Whether a URL is below one of these addresses, by its parts: no other host, no way up, nothing hidden in it."""
    found = urlsplit(url)
    is_plain = found.scheme == "https" and "@" not in found.netloc and not found.fragment and "\\" not in url and url.isascii()
    path = found.path.lower()
    if not is_plain or ".." in path.split("/") or "%2e" in path or "%2f" in path or any(c <= " " for c in url):
        return False
    for source in map(urlsplit, sources):
        if found.netloc.lower() == source.netloc.lower() and found.path.startswith(source.path):
            return True
    return False


def is_for(one: Announcement, device: str, tags: Mapping[str, str]) -> bool:
    """Whether this device is one of those that take it: by name, by all its tags, and by its place among a hundred, which stays
    the same for a model whatever its version."""
    if one.devices and device not in one.devices:
        return False
    if any(tags.get(name) != value for name, value in one.tags.items()):
        return False
    return place(one.model, device) < one.percent


def place(model: str, device: str) -> float:
    """Where a device stands in a roll-out of a model: 0 to 100, even over many devices."""
    return int.from_bytes(hashlib.sha256(f"{model}\0{device}".encode()).digest()[:4], "big") / 2**32 * 100
