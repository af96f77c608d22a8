"""Text from outside as a terminal may be shown it: a sensor, a file, a daemon or a device must not steer it, nor fake a line."""

from __future__ import annotations


def readable(text: str, keeps: str = "") -> str:
    """`text` with whatever is no plain character written out (`\\x1b`); `keeps`: characters that stay as they are."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in keeps else repr(c)[1:-1] for c in text)


def readable_lines(text: str) -> str:
    """The same for a text of several lines, with what may stand in them."""
    return readable(text, keeps="\n\t")
