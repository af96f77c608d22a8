"""From bytes that gave no row to the configuration that would read them, in words for a person.

Pure: bytes in, proposals out, the surest first. Says nothing where it is not sure: a wrong hint costs more than none.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from edged.decode.checksums import Checksum, teleinfo_bodies
from edged.decode.frames import FrameScanner
from edged.decode.mavlink import Mavlink

SHOWN_BYTES = 64
MAX_FIELDS = 64
SEPARATORS = {b";": ";", b"\t": "\t", b",": ",", b" ": " ", b"|": "|", b":": ":"}
_MIN_LINES = 2
_SEPARATORS = {b";": '";"', b"\t": r'"\t"', b",": '","', b" ": '" "', b"|": '"|"', b":": '":"'}
_NUMBER = re.compile(rb"[ \t]*[+-]?[ \t]*([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
_COMMA_NUMBER = re.compile(rb"[ \t]*[+-]?[0-9]+,[0-9]+[ \t]*")
_LABEL = re.compile(rb"(?<![A-Za-z0-9_])([A-Za-z_][A-Za-z0-9_ ]*?)[ \t]*[:=][ \t]*[+-]?[0-9]")
_NMEA = re.compile(rb"[$!][A-Z]{4,6},[^*]*\*[0-9A-Fa-f]{2}")
_UBX = re.compile(rb"\xb5b")
_HEARTBEAT = {0: 50}
"""The message that every MAVLink device sends, and its CRC_EXTRA."""
_VEDIRECT = re.compile(rb"\r\n([A-Za-z0-9#_]{1,9})\t(?=[^\r\n\t]*\r\n|.)")
_OBIS = re.compile(rb"((?:[0-9]+-[0-9]+:)?[0-9]+\.[0-9]+\.[0-9]+(?:\*[0-9]+)?)\(")
_AIS = ("VDM", "VDO")
_POSITIONS = ("GGA", "RMC", "GLL", "GNS")
_PARITY_OF_7 = bytes(bin(byte).count("1") & 1 for byte in range(128))
_TEXT = frozenset(range(32, 127)) | {9, 10, 13}
_GARBAGE = frozenset(b"\x00\x80\xc0\xe0\xf0\xf8\xfc\xfe\xff")
"""What a line looks like that is sampled too fast or too slowly: long runs of one level."""


def propose(data: bytes) -> list[str]:
    """What would read these bytes; empty when nothing is sure."""
    if len(data) < 8:
        return []
    if known := _known_binary(data):
        return known
    if not is_text(data):
        return _parity(data) or _garbage(data) or _marker(data)
    lines = [line.strip(b"\r") for line in data.split(b"\n")[:-1] if line.strip()]
    if len(lines) <= _MIN_LINES:
        return _terminator(data) if b"\n" not in data else []
    whole = lines[1:]  # the first may be the rest of one, or a header
    return _json(whole) or _nmea(whole) or _meter(lines) or _teleinfo(whole) or _labels(whole) or _columns(lines)


def shown(data: bytes) -> str:
    """The first bytes: as text where they are text, else in hex."""
    part = data[:SHOWN_BYTES]
    return repr(part.decode("ascii")) if part and is_text(part) else part[:16].hex(" ")


def is_text(data: bytes) -> bool:
    """Whether nearly all of it can be printed: one byte may be broken, or two characters not be ASCII."""
    others = sum(byte not in _TEXT for byte in data)
    return others == 0 or (len(data) >= SHOWN_BYTES and others * 32 <= len(data) and not any(byte == 0 for byte in data))


def _known_binary(data: bytes) -> list[str]:
    """Frames that are known by their first bytes and proved by their sums."""
    for start in (found.start() for found in _UBX.finditer(data)):
        length = int.from_bytes(data[start + 4 : start + 6], "little")
        frame = data[start : start + 8 + length]
        if len(frame) == 8 + length and Checksum("fletcher8", start=2).is_right(frame):
            if b"\xb5b\x01\x07" in data:
                return ['these are UBX frames with NAV-PVT: decode.format = "ubx", fields such as ["lat", "lon", "speed"]']
            return [f'these are UBX frames: frame = "ubx", where = {{ class = {frame[2]}, id = {frame[3]} }}']
    if len(_VEDIRECT.findall(data)) >= 3:
        labels = dict.fromkeys(
            one.decode() for one in _VEDIRECT.findall(data) if one not in (b"Checksum", b"PID", b"FW", b"SER#")
        )
        shown = ", ".join(f'"{label}"' for label in list(labels)[:4])
        return [f'this is VE.Direct: decode.format = "vedirect", fields such as [{shown}]']
    if FrameScanner(Mavlink(_HEARTBEAT)).feed(data)[0].payloads:
        return ['these are MAVLink frames: frame = { type = "mavlink", crc_extra = { ID = CRC_EXTRA } }, where = { id = ID }']
    return []


def _meter(lines: list[bytes]) -> list[str]:
    """A telegram of a smart meter: OBIS codes and values in brackets."""
    codes = [found[1].decode() for line in lines if (found := _OBIS.match(line))]
    if len(codes) * 2 < len(lines) or len(codes) < 2:
        return []
    fields = ", ".join(f'{{ name = "v{i}", path = "{code}" }}' for i, code in enumerate(codes[:2], 1))
    return [f'this is a telegram of a meter: decode.format = "dsmr", fields such as [{fields}]']


def _teleinfo(lines: list[bytes]) -> list[str]:
    if sum(body is not None for body in teleinfo_bodies(lines)) * 2 <= len(lines):
        return []
    separator = r"\t" if b"\t" in lines[0] else " "
    return [
        f'each line ends with the check of teleinfo: checksum = "teleinfo", key = "label", decode = {{ format = "csv", '
        f'separator = "{separator}", fields = ["label", "value"] }}'
    ]


def _parity(data: bytes) -> list[str]:
    """Seven bits and a parity bit, read as eight bits."""
    if not is_text(bytes(byte & 127 for byte in data)) or len(data) < 16:
        return []
    bits = {byte >> 7 ^ _PARITY_OF_7[byte & 127] for byte in data}
    if len(bits) != 1:
        return []
    word = "even" if bits == {0} else "odd"
    return [f'bit 7 of every byte is {word} parity: bytesize = 7, parity = "{word}"']


def _garbage(data: bytes) -> list[str]:
    share = sum(byte in _GARBAGE for byte in data) / len(data)
    if len(data) >= 32 and share > 0.6 and len(set(data)) <= 12:
        return ["nearly every byte is a run of one level: the baudrate is wrong"]
    return []


def _marker(data: bytes) -> list[str]:
    """Two bytes that come again at one distance, or at few, are the start of a frame."""
    best: tuple[int, bytes, list[int]] | None = None
    for pair, count in Counter(data[i : i + 2] for i in range(len(data) - 1)).most_common(8):
        places = [found.start() for found in re.finditer(re.escape(pair), data)]
        gaps = {b - a for a, b in pairwise(places)}
        is_regular = count >= 4 and len(gaps) == 1 and min(gaps) >= 4
        if is_regular and (best is None or places[0] < best[2][0]):
            best = min(gaps), pair, places
    if best is None:
        return []
    size, pair, _ = best
    marker = ", ".join(f"0x{byte:02X}" for byte in pair)
    return [f'{pair.hex(" ")} comes every {size} bytes: frame = {{ type = "fixed", sync = [{marker}], size = {size} }}']


def _terminator(data: bytes) -> list[str]:
    return [r'lines end in CR alone: frame = { type = "line", end = "\r" }'] if data.count(b"\r") > 1 else []


def _json(lines: list[bytes]) -> list[str]:
    for line in lines:
        try:
            if not isinstance(json.loads(line), dict | list):
                return []
        except (ValueError, RecursionError):
            return []
    return ['each line is JSON: decode.format = "json"']


def _nmea(lines: list[bytes]) -> list[str]:
    if not all(_NMEA.fullmatch(line) for line in lines):
        return []
    kinds = list(dict.fromkeys(line[1:].split(b",", 1)[0].decode() for line in lines))
    found = f"these are NMEA sentences ({' '.join(kinds[:6])})"
    if all(kind[2:] in _AIS for kind in kinds):
        return [f"{found}: AIS, whose six-bit text edged does not decode; let gpsd or AIS-catcher publish it as JSON over MQTT"]
    one_kind = f'checksum = "nmea", where = {{ kind = "{kinds[0]}" }}'
    if any(kind[2:] in _POSITIONS for kind in kinds):
        return [f'{found}: decode.format = "nmea", fields such as ["lat", "lon"]; or one kind as csv: {one_kind}']
    return [f"{found}: {one_kind}"]


def _labels(lines: list[bytes]) -> list[str]:
    found = [[label.decode() for label in _LABEL.findall(line)] for line in lines]
    if not found[0] or any(sorted(labels) != sorted(found[0]) for labels in found) or len(set(found[0])) < len(found[0]):
        return []
    fields = ", ".join(json.dumps(label) for label in found[0][:8])
    return [f'a label stands before each value: decode = {{ format = "text", fields = [{fields}] }}']


def _columns(lines: list[bytes]) -> list[str]:
    for separator, written in _SEPARATORS.items():
        rows = [_cells(line, separator) for line in lines[2:]]
        columns = len(rows[0])
        if columns < 2 or any(len(row) != columns for row in rows):
            continue
        cells = [cell.strip(b'" ') for row in rows for cell in row]
        numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in cells)
        commas = sum(_COMMA_NUMBER.fullmatch(cell) is not None for cell in cells)
        if numbers + commas < len(rows):
            continue
        found = [f"these lines have {columns} columns with separator = {written}"]
        if commas and separator != b",":
            found.append('numbers have a decimal comma: decimal = ","')
        heads = [_cells(line, separator) for line in lines[:2]]
        if any(len(head) == columns and not any(map(_is_number, head)) for head in heads):
            found.append("the first line is a header: header = true")
        return found
    return []


def _cells(line: bytes, separator: bytes) -> list[bytes]:
    return line.split() if separator == b" " else line.split(separator)


def _is_number(cell: bytes) -> bool:
    return _NUMBER.fullmatch(cell) is not None or _COMMA_NUMBER.fullmatch(cell) is not None


class Reading(NamedTuple):
    """How a source may read something: its keys, as values of TOML, and what this is, in words."""

    keys: dict[str, Any]
    about: str

    @property
    def fields(self) -> list[str]:
        """The names of its numbers, in order; without columns that are passed over."""
        named = (one["name"] if isinstance(one, dict) else one for one in self.keys["decode"]["fields"])
        return [name for name in named if name != "_"]

    def only(self, names: Sequence[str]) -> Reading:
        """The same with these of its fields; of columns the others are passed over."""
        decode = self.keys["decode"]
        kept = [one for one in decode["fields"] if (one["name"] if isinstance(one, dict) else one) in names]
        if decode["format"] == "csv":
            kept = [one if one in names else "_" for one in decode["fields"]]
        return self._replace(keys={**self.keys, "decode": {**decode, "fields": kept}})


def readings(data: bytes) -> list[Reading]:
    """How a source on a port could read these bytes, the surest first; whoever asks tries them. Without those whose fields nobody
    can guess: numbers in binary frames."""
    if len(_VEDIRECT.findall(data)) >= 3:
        return [*_vedirect_readings(data)]
    if b"\xb5b\x01\x07" in data:
        return [Reading({"decode": {"format": "ubx", "fields": ["lat", "lon", "speed"]}}, "UBX frames of a GNSS receiver")]
    if not is_text(data):
        return []
    end = b"\n" if b"\n" in data else b"\r"
    lines = [line.strip(b"\r") for line in data.split(end)[1:-1] if line.strip()]  # the first may be the rest of one
    if len(lines) < _MIN_LINES:
        return []
    more = {"frame": {"type": "line", "end": "\r"}} if end == b"\r" else {}
    header = [cell.strip(b'" \r') for cell in data.split(end)[0].split(b",")]
    return [one._replace(keys={**more, **one.keys}) for one in _line_readings(lines, header)]


def _line_readings(lines: list[bytes], header: list[bytes]) -> Iterator[Reading]:
    if fields := json_fields(lines):
        yield Reading({"decode": {"format": "json", "fields": fields}}, "a JSON object in each line")
        return
    if all(_NMEA.fullmatch(line) for line in lines):
        if any(line[3:6].decode() in _POSITIONS for line in lines):
            yield Reading({"decode": {"format": "nmea", "fields": ["lat", "lon", "speed"]}}, "NMEA sentences of a GNSS receiver")
        return
    if _meter(lines):
        codes = dict.fromkeys(found[1].decode() for line in lines if (found := _OBIS.match(line)))
        fields = [{"name": f"v{i}", "path": code} for i, code in enumerate(codes, 1)][:MAX_FIELDS]
        yield Reading({"decode": {"format": "dsmr", "fields": fields}}, "telegrams of a meter")
        return
    labels = [[*dict.fromkeys(label.decode().strip() for label in _LABEL.findall(line))] for line in lines]
    if labels[-1] and labels.count(labels[-1]) * 2 > len(labels):
        decode = {"format": "text", "fields": labels[-1][:MAX_FIELDS]}
        yield Reading({"decode": decode}, f"a label before each value: {', '.join(labels[-1])}")
        return
    yield from _column_readings(lines, header)


def _column_readings(lines: list[bytes], header: list[bytes]) -> Iterator[Reading]:
    """By each separator that cuts nearly all lines into the same number of columns. A column of few numbers is passed over, and
    a cell that is none in a column of many does not matter."""
    for separator, written in SEPARATORS.items():
        rows = [_cells(line, separator) for line in lines]
        columns = Counter(map(len, rows)).most_common(1)[0][0]
        rows = [row for row in rows if len(row) == columns]
        if columns < 2 or len(rows) * 5 < len(lines) * 4:
            continue
        cells = list(zip(*rows, strict=True))
        numbers = [sum(_is_number(cell.strip(b'" ')) for cell in column) * 2 > len(rows) for column in cells]
        if not any(numbers):
            continue
        names = _names(header if len(header) == columns else _first_header(lines, separator, columns), columns)
        fields = [name if is_number else "_" for name, is_number in zip(names, numbers, strict=True)]
        decode: dict[str, Any] = {"format": "csv", "fields": fields[:MAX_FIELDS]}
        if written != ",":
            decode["separator"] = written
            if any(_COMMA_NUMBER.fullmatch(cell) for column in cells for cell in column):
                decode["decimal"] = ","
        yield Reading({"decode": decode}, f"{columns} columns, separated by {_SEPARATORS[separator]}")
    if all(_is_number(line) for line in lines):
        decode = {"format": "csv", "fields": ["value"]}
        yield Reading({"decode": decode}, "a number in each line")


def _first_header(lines: list[bytes], separator: bytes, columns: int) -> list[bytes]:
    heads = (_cells(line, separator) for line in lines)
    return next((head for head in heads if len(head) == columns and not any(map(_is_number, head))), [])


def _names(header: list[bytes], columns: int) -> list[str]:
    """What a header calls the columns, where each is a name of its own; else they are numbered."""
    names = [re.sub(r"\W+", "_", cell.strip(b'" ').decode("ascii", "replace")).strip("_") for cell in header]
    is_header = len(names) == columns and len({*names, ""}) == columns + 1 and all(map(str.isidentifier, names))
    return names if is_header else [f"c{i}" for i in range(1, columns + 1)]


def counting(lines: Sequence[Sequence[float]]) -> list[int]:
    """The columns that only count up: times and numbers of samples, which are seldom meant for a model."""
    columns = list(zip(*lines, strict=True))
    return [i for i, column in enumerate(columns) if len(column) > 2 and all(b > a for a, b in pairwise(column))]


def _vedirect_readings(data: bytes) -> Iterator[Reading]:
    labels = re.findall(rb"\r\n([A-Za-z0-9#_]{1,9})\t(-?[0-9]+)(?=\r\n)", data)
    names = [*dict.fromkeys(label.decode() for label, _ in labels if label not in (b"PID", b"FW", b"SER#", b"Checksum"))]
    if names:
        yield Reading({"decode": {"format": "vedirect", "fields": names[:MAX_FIELDS]}}, "VE.Direct of a Victron device")


def json_fields(payloads: Sequence[bytes]) -> list[Any]:
    """The numbers that all of these JSON objects hold, as `fields` of a decode; empty where they are no objects, or hold none."""
    common: dict[str, None] | None = None
    for payload in payloads:
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict):
            return []
        found = dict.fromkeys(_number_paths(value))
        common = found if common is None else {path: None for path in common if path in found}
    taken: set[str] = set()
    fields: list[Any] = []
    for path in [*(common or ())][:MAX_FIELDS]:
        parts = path.split(".")
        name = next(
            name for i in range(1, len(parts) + 2) if (name := "_".join(parts[-i:]) + "_" * (i > len(parts))) not in taken
        )
        taken.add(name)
        fields.append(name if name == path else {"name": name, "path": path})
    return fields


def _number_paths(value: dict[str, Any], before: str = "", depth: int = 4) -> Iterator[str]:
    for name, one in value.items():
        if not re.fullmatch(r"[A-Za-z_][\w-]*", name):
            continue
        if isinstance(one, dict) and depth:
            yield from _number_paths(one, f"{before}{name}.", depth - 1)
        elif (isinstance(one, int | float) and not isinstance(one, bool)) or (
            isinstance(one, str) and _is_number(one.encode("utf-8", "replace"))
        ):
            yield f"{before}{name}"
