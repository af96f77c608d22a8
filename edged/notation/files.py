"""Small files that a configuration is, or names: certificates, labels, secrets, steps."""

from __future__ import annotations

import difflib
from pathlib import Path

from edged.notation.units import MIB
from edged.notation.words import listed
from edged.system.plain_file import UnfitFile, read_plain

MAX_BYTES = MIB
LIKENESS = 0.75
"""Of two names of files, so that one is a slip of the other."""


def read_small(file: Path, fix: str = "") -> bytes:
    """Raises ValueError with what is wrong with it, in words; `fix` for one that is not there."""
    try:
        return read_plain(file, MAX_BYTES)
    except FileNotFoundError:
        raise ValueError(f"{file} is not there{fix or _instead(file)}") from None
    except PermissionError:
        raise ValueError(f"{file} may not be read by this user; chown or chmod it") from None
    except UnfitFile as error:
        raise ValueError(f"expected a file, {file} is a folder" if file.is_dir() else f"{file}: {error}") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {(error.strerror or 'unknown error').lower()}") from None


def _instead(file: Path) -> str:
    """What was probably meant, or what there is where it was looked for."""
    try:
        there = sorted(one.name for one in file.parent.iterdir() if not one.name.startswith("."))
    except OSError:
        return f"; {file.parent} is not a folder that can be read"
    alike = [name for name in there if Path(name).suffix == file.suffix]
    close = difflib.get_close_matches(file.stem, [Path(name).stem for name in alike], 1, LIKENESS)
    if close:
        return f'; did you mean "{close[0]}{file.suffix}"?'
    return f"; in its folder are: {listed(alike or there)}" if there else "; its folder is empty"
