import pytest

from edged.config.schema import Frame
from edged.decode.blocks import Blocks, dsmr_crc
from edged.decode.checksums import KINDS
from edged.decode.stream import make_stream_decoder
from tests.support.decode_plans import field, plan, reasons

LINES = b"T 1\nH 2\n\nT 3\nH 4\n\n"


def blocks(framer: Blocks, data: bytes, size: int = 1 << 20) -> tuple[list[bytes], list[str]]:
    payloads, rejects = [], []
    for at in range(0, len(data), size):
        found, refused = framer.feed(data[at : at + size])
        payloads += found.payloads
        rejects += refused
    return payloads, reasons(rejects)


@pytest.mark.parametrize("size", [1, 4, 1 << 20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_to_an_end_line_from_a_start_line_and_between_both(size: int, end: bytes) -> None:
    data = LINES.replace(b"\n", end)
    wanted = [b"T 1\nH 2", b"T 3\nH 4"]
    assert blocks(Blocks(None, b"", 100), data, size) == (wanted, [])
    assert blocks(Blocks(b"T", b"", 100), data, size) == (wanted, [])
    assert blocks(Blocks(b"T", None, 100), data + b"T", size) == (wanted[:1], [])
    assert blocks(Blocks(None, b"H", 100), data, size) == (wanted, [])


def test_a_silence_ends_a_block() -> None:
    framer = Blocks(None, None, 100)
    assert blocks(framer, b"a\nb\nc")[0] == []
    assert framer.quiet()[0].payloads == [b"a\nb\nc"]
    assert framer.quiet()[0].payloads == []
    assert framer.pending == 0


def test_what_belongs_to_no_block_is_refused_once() -> None:
    framer = Blocks(b"/", b"!", 100)
    assert blocks(framer, b"b\nc\n/x\na\n!\nz\ny\n/x\nb\n!\n") == ([b"/x\na\n!", b"/x\nb\n!"], ["no_frame", "no_frame"])
    assert blocks(framer, b"/x\na\n/x\nb\n!\n") == ([b"/x\nb\n!"], ["no_frame"])


@pytest.mark.parametrize("size", [1, 5, 9, 1 << 20])
def test_lines_within_a_block_are_held_alike_however_they_come(size: int) -> None:
    good = b"/x\n" + b"line\n" * 4 + b"!\n"
    lost = b"/y\na\nb\n/z\nc\nd\n\r!\n" + b"/big\n" + b"line\n" * 9 + b"!\n"
    found, why = blocks(Blocks(b"/", b"!", 40), good + lost + good, size)
    assert found == [b"/x\n" + b"line\n" * 4 + b"!", b"/z\nc\nd\n\r!", b"/x\n" + b"line\n" * 4 + b"!"]
    assert why == ["no_frame", "too_large"]


def test_a_block_is_bounded() -> None:
    framer = Blocks(b"T", None, 20)
    found, why = blocks(framer, b"T\n" + b"x\n" * 500 + b"T\na\nT\n")
    assert found == [b"T\na"]
    assert why[0] == "too_large"
    assert framer.pending <= 20


def test_a_port_opened_within_a_block_gives_no_part_of_it() -> None:
    framer = Blocks(None, b"", 100)
    framer.reset(is_midway=True)
    assert blocks(framer, b"1\nH 2\n\nT 3\nH 4\n\n")[0] == [b"T 3\nH 4"]


def telegram(value: str, has_crc: bool = True) -> bytes:
    body = f"/ISk5\r\n\r\n1-0:1.7.0({value}*kW)\r\n!".encode()
    return body + (b"%04X\r\n" % KINDS["crc16-arc"].one(body) if has_crc else b"\r\n")


def test_the_crc_of_a_telegram() -> None:
    assert dsmr_crc(telegram("00.244")) == (True, "")
    assert dsmr_crc(telegram("00.244", has_crc=False)) == (False, "")
    assert "0x" in dsmr_crc(telegram("00.244").replace(b"244", b"245")).wrong
    planned = plan("dsmr", field("power", path=("1-0:1", 7, 0)), frame=Frame(type="dsmr"))
    decoder = make_stream_decoder(planned)
    data = (
        telegram("00.244") + telegram("00.250").replace(b"250", b"251") + telegram("00.260", has_crc=False) + telegram("01.000")
    )
    rows = decoder.feed(b"kW)\r\n!1234\r\n" + data)
    assert rows is not None
    assert rows.values[:, 0].tolist() == pytest.approx([0.244, 1.0])
    assert reasons(rows.rejects) == ["no_frame", "checksum", "checksum"]
    assert [reject.offset for reject in rows.rejects] == sorted(reject.offset for reject in rows.rejects)
