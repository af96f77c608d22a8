"""Which configuration a command means."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/edged/edged.toml")
LOCAL_CONFIG = Path("edged.toml")
CONFIG_HELP = f"configuration ($EDGED_CONFIG, else ./{LOCAL_CONFIG} if it exists, else {DEFAULT_CONFIG})"


def take_configuration(command: argparse.ArgumentParser) -> None:
    """Adds -c, for a command that cannot do without a configuration."""
    command.add_argument("-c", "--config", type=Path, metavar="FILE", help=CONFIG_HELP)
    command.set_defaults(takes_configuration=True)


def settle_configuration(arguments: argparse.Namespace) -> None:
    """Puts the file that is meant in place of what was asked for, and notes whether somebody asked for it."""
    if "takes_configuration" not in arguments:
        return
    is_asked = arguments.config is not None or bool(os.environ.get("EDGED_CONFIG"))
    arguments.config = configuration(arguments.config)
    arguments.is_config_asked = is_asked or arguments.config == LOCAL_CONFIG


def configuration(asked: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The file that a command means."""
    if asked is not None:
        return asked
    if environ.get("EDGED_CONFIG"):
        return Path(environ["EDGED_CONFIG"])
    return LOCAL_CONFIG if LOCAL_CONFIG.is_file() else DEFAULT_CONFIG
