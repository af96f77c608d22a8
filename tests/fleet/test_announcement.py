"""What is taken: only what was signed, for this group and model, newer than what was taken, in time, from where it may come."""

from __future__ import annotations

import json
import time

import pytest

from edged.fleet.announcement import Announcement, Known, Offer, Refused, is_below, is_for, place, read
from edged.fleet.signatures import public_keys
from tests.support.fleet import GROUP, Signer

NOTHING = Known()
FROM = ("https://models.plant/",)


def taken(signer: Signer, payload: bytes, known: Known = NOTHING, now: float | None = None) -> Offer:
    return read(payload, public_keys(signer.public), GROUP, "normal", FROM, known, now if now is not None else time.time())


def test_takes_what_is_signed(signer: Signer) -> None:
    offer = taken(signer, signer.announce(b"model"))
    assert offer.announcement.version == "4"
    assert taken(signer, signer.announce(b"model"), Known(1, offer.digest)).digest == offer.digest  # the same one again


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"topic": "fleet/others"}, "was signed for the topic"),
        ({"model": "other"}, "was signed for the model"),
        ({"counter": 0}, "older, or a replay"),
        ({"percent": 101}, "0 to 100"),
        ({"version": "../4"}, "expected a version"),
        ({"sha256": "AB"}, "expected sha256"),
        ({"size": 0}, "expected sha256"),
        ({"url": "http://models.plant/a.onnx"}, "not below"),
        ({"url": "https://elsewhere/a.onnx"}, "not below"),
        ({"until": 1}, "it has expired"),
        ({"signed_at": int(time.time()) + 10**6, "until": int(time.time()) + 10**7}, "clock of this device is behind"),
        ({"more": 1}, "not understood"),
    ],
)
def test_refuses(signer: Signer, changes: dict[str, object], said: str) -> None:
    with pytest.raises(Refused, match=said):
        taken(signer, signer.announce(b"model", **{"counter": 2, **changes}), Known(1, "of another one"))


def test_two_that_contradict(signer: Signer) -> None:
    first = taken(signer, signer.announce(b"one"))
    with pytest.raises(Refused, match="two different announcements"):
        taken(signer, signer.announce(b"two"), Known(1, first.digest))
    assert taken(signer, signer.announce(b"two", counter=2), Known(1, first.digest)).announcement.counter == 2


def test_a_signature_of_somebody_else(signer: Signer) -> None:
    with pytest.raises(Refused, match="none of the keys"):
        taken(signer, Signer().announce(b"model"))
    changed = json.loads(signer.announce(b"model"))
    changed["signed"] = changed["signed"].replace('"4"', '"5"')
    with pytest.raises(Refused, match="none of the keys"):
        taken(signer, json.dumps(changed).encode())


@pytest.mark.parametrize("payload", [b"", b"4", b"{}", b"\xff", b'{"signed":"x","signature":"!"}', b"[" * 40_000, b"x" * 50_000])
def test_what_is_none(signer: Signer, payload: bytes) -> None:
    with pytest.raises(Refused):
        taken(signer, payload)


def test_several_keys_may_sign(signer: Signer) -> None:
    keys = public_keys(Signer().public + b"\n" + signer.public)
    assert len(keys) == 2
    assert read(signer.announce(b"m"), keys, GROUP, "normal", FROM, Known(), time.time())


@pytest.mark.parametrize(
    "url",
    [
        "https://models.plant.evil/a",
        "https://models.plant@evil/a",
        "https://models.plant:8443/a",
        "https://models.plant/../a",
        "https://models.plant/%2e%2e/a",
        "https://models.plant/a b",
        "https://models.plant\\@evil/",
        "ftp://models.plant/a",
    ],
)
def test_urls_from_elsewhere(url: str) -> None:
    assert not is_below(url, ("https://models.plant/",))


def test_a_folder_is_no_start_of_a_name() -> None:
    assert is_below("https://m/models/a.onnx?x=1", ("https://m/models/",))
    assert not is_below("https://m/models-of-others/a.onnx", ("https://m/models/",))


def test_who_takes_it() -> None:
    def one(**changes: object) -> Announcement:
        return Announcement("t", "normal", "4", 1, 0, 0, **changes)  # type: ignore[arg-type]

    assert is_for(one(), "press7", {})
    assert not is_for(one(devices=("press1",)), "press7", {})
    assert is_for(one(tags={"hall": "B"}), "press7", {"hall": "B", "x": "y"})
    assert not is_for(one(tags={"hall": "B"}), "press7", {"hall": "C"})
    names = [f"press{n}" for n in range(2000)]
    tenth = {n for n in names if is_for(one(percent=10), n, {})}
    half = {n for n in names if is_for(one(percent=50), n, {})}
    assert 140 < len(tenth) < 260
    assert tenth < half  # who was first stays in
    assert not any(is_for(one(percent=0), n, {}) for n in names)
    assert place("normal", "press7") != place("other", "press7")
