from __future__ import annotations

import json

import numpy as np
import pytest

from edged.decode import make_payload_decoder
from edged.decode.letters import texts
from tests.support.decode_plans import field, plan


def test_texts_beside_numbers_are_the_texts_that_were_sent() -> None:
    decoder = make_payload_decoder(plan("json", field("t"), field("city", dtype="text", size=6)))
    sent = ["Kyiv", "台北", "", "a/b #\U0001f600"[:6]]
    rows = decoder.decode([json.dumps({"t": i, "city": city}).encode() for i, city in enumerate(sent)])
    assert rows.values.dtype == np.float32
    assert rows.values[:, 0].tolist() == [0, 1, 2, 3]
    assert texts(rows.values[:, 1:]).tolist() == sent


def test_samples_in_arrays_and_what_is_written_as_no_text() -> None:
    decoder = make_payload_decoder(plan("json", field("city", dtype="text", size=6)))
    rows = decoder.decode([b'{"city": ["a", "bc"]}', b'{"city": 12}', b'{"city": true}', b'"bare"'])
    assert texts(rows.values).tolist() == ["a", "bc", "12", "true", "bare"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"city": "Thessaloniki"}', "long: city: a text of 12 characters, at most 6 are taken (size)"),
        (b'{"city": {}}', "malformed: city: expected a string, found an object"),
        (b'{"city": null}', "missing: city[0]: empty or null"),
    ],
)
def test_what_is_refused(payload: bytes, reason: str) -> None:
    decoder = make_payload_decoder(plan("json", field("city", dtype="text", size=6)))
    [reject] = decoder.decode([payload]).rejects
    assert f"{reject.reason}: {reject.detail}" == reason
