"""Units of durations, sizes and rates: what each is worth, and what people write by mistake for it."""

from __future__ import annotations

NS = 1
US = 1_000 * NS
MS = 1_000 * US
S = 1_000 * MS
MIN = 60 * S
H = 60 * MIN
D = 24 * H
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def in_mib(size: int) -> str:
    """In whole MiB, rounded up."""
    return f"{-(-size // MIB)} MiB"


DURATION_UNITS = {"ns": NS, "us": US, "ms": MS, "s": S, "min": MIN, "h": H, "d": D}
SIZE_UNITS = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
RATE_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
DURATION_SLIPS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds", "S"), "s"),
    **dict.fromkeys(("msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("µs", "usec", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("mins", "minute", "minutes", "MIN"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours", "H"), "h"),
    **dict.fromkeys(("day", "days", "D"), "d"),
}
SIZE_SLIPS = {
    **dict.fromkeys(("b", "byte", "bytes"), "B"),
    **dict.fromkeys(("k", "K", "kb", "KB", "kB", "kib", "KIB", "Ki"), "KiB"),
    **dict.fromkeys(("m", "M", "mb", "MB", "mib", "MIB", "Mi"), "MiB"),
    **dict.fromkeys(("g", "G", "gb", "GB", "gib", "GIB", "Gi"), "GiB"),
}
