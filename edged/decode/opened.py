"""What stands between a payload and its format: digits of hex or base64, and compression.

Bounded: never more than `limit` bytes come out, however little goes in.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import importlib.util
import re
import zlib
from collections.abc import Callable
from typing import Any

from edged.decode.looks import looks
from edged.decode.values import BadPayload

ENCODINGS = ("base64", "hex")
COMPRESSIONS = ("gzip", "zlib", "zstd")
_BLANKS = b" \t\r\n\0"
"""Of digits: also the NUL that a C program puts behind its text."""
_BOM = b"\xef\xbb\xbf"
_DATA_URL = re.compile(rb"data:[^,]{0,256};base64,")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_HEX = re.compile(rb"(?:0?[xX])?((?:[0-9a-fA-F]{2})*)")
_BETWEEN_HEX = re.compile(rb"[\s:,;-]+|\\(?=[xX])")
_PIECE = 64
"""Bytes of zstd at a time: they hold at most 21 blocks of 128 KiB."""
_WINDOW = 8 << 20
"""The largest that a zstd stream may want: what its own tools take without being told to take more."""


def opener(encoding: str | None, compress: str | None, limit: int) -> Callable[[bytes], bytes]:
    """A function from bytes as they came to those that a format reads. It raises BadPayload."""
    expand = {None: None, "gzip": _gzip, "zlib": _zlib, "zstd": _zstd}[compress]
    decode = {None: None, "base64": _base64, "hex": _hex}[encoding]

    def opened(data: bytes) -> bytes:
        if decode is not None:
            data = decode(data)
        return data if expand is None else expand(data, limit)

    return opened


def missing_package(compress: str | None) -> str:
    """What must be installed for it; empty when nothing must be."""
    is_there = compress != "zstd" or any(map(_is_there, ("compression.zstd", "zstandard")))
    return "" if is_there else '"zstd" needs the package zstandard: pip install "edged[zstd]"'


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _base64(data: bytes) -> bytes:
    text = data.removeprefix(_BOM).translate(None, _BLANKS)
    if text[:5] == b"data:" and (url := _DATA_URL.match(text)):
        text = text[url.end() :]
    text = text.translate(_URL_SAFE).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise BadPayload("malformed", f"expected base64, found {_shown(data)}") from None


def _hex(data: bytes) -> bytes:
    text = data.removeprefix(_BOM)
    found = [_HEX.fullmatch(text.translate(None, _BLANKS))]
    if found == [None]:  # pairs as people write them: 01:ff, 01-FF, 0x01, 0xff, \x01\xff
        found = [_HEX.fullmatch(part) for part in _BETWEEN_HEX.split(text.strip(_BLANKS))]
    if None in found:
        raise BadPayload("malformed", f"expected hex digits in pairs, found {_shown(data)}")
    return bytes.fromhex(b"".join([one[1] for one in found if one]).decode())


def _shown(data: bytes) -> str:
    return f"{data[:24].decode('ascii', 'backslashreplace')!r} ({len(data)} characters)"


def _gzip(data: bytes, limit: int) -> bytes:
    return _inflated(data, limit, 31, "gzip")


def _zlib(data: bytes, limit: int) -> bytes:
    return _inflated(data, limit, 15, "zlib")


def _inflated(data: bytes, limit: int, bits: int, name: str) -> bytes:
    parts, size = [], 0
    while data:  # gzip may hold several members
        stream = zlib.decompressobj(bits)
        try:
            part = stream.decompress(data, limit + 1 - size)
        except zlib.error as error:
            raise _not_packed(name, data, error) from None
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        if not stream.eof:
            raise BadPayload("short", f"the {name} data end too early")
        data = stream.unused_data.lstrip(b"\0") if bits == 31 else b""
    return b"".join(parts)


def _zstd(data: bytes, limit: int) -> bytes:
    if _is_there("compression.zstd"):
        zstd: Any = importlib.import_module("compression.zstd")
        reader = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW.bit_length() - 1})
        try:
            found: bytes = reader.decompress(data, limit + 1)
        except zstd.ZstdError as error:
            raise _not_packed("zstd", data, error) from None
        is_whole = reader.eof
    else:
        zstd = importlib.import_module("zstandard")
        try:
            stream = zstd.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
            found, is_whole = _in_pieces(stream, data, limit)
        except zstd.ZstdError as error:
            raise _not_packed("zstd", data, error) from None
    if len(found) > limit:
        raise _too_large(limit)
    if not is_whole:
        raise BadPayload("short", "the zstd data end too early")
    return found


def _not_packed(name: str, data: bytes, error: Exception) -> BadPayload:
    found = looks(data)
    if found.startswith(name):
        return BadPayload("malformed", f"{name} data that are damaged: {error}")
    return BadPayload("malformed", f"expected {name} data, found {found}")


def _in_pieces(stream: Any, data: bytes, limit: int) -> tuple[bytes, bool]:
    """What comes out, little more than `limit` at most, and whether that is the whole: the library expands all it is given."""
    parts: list[bytes] = []
    size = 0
    for start in range(0, len(data), _PIECE):
        parts.append(stream.decompress(data[start : start + _PIECE]))
        size += len(parts[-1])
        if size > limit or stream.eof:
            break
    return b"".join(parts), size > limit or stream.eof


def _too_large(limit: int) -> BadPayload:
    return BadPayload("too_large", f"more than {limit} bytes once it is expanded (max_bytes)")
