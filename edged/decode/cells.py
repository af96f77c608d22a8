"""Lines of cells brought to one plain form: without quotes, and with one blank for a run of them.

Each step is a few calls into C for all lines together where nothing is unusual. No line is added or lost, and what is no
proper cell stays as it is, to be refused as what it is.
"""

from __future__ import annotations

import re

HELD = b"\x1f"
"""Stands for a separator within quotes, which separates nothing."""


def one_blank(blob: bytes) -> bytes:
    """A run of blanks and tabs as one blank, none at either end of a line."""
    blob = blob.replace(b"\t", b" ")
    while b"  " in blob:
        blob = blob.replace(b"  ", b" ")
    return blob.replace(b"\n ", b"\n").replace(b" \n", b"\n").removeprefix(b" ")


def closed_signs(blob: bytes) -> bytes:
    """Numbers without blanks behind their sign: "+  4.876" as scales write."""
    for sign in (b"+ ", b"- ", b"+\t", b"-\t"):
        while sign in blob:
            blob = blob.replace(sign, sign[:1])
    return blob


def unquoted(blob: bytes, separator: bytes) -> bytes:
    """Cells without the quotes around them, `""` within them as one quote; a separator within them becomes HELD."""
    if b'"' not in blob:
        return blob
    if _are_plain(blob, separator):
        return blob.replace(b'"', b"")
    gap = rb"[ \t]" if separator == b" " else re.escape(separator)
    cell = re.compile(rb"(?:(?<=\n)|(?<=" + gap + rb')|\A)"((?:[^"\n]|"")*)"(?=' + gap + rb"|\n|\Z)")
    held = blob.replace(HELD, b"\0")
    return cell.sub(lambda found: found[1].replace(b'""', b"\0q").replace(separator, HELD).replace(b"\0q", b'"'), held)


def _are_plain(blob: bytes, separator: bytes) -> bool:
    """Whether each quote stands at an end of a cell and no cell holds a separator or another quote."""
    around = b"\n" + blob.replace(b"\t", b" ") if separator == b" " else b"\n" + blob
    opening = around.count(b'\n"') + around.count(separator + b'"')
    closing = around.count(b'"\n') + around.count(b'"' + separator)
    if opening != closing or opening + closing != around.count(b'"'):
        return False
    others = bytes(sorted(set(range(256)) - set(separator + b'"\n')))
    return b'"' not in around.translate(None, others).replace(b'""', b"")
