from pathlib import Path

import pytest

from edged.decode.propose import propose, shown

LINES = b"1.5\t2\t3\t4\n1.6\t2\t3\t4\n1.7\t2\t3\t4\n1.8\t2\t3\t5\n"
TEXT = b"t=20.5\r\nt=20.6\r\nt=20.7\r\n"


def with_parity(data: bytes, odd: int) -> bytes:
    return bytes(byte | ((bin(byte).count("1") + odd) & 1) << 7 for byte in data)


def case(name: str) -> bytes:
    return (Path(__file__).parents[1] / "cases" / "serial" / name / "input.bin").read_bytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (LINES, [r'these lines have 4 columns with separator = "\t"']),
        (
            b"x\n a  b\n 1.5   2\n 1.6  3\n",
            ['these lines have 2 columns with separator = " "', "the first line is a header: header = true"],
        ),
        (
            b"x\n23,4;1012,2\n23,5;1012,3\n23,6;1012,4\n",
            ['these lines have 2 columns with separator = ";"', 'numbers have a decimal comma: decimal = ","'],
        ),
        (b'x\n{"t":1}\n{"t":2}\n{"t":3}\n', ['each line is JSON: decode.format = "json"']),
        (
            b"x\n$GPRMC,1,A*00\n$GPGSV,1,2*3f\n",
            [
                'these are NMEA sentences (GPRMC GPGSV): decode.format = "nmea", fields such as ["lat", "lon"]; or one kind as '
                'csv: checksum = "nmea", where = { kind = "GPRMC" }'
            ],
        ),
        (
            b"x\n$SDDBT,7.7,f,2.3,M,1.3,F*05\n$SDDBT,7.7,f,2.3,M,1.3,F*05\n",
            ['these are NMEA sentences (SDDBT): checksum = "nmea", where = { kind = "SDDBT" }'],
        ),
        (
            case("dsmr-p1-v5"),
            [
                'this is a telegram of a meter: decode.format = "dsmr", fields such as [{ name = "v1", path = "1-3:0.2.8" }, '
                '{ name = "v2", path = "0-0:1.0.0" }]'
            ],
        ),
        (
            case("teleinfo-linky"),
            [
                'each line ends with the check of teleinfo: checksum = "teleinfo", key = "label", decode = { format = "csv", '
                'separator = " ", fields = ["label", "value"] }'
            ],
        ),
        (case("vedirect-row"), ['this is VE.Direct: decode.format = "vedirect", fields such as ["V", "I", "VPV", "PPV"]']),
        (
            case("ubx-names"),
            ['these are UBX frames with NAV-PVT: decode.format = "ubx", fields such as ["lat", "lon", "speed"]'],
        ),
        (
            case("mavlink-attitude"),
            ['these are MAVLink frames: frame = { type = "mavlink", crc_extra = { ID = CRC_EXTRA } }, where = { id = ID }'],
        ),
        (
            b"x\nT:23.4 H:55.0\nT:23.5 H:54\n",
            ['a label stands before each value: decode = { format = "text", fields = ["T", "H"] }'],
        ),
        (b"1,2\r3,4\r5,6\r", [r'lines end in CR alone: frame = { type = "line", end = "\r" }']),
        (with_parity(TEXT, 0), ['bit 7 of every byte is even parity: bytesize = 7, parity = "even"']),
        (with_parity(TEXT, 1), ['bit 7 of every byte is odd parity: bytesize = 7, parity = "odd"']),
        (b"\x00\xf8\x80\x00\xfe\x00\x80\xf8" * 5, ["nearly every byte is a run of one level: the baudrate is wrong"]),
        (
            b"".join(bytes([0xAA, 0x55, i, 3 * i & 0xFF, 7 * i & 0xFF, 11 * i & 0xFF]) for i in range(1, 12)),
            ['aa 55 comes every 6 bytes: frame = { type = "fixed", sync = [0xAA, 0x55], size = 6 }'],
        ),
        (bytes(range(128, 168)), []),
        (b"hello\nworld\nand more\nwords\n", []),
        (b"", []),
    ],
)
def test_what_would_read_it(data: bytes, words: list[str]) -> None:
    assert propose(data) == words


def test_text_is_shown_as_text() -> None:
    assert shown(b"1,2,3\r\n") == r"'1,2,3\r\n'"
    assert shown(b"\x80\x81a") == "80 81 61"
