"""What commands say to a daemon that runs, and print of its answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edged.errors import EX_CONFIG, EX_OK, EX_UNAVAILABLE, Fatal
from edged.runtime.control import ask

TITLES = (("kept", "kept"), ("added", "added"), ("changed", "changed"), ("removed", "removed"), ("at_start", "at the next start"))


def reload(config: Path, waits: bool, as_json: bool) -> int:
    """Asks the daemon of this configuration to apply it; 78 if it could not be applied."""
    answer = _ask(config, {"command": "reload", "wait": waits or as_json})
    if as_json:
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    elif not answer["ok"]:
        sys.stderr.write("\n".join([*answer["errors"], "nothing was changed: what ran before still runs"]) + "\n")
    elif waits:
        sys.stdout.write(_text(answer) + "\n")
    return EX_OK if answer["ok"] else EX_CONFIG


def roll_back(config: Path, model: str) -> int:
    """Asks the daemon to go back to the version of a model that ran before; 78 if it cannot."""
    answer = _ask(config, {"command": "rollback", "model": model})
    if not answer["ok"]:
        sys.stderr.write("\n".join(answer["errors"]) + "\n")
        return EX_CONFIG
    sys.stdout.write("\n".join([*answer["changed"], *(f"warning: {line}" for line in answer["warnings"])]) + "\n")
    return EX_OK


def _text(answer: dict[str, Any]) -> str:
    lines = [f"{title + ':':18} {name}" for key, title in TITLES for name in answer[key]]
    lines += [f"warning: {line}" for line in answer["warnings"]]
    if not any(answer[key] for key, _ in TITLES[1:]):
        lines.append("nothing changed")
    return "\n".join(lines)


def _ask(config: Path, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return ask(config, request)
    except PermissionError as error:
        raise Fatal(f"may not speak to the daemon: {error.strerror}; try as its user, or with sudo", EX_UNAVAILABLE) from error
    except TimeoutError as error:
        raise Fatal("the daemon does not answer", EX_UNAVAILABLE) from error
    except OSError as error:
        raise Fatal(f"{error}", EX_UNAVAILABLE) from error
