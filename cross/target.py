"""What a device is, as its page in `targets/` says: its machine, its systems with their Python and C library, its GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edged.config.toml.document import parse

TARGETS = Path(__file__).parent / "targets"


class Refused(Exception):
    """A bundle that cannot be built as asked; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class System:
    """One operating system that such a device runs."""

    name: str
    python: str
    """As in `3.13`."""
    glibc: str
    """As in `2.41`: wheels for this C library or an older one run there."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The wheel that drives the device's GPU; it takes the place of the one for processors only."""

    package: str
    runs_on: tuple[str, ...]
    """The architectures of the target's devices (`sm_87`); its CUDA code must be for one of them at least."""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    machine: str
    """As `uname -m` says it."""
    systems: tuple[System, ...]
    """The first is taken unless another is asked for."""
    gpu: Gpu | None
    instead: tuple[str, ...]
    """Pins, with their hashes, in place of those of requirements/run.txt."""
    page_kib: int = 4
    """The largest pages that its kernels have: a library laid out for smaller ones cannot be loaded."""

    def system(self, asked: str) -> System:
        """By its name or its Python; the first for an empty one."""
        for system in self.systems:
            if asked in ("", system.name, system.python):
                return system
        known = ", ".join(f"{s.name} (Python {s.python})" for s in self.systems)
        raise Refused(f"target {self.name} has no system {asked}; it has {known}: set SYSTEM to one of them")


def names() -> list[str]:
    return sorted(page.stem for page in TARGETS.glob("*.toml"))


def read(name: str) -> Target:
    if name not in names():
        raise Refused(f"there is no target {name or 'without a name'}; there are {', '.join(names())}: set TARGET to one of them")
    page = parse((TARGETS / f"{name}.toml").read_text("utf-8")).values
    gpu = page.get("gpu")
    return Target(
        name=name,
        machine=page["machine"],
        systems=tuple(System(key, one["python"], one["glibc"]) for key, one in page["system"].items()),
        gpu=Gpu(gpu["package"], tuple(gpu["runs_on"])) if gpu else None,
        instead=tuple(page.get("instead", ())),
        page_kib=page.get("page_kib", 4),
    )
