from pathlib import Path

import pytest

from edged.decode.propose import counting, json_fields, propose, readings, shown

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
            b"x\n!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C\n!AIVDO,1,1,,A,13aEOK?P00PD2wVMdLDRhgvL289?,0*26\n",
            [
                "these are NMEA sentences (AIVDM AIVDO): AIS, whose six-bit text edged does not decode; let gpsd or AIS-catcher "
                "publish it as JSON over MQTT"
            ],
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


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"5\n" + b"1.5,2,x\r\n" * 4, {"decode": {"format": "csv", "fields": ["c1", "c2", "_"]}}),
        (b"time,temp C\n1,2\n3,4\n5,6\n7,8\n", {"decode": {"format": "csv", "fields": ["time", "temp_C"]}}),
        (b"3\n1\n2\n3\n4\n", {"decode": {"format": "csv", "fields": ["value"]}}),
        (
            b"1\r1;2,5\r3;4,5\r5;6,5\r7;8",
            {
                "frame": {"type": "line", "end": "\r"},
                "decode": {"format": "csv", "fields": ["c1", "c2"], "separator": ";", "decimal": ","},
            },
        ),
        (b"x\nT:23.4 H:55.0\nT:23.5 H:54\nT:1 H:2\n", {"decode": {"format": "text", "fields": ["T", "H"]}}),
        (
            b'{"a": 1}\n' + b'{"a": {"b": 1.5, "on": true}, "c": "2", "s": "on"}\n' * 3,
            {"decode": {"format": "json", "fields": [{"name": "b", "path": "a.b"}, "c"]}},
        ),
        (case("vedirect-row") * 3, None),
    ],
)
def test_how_a_source_would_read_it(data: bytes, keys: dict[str, object] | None) -> None:
    reading = readings(data)[0]
    if keys is None:
        assert (reading.keys["decode"]["format"], reading.fields[:4]) == ("vedirect", ["V", "I", "VPV", "PPV"])
    else:
        assert reading.keys == keys


@pytest.mark.parametrize("data", [b"", b"hello\nworld\nand more\nwords\n", bytes(range(128, 168)) * 4])
def test_nothing_is_guessed(data: bytes) -> None:
    assert readings(data) == []


def test_only_some_fields_of_it() -> None:
    (columns,) = readings(b"5\n" + b"1.5,2,3\r\n" * 4)
    assert columns.only(["c1", "c3"]).keys == {"decode": {"format": "csv", "fields": ["c1", "_", "c3"]}}
    (labels,) = readings(b"x\n" + b"T:23.4 H:55.0\n" * 4)
    assert labels.only(["H"]).keys == {"decode": {"format": "text", "fields": ["H"]}}


def test_numbers_of_json_that_all_hold_by_names_of_their_own() -> None:
    payloads = [b'{"a": {"x": 1}, "b": {"x": 2}, "c": null}', b'{"b": {"x": 2, "y": 1}, "a": {"x": 5}, "c": 1}']
    assert json_fields(payloads) == [{"name": "x", "path": "a.x"}, {"name": "b_x", "path": "b.x"}]
    assert json_fields([b"[1]"]) == json_fields([b"nan{"]) == json_fields([]) == []


def test_columns_that_count_up() -> None:
    assert counting([(1, 5, 1), (2, 4, 2), (3, 6, 2)]) == [0]
