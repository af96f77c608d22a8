import pytest

from edged.config.introspection import types_of
from edged.config.schema import Frame
from edged.decode.framers import make_framer
from tests.support.decode_plans import field, plan


@pytest.mark.parametrize("kind", [kind for kind in types_of(Frame) if kind != "line"])
def test_every_type_has_a_framer(kind: str) -> None:
    keys = {"fixed": {"size": 4}, "length": {"length": "uint8"}, "block": {"end": b"!"}, "mavlink": {"crc_extra": {"30": 39}}}
    frame = Frame(type=kind, **keys.get(kind, {}))  # type: ignore[arg-type]
    framer = make_framer(plan("csv", field("a"), frame=frame))
    frames, _ = framer.feed(b"\0" * 8)
    assert len(frames.payloads) == len(frames.starts)
    framer.reset()
    assert framer.pending == 0
