from __future__ import annotations

from typing import Any

import pytest

from edged.config.schema import FieldSpec
from edged.sources.rtu import MAX_REGISTERS, Place, Poll, Refusal, Request, poll_of
from tests.support.devices import with_crc


def field(name: str, register: int, dtype: str = "uint16", table: Any = "holding", shape: tuple[int, ...] = ()) -> FieldSpec:
    return FieldSpec(name=name, register=register, dtype=dtype, table=table, shape=shape)


def test_registers_that_follow_each_other_are_asked_for_together_and_nothing_between() -> None:
    poll = poll_of(
        [
            field("volts", 0, "float32", "input"),
            field("amps", 2, "float32", "input"),
            field("watts", 12, "float32", "input"),
            field("running", 3, "bool", "coil"),
            field("low", 5, table="holding"),
            field("same", 5, table="holding"),
            field("alarm", 4, "bool", "coil"),
        ]
    )
    assert poll.requests == (
        Request("input", 0, 4),
        Request("input", 12, 2),
        Request("coil", 3, 2),
        Request("holding", 5, 1),
    )
    assert poll.places[2:] == (Place(1, 0, 2), Place(2, 0, 1), Place(3, 0, 1), Place(3, 0, 1), Place(2, 1, 1))


@pytest.mark.parametrize(("table", "dtype", "most"), [("holding", "uint16", 125), ("coil", "bool", 2000)])
def test_no_request_asks_for_more_than_one_may(table: str, dtype: str, most: int) -> None:
    poll = poll_of([field(f"r{i}", i, dtype, table) for i in range(most + 1)])
    assert [request.count for request in poll.requests] == [most, 1]
    wide = poll_of([field(f"r{i}", 2 * i, "float32") for i in range(63)])
    assert [request.count for request in wide.requests] == [124, 2]
    assert max(request.count for request in wide.requests) <= MAX_REGISTERS


def test_the_standards_own_example_is_written_and_read() -> None:
    """Of the Modbus application protocol, 6.3: registers 108 to 110 of unit 17 are 022B, 0000 and 0064."""
    request = Request("holding", 107, 3)
    sent = request.written(17)
    assert sent == bytes.fromhex("11 03 00 6b 00 03 76 87")
    answer = with_crc(bytes.fromhex("11 03 06 02 2b 00 00 00 64"))
    assert request.answer(answer, sent) == bytes.fromhex("02 2b 00 00 00 64")


def test_an_answer_is_found_behind_an_echo_a_glitch_and_a_late_answer_of_another_unit() -> None:
    request = Request("input", 0, 2)
    sent = request.written(1)
    assert sent == bytes.fromhex("01 04 00 00 00 02 71 cb")
    answer = bytes.fromhex("01 04 04 43 66 33 34 1b 38")
    data = bytes.fromhex("43 66 33 34")
    other = with_crc(bytes.fromhex("02 04 04 00 00 00 00"))
    for before in (b"", sent, sent + b"\x00", b"\x00\xff", other, sent + other, bytes.fromhex("01 04 04")):
        received = before + answer
        assert request.answer(received, sent) == data, before
        assert all(request.answer(received[:cut], sent) is None for cut in range(len(received)))


def test_every_flipped_bit_is_refused() -> None:
    request = Request("input", 0, 2)
    sent, answer = request.written(1), bytes.fromhex("01 04 04 43 66 33 34 1b 38")
    for bit in range(8 * len(answer)):
        broken = bytearray(answer)
        broken[bit // 8] ^= 1 << bit % 8
        assert request.answer(bytes(broken), sent) is None
        assert request.no_answer(bytes(broken), sent, 0.5).reason in ("checksum", "malformed")


def test_exceptions_are_named() -> None:
    request = Request("holding", 7, 1)
    sent = request.written(3)
    reasons = {}
    for code in (1, 2, 3, 4, 5, 6, 8, 10, 11, 99):
        refusal = request.answer(with_crc(bytes((3, 0x83, code))), sent)
        assert isinstance(refusal, Refusal)
        assert refusal.detail.startswith("unit 3, holding 7: ")
        reasons[code] = refusal.reason
    assert list(reasons.values()) == [
        *("illegal_function", "illegal_data_address", "illegal_data_value", "device_failure", "acknowledge", "device_busy"),
        *("memory_parity_error", "gateway_path_unavailable", "gateway_target_failed", "exception_99"),
    ]
    assert request.no_answer(sent, sent, 0.5) == Refusal("no_answer", "unit 3, holding 7: nothing came within 500 ms")


def test_a_sample_holds_the_address_and_the_bytes_of_each_field_in_their_order() -> None:
    poll = Poll(
        (Request("coil", 3, 10), Request("holding", 100, 3)), (Place(1, 1, 2), Place(0, 9, 1), Place(0, 0, 2), Place(1, 0, 1))
    )
    answers = [bytes((0b00000001, 0b00000010)), bytes.fromhex("0102 0304 0506")]
    assert poll.sample(9, answers) == bytes.fromhex("09 03040506 01 01 00 0102")
