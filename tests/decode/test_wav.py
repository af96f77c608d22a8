from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config import schema
from edged.decode import make_payload_decoder, plan_decode
from edged.decode.plan import DecodePlan
from edged.records import Rows

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
GUID = b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"


def wav(
    data: bytes, kind: int = PCM, bits: int = 16, channels: int = 1, rate: int = 16000, size: int | None = None, more: bytes = b""
) -> bytes:
    """A file as a program writes it; `size`: the length that it says of its sound, `more`: chunks before that."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits)
    if kind == EXTENSIBLE:
        form += struct.pack("<HHIH", 22, bits, 0, PCM) + GUID
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + more
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def decode(*payloads: bytes, rate: float | None = 16000, fields: tuple[schema.FieldSpec, ...] = ()) -> Rows:
    spec = schema.Decode(format="wav", fields=fields or (schema.FieldSpec(name="value"),))
    planned = plan_decode(spec, rate=rate, max_bytes=1 << 20)
    assert isinstance(planned, DecodePlan), planned
    return make_payload_decoder(planned).decode(payloads)


@pytest.mark.parametrize(
    ("kind", "bits", "data", "values"),
    [
        (PCM, 8, bytes([0, 128, 255]), [-1.0, 0.0, 127 / 128]),
        (PCM, 16, struct.pack("<3h", -32768, 0, 32767), [-1.0, 0.0, 32767 / 32768]),
        (PCM, 24, b"\x00\x00\x80\x01\x00\x00\xff\xff\x7f", [-1.0, 2**-23, 1 - 2**-23]),
        (PCM, 32, struct.pack("<3i", -(2**31), 0, 2**30), [-1.0, 0.0, 0.5]),
        (FLOAT, 32, struct.pack("<3f", -1.5, 0.0, 0.25), [-1.5, 0.0, 0.25]),
        (FLOAT, 64, struct.pack("<3d", -1.0, 0.0, 0.25), [-1.0, 0.0, 0.25]),
        (EXTENSIBLE, 16, struct.pack("<3h", -32768, 0, 16384), [-1.0, 0.0, 0.5]),
    ],
)
def test_full_scale_is_1_at_every_depth(kind: int, bits: int, data: bytes, values: list[float]) -> None:
    rows = decode(wav(data, kind, bits))
    assert not rows.rejects, rows.rejects
    assert rows.values[:, 0].tolist() == np.array(values, np.float32).tolist()


def test_two_channels_are_two_columns() -> None:
    data = struct.pack("<4h", 16384, -16384, 8192, 0)
    left, right = schema.FieldSpec(name="left"), schema.FieldSpec(name="right", scale=2.0)
    assert decode(wav(data, channels=2), fields=(left, right)).values.tolist() == [[0.5, -1.0], [0.25, 0.0]]
    assert decode(wav(data, channels=2), fields=(left, schema.FieldSpec(name="_"))).values.tolist() == [[0.5], [0.25]]
    assert decode(wav(data, channels=2), fields=(schema.FieldSpec(name="v", shape=(2,)),)).values.tolist() == [
        [0.5, -0.5],
        [0.25, 0],
    ]


SOUND = struct.pack("<2h", 16384, 8192)


def long_form(name: bytes, size: int = len(SOUND)) -> bytes:
    lengths = b"ds64" + struct.pack("<IQQQI", 28, 100, size, 2, 0)
    file = wav(SOUND, size=0xFFFFFFFF)
    return name + b"\xff\xff\xff\xffWAVE" + lengths + file[12:]


@pytest.mark.parametrize(
    "payload",
    [
        wav(SOUND, size=0),
        wav(SOUND, size=0xFFFFFFFF),
        wav(SOUND, size=0x7FFFF000),  # sox into a pipe
        wav(SOUND, size=0x7FFFFFFF - 36),  # arecord into a pipe
        long_form(b"RF64") + b"LIST\x02\x00\x00\x00ab",
        long_form(b"BW64"),
        wav(SOUND, more=b"LIST\x03\x00\x00\x00abc\x00"),  # of odd length, with its fill byte
        wav(SOUND) + b"LIST\x02\x00\x00\x00ab",
    ],
)
def test_headers_as_programs_write_them(payload: bytes) -> None:
    assert decode(payload).values.tolist() == [[0.5], [0.25]]


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        (b"", "malformed", "found nothing"),
        (b'{"v": 1}', "malformed", "expected a WAV file"),
        (wav(SOUND)[:30], "malformed", "without its format or its sound"),
        (wav(SOUND)[:-1], "short", "its header says 4 bytes of sound, and 3 follow"),
        (long_form(b"RF64", 6), "short", "its header says 6 bytes of sound, and 4 follow"),
        (wav(SOUND + b"\0", size=0), "short", "5 bytes of sound are no whole number of frames of 2 bytes"),
        (wav(b""), "short", "0 bytes of sound"),
        (wav(SOUND, rate=44100), "unsupported", "44100 samples per second, and rate is 16000: write rate = 44100"),
        (wav(SOUND, channels=2), "unsupported", "it has 2 channels, and decode.fields 1"),
        (wav(SOUND, kind=0x11, bits=4), "unsupported", "found 4 bits of kind 0x11"),
        (wav(bytes(2 * 300_000)), "too_many_rows", "it has 300000 samples"),
    ],
)
def test_what_is_refused_stops_nothing_else(payload: bytes, reason: str, words: str) -> None:
    rows = decode(wav(SOUND), payload, wav(SOUND))
    assert [(r.reason, r.payload) for r in rows.rejects] == [(reason, 1)]
    assert words in rows.rejects[0].detail
    assert rows.values[:, 0].tolist() == [0.5, 0.25, 0.5, 0.25]
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 0, 2, 2]


def test_without_a_rate_every_header_is_taken() -> None:
    assert len(decode(wav(SOUND, rate=44100), rate=None).values) == 2


def test_names_that_no_sound_has_are_refused() -> None:
    spec = schema.Decode(format="wav", fields=(schema.FieldSpec(name="value"),))
    problems = plan_decode(spec, key_fields=("site",))
    assert isinstance(problems, list)
    assert problems[0].text == 'a WAV file holds samples alone, and no "site"'


@given(st.data())
def test_damage_is_sound_or_a_refusal(data: st.DataObject) -> None:
    payload = bytearray(wav(SOUND * 8, EXTENSIBLE))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    rows = decode(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    assert (len(rows.values) > 0) is (not rows.rejects)


def test_a_wav_file_is_no_raw_sound() -> None:
    """Its header would be 22 samples."""
    spec = schema.Decode(format="raw", fields=(schema.FieldSpec(name="value", dtype="int16"),), dtype="int16")
    planned = plan_decode(spec, max_bytes=1 << 20)
    assert isinstance(planned, DecodePlan)
    rows = make_payload_decoder(planned).decode([wav(SOUND), SOUND])
    assert [r.detail for r in rows.rejects] == ['a WAV file, whose header is not sound: write decode.format = "wav"']
    assert rows.values[:, 0].tolist() == [16384.0, 8192.0]
