"""The table of binary frames and blocks: how each type is cut out of a stream.

A type that others can say in general keys is a row of `READY`: what it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from edged.decode import escapes, vedirect
from edged.decode.blocks import Blocks, dsmr_crc
from edged.decode.checksums import Checksum
from edged.decode.frames import Framer, FrameScanner
from edged.decode.mavlink import Mavlink
from edged.decode.plan import DecodePlan
from edged.decode.shapes import Sized
from edged.notation.markers import OpenMarker

if TYPE_CHECKING:
    from edged.config import schema

READY: Mapping[str, tuple[dict[str, Any], Any]] = {
    "ubx": ({"type": "length", "sync": b"\xb5b", "length": "uint16", "offset": 4}, Checksum("fletcher8", start=2)),
    "dsmr": ({"type": "block", "start": b"/", "end": b"!"}, dsmr_crc),
}
"""Types by other names: the keys that they stand for, and what proves them."""


def _sized(frame: schema.Frame, proof: Any, max_bytes: int) -> Framer:
    return FrameScanner(Sized(frame, proof, max_bytes))


def _block(frame: schema.Frame, proof: Any, max_bytes: int) -> Framer:
    return Blocks(frame.start, frame.end, max_bytes, proof)


def _mavlink(frame: schema.Frame, proof: Any, max_bytes: int) -> Framer:
    return FrameScanner(Mavlink({int(id): extra for id, extra in (frame.crc_extra or {}).items()}))


def _dle(frame: schema.Frame, proof: Any, max_bytes: int) -> Framer:
    assert not isinstance(frame.sync, OpenMarker)
    return escapes.Dle(frame.sync or escapes.DLE_STX, proof, max_bytes)


_FRAMERS: dict[str, Callable[[schema.Frame, Any, int], Framer]] = {
    "fixed": _sized,
    "length": _sized,
    "cobs": lambda frame, proof, max_bytes: escapes.Delimited(escapes.COBS, proof, max_bytes),
    "slip": lambda frame, proof, max_bytes: escapes.Delimited(escapes.SLIP, proof, max_bytes),
    "hdlc": lambda frame, proof, max_bytes: escapes.Delimited(escapes.HDLC, proof, max_bytes),
    "dle": _dle,
    "mavlink": _mavlink,
    "block": _block,
    "vedirect": lambda frame, proof, max_bytes: vedirect.VeDirect(max_bytes),
}


def make_framer(plan: DecodePlan) -> Framer:
    """What cuts the frames of a source that has other ones than lines."""
    assert plan.frame is not None
    keys, proof = READY.get(plan.frame.type, ({}, Checksum.of(plan.checksum)))
    frame = msgspec.structs.replace(plan.frame, **keys)
    return _FRAMERS[frame.type](frame, proof, plan.max_bytes)
