"""What commands say to a daemon that runs, and print of its answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edged.daemon.control import ask, listen
from edged.errors import EX_CONFIG, EX_OK, EX_UNAVAILABLE, Fatal
from edged.system.process import complain, say

TITLES = (("kept", "kept"), ("added", "added"), ("changed", "changed"), ("removed", "removed"), ("at_start", "at the next start"))


def reload(config: Path, waits: bool, as_json: bool) -> int:
    """Asks the daemon of this configuration to apply it; 78 if it could not be applied."""
    answer = ask_daemon(config, {"command": "reload", "wait": waits or as_json})
    if as_json:
        say(json.dumps(answer, indent=2))
    elif not answer["ok"]:
        complain("\n".join([*answer["errors"], "nothing was changed: what ran before still runs"]))
    elif waits:
        say(_text(answer))
    return EX_OK if answer["ok"] else EX_CONFIG


def roll_back(config: Path, model: str) -> int:
    """Asks the daemon to go back to the version of a model that ran before; 78 if it cannot."""
    answer = ask_daemon(config, {"command": "rollback", "model": model})
    if not answer["ok"]:
        complain("\n".join(answer["errors"]))
        return EX_CONFIG
    say("\n".join([*answer["changed"], *(f"warning: {line}" for line in answer["warnings"])]))
    return EX_OK


def tell(config: Path, request: dict[str, Any], done: str) -> int:
    """Asks the daemon to do something, and says `done`; 78 if it could not."""
    answer = ask_daemon(config, request)
    if not answer["ok"]:
        complain("\n".join(answer["errors"]))
        return EX_CONFIG
    said = f": {', '.join(answer['acknowledged']) or 'none waited'}" if "acknowledged" in answer else ""
    say(done + said)
    return EX_OK


def _text(answer: dict[str, Any]) -> str:
    lines = [f"{title + ':':18} {name}" for key, title in TITLES for name in answer[key]]
    lines += [f"warning: {line}" for line in answer["warnings"]]
    if not any(answer[key] for key, _ in TITLES[1:]):
        lines.append("nothing changed")
    return "\n".join(lines)


def ask_daemon(config: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of the daemon that runs with this configuration. Raises Fatal when there is none."""
    with _asking():
        return ask(config, request)


def listen_to_daemon(config: Path, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The lines of its answer, until it ends. Raises Fatal when there is none."""
    with _asking():
        yield from listen(config, request)


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Fatal(f"may not speak to the daemon: {error.strerror}; try as its user, or with sudo", EX_UNAVAILABLE) from error
    except TimeoutError as error:
        raise Fatal("the daemon does not answer", EX_UNAVAILABLE) from error
    except OSError as error:
        raise Fatal(f"{error}", EX_UNAVAILABLE) from error
