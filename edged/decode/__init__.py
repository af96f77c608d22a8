"""Bytes to rows of numbers: frames, checksums, formats, ranges.

Pure: no clock, no file, no loop. Every decoder is strict, refuses what is malformed by itself and keeps its neighbours,
holds at most one unfinished frame of `max_bytes`, and gives the same rows however the bytes are chopped.
"""

from edged.decode.payload import PayloadDecoder, make_payload_decoder
from edged.decode.plan import DecodePlan, FieldPlan
from edged.decode.planner import plan_decode
from edged.decode.values import UNTOLD, Arrived

__all__ = [
    "UNTOLD",
    "Arrived",
    "DecodePlan",
    "FieldPlan",
    "PayloadDecoder",
    "make_payload_decoder",
    "plan_decode",
]
