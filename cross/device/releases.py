"""The releases on the disk: which one a link leads to, which are removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from cross.device.files import size_of
from cross.device.places import BEFORE, CACHE, CURRENT, MIB, MIN_FREE_BYTES, PREFIX, RELEASES
from cross.device.words import say

KEPT_RELEASES = 3
KEPT_BYTES = 2048 * MIB


def name_of(link: Path) -> str | None:
    """The release at the end of a link, if it is there and whole."""
    if not link.is_symlink():
        return None
    name = Path(os.readlink(link)).name
    return name if (RELEASES / name / "complete").exists() else None


def superfluous(releases: Mapping[str, tuple[float, int]], needed: Iterable[str], free: int) -> list[str]:
    """The releases to remove. `releases`: when each was made, and its size. `needed`: what runs, and what ran before; they stay,
    with the newest of the others while there are not too many, and room."""
    kept = [name for name in dict.fromkeys(needed) if name in releases]
    total = sum(releases[name][1] for name in kept)
    for name in sorted(releases.keys() - set(kept), key=lambda one: releases[one], reverse=True):
        size = releases[name][1]
        if len(kept) < KEPT_RELEASES and total + size <= KEPT_BYTES and free >= MIN_FREE_BYTES:
            kept.append(name)
            total += size
    return sorted(releases.keys() - set(kept))


def remove_releases() -> None:
    """Those that nobody needs any more, and those that were never finished."""
    releases = {}
    for folder in RELEASES.iterdir():
        if (folder / "complete").exists():
            releases[folder.name] = ((folder / "complete").stat().st_mtime, size_of(folder))
        elif folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
    needed = [name for name in (name_of(CURRENT), name_of(BEFORE)) if name]
    for name in superfluous(releases, needed, shutil.disk_usage(PREFIX).free):
        say(f"removing release {name}")
        shutil.rmtree(RELEASES / name, ignore_errors=True)


def remove_wheels() -> None:
    """What is of no release that is kept."""
    wanted = set()
    for manifest in RELEASES.glob("*/manifest"):
        wanted |= {line[:64] for line in manifest.read_text().splitlines()}
    for file in CACHE.iterdir():
        if file.name not in wanted:
            file.unlink()
