from __future__ import annotations

import base64
from typing import Any

import pytest

from edged.commands.tap import Proposals, text


def bytes_of(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "data": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"stage": "decoded", "time": 0.25, "key": "p1", "values": {"t": 21.5, "v": [1.0, None]}}, "p1 t=21.5  v=[1, None]"),
        ({"stage": "raw", "key": None, **bytes_of(b"1,2\r\n")}, "'1,2\\r\\n'"),
        ({"stage": "raw", "key": None, **bytes_of(b"\xaa\x55\x00")}, "aa 55 00"),
        (
            {"stage": "rejected", "reason": "short", "detail": "2 columns\x1b", "times": 3, **bytes_of(b"1")},
            "rejected as short (3 times): 2 columns\\x1b: '1'",
        ),
        (
            {"stage": "result", "time": 0, "key": "a\x1b", "result": {"device": "d", "label": "ok\x1b[2J"}},
            'a\\x1b {"label": "ok\\u001b[2J"}',
        ),
        (
            {"stage": "window", "time": 0, "key": None, "inputs": {"x": {"shape": [2, 3], "min": 0.0}}, "outputs": {"y": [0.5]}},
            "x=(2 x 3: min 0) -> y=[0.5]",
        ),
    ],
)
def test_one_line_a_sample_and_nothing_steers_the_terminal(line: dict[str, Any], said: str) -> None:
    assert text(line).partition(" ")[2] == said


def test_what_was_left_out_is_said() -> None:
    assert text({"left_out": 3}) == "... 3 more passed meanwhile"


def test_a_proposal_is_said_once() -> None:
    proposals = Proposals()
    said = [proposals.of(bytes_of(b"20.5;1013.%d" % i)) for i in range(5)]
    assert [one for one in said if one] == ['these lines have 2 columns with separator = ";"']
