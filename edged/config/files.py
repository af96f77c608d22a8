"""Small files that a configuration is, or names: certificates, labels, secrets, steps."""

from __future__ import annotations

from pathlib import Path

from edged.config.units import MIB
from edged.system.plain_file import UnfitFile, read_plain

MAX_BYTES = MIB


def read_small(file: Path, cure: str = "") -> bytes:
    """Raises ValueError with what is wrong with it, in words; `cure` for one that is not there."""
    try:
        return read_plain(file, MAX_BYTES)
    except FileNotFoundError:
        raise ValueError(f"{file} is not there{cure}") from None
    except PermissionError:
        raise ValueError(f"{file} may not be read by this user; chown or chmod it") from None
    except UnfitFile as error:
        raise ValueError(f"expected a file, {file} is a folder" if file.is_dir() else f"{file}: {error}") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {(error.strerror or 'unknown error').lower()}") from None
