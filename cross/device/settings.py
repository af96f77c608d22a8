"""The drop-in of the service for this device: its limits, its credentials. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cross.device.places import CREDENTIALS, MIB

TRIAL_BYTES = 128 * MIB
"""What a model's trial takes beside its weights: a Python with its libraries, and room to work. Not what is measured, which is
another figure each time and would change the unit for nothing."""


def memory_max(plan: Mapping[str, Any]) -> int:
    """What the kernel is to enforce: the budget, and room for a child in which a new model is tried."""
    memory = plan["memory"]
    weights = max((line["bytes"] for line in memory["lines"] if line["what"].endswith(": weights")), default=0)
    return int(memory["budget_bytes"] + (3 * weights + TRIAL_BYTES if plan["models"] else 0))


def settings(limit: int, credentials: Iterable[str], systemd: int, parts: Mapping[str, str], has_gpu: bool) -> str:
    """The drop-in for this device."""
    lines = ["# Written by the deploy for this device, and again by the next one. Yours: systemctl edit edged", "[Service]"]
    lines += [f"MemoryMax={limit}", *(f"LoadCredential={name}:{CREDENTIALS / name}" for name in sorted(credentials))]
    text = "\n".join(lines) + "\n"
    if systemd >= 254:
        text += "\n" + parts["restart.conf"]
    if has_gpu:
        text += "\n" + parts["gpu.conf"]
    return text
