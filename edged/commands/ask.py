"""What commands say to a daemon that runs, and print of its answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edged.daemon.control import ask
from edged.errors import EX_CONFIG, EX_OK, EX_UNAVAILABLE, Fatal
from edged.system.process import complain, say

TITLES = (("kept", "kept"), ("added", "added"), ("changed", "changed"), ("removed", "removed"), ("at_start", "at the next start"))


def reload(config: Path, waits: bool, as_json: bool) -> int:
    """Asks the daemon of this configuration to apply it; 78 if it could not be applied."""
    answer = _ask(config, {"command": "reload", "wait": waits or as_json})
    if as_json:
        say(json.dumps(answer, indent=2))
    elif not answer["ok"]:
        complain("\n".join([*answer["errors"], "nothing was changed: what ran before still runs"]))
    elif waits:
        say(_text(answer))
    return EX_OK if answer["ok"] else EX_CONFIG


def roll_back(config: Path, model: str) -> int:
    """Asks the daemon to go back to the version of a model that ran before; 78 if it cannot."""
    answer = _ask(config, {"command": "rollback", "model": model})
    if not answer["ok"]:
        complain("\n".join(answer["errors"]))
        return EX_CONFIG
    say("\n".join([*answer["changed"], *(f"warning: {line}" for line in answer["warnings"])]))
    return EX_OK


def status(config: Path, as_json: bool) -> int:
    """Prints what the daemon of this configuration says of itself, as its health topic does."""
    facts = _ask(config, {"command": "status"})["status"]
    say(json.dumps(facts, indent=2) if as_json else _status_text(facts))
    return EX_OK


def is_well(config: Path) -> int:
    """For health checks, in one line: 0 where all is well, 1 where something is degraded, 2 where no daemon answers."""
    try:
        facts = _ask(config, {"command": "status"})["status"]
    except Fatal as error:
        complain(f"edged: {error}")
        return 2
    say(_status_text(facts).splitlines()[0])
    return EX_OK if facts["state"] == "healthy" else 1


def _status_text(facts: dict[str, Any]) -> str:
    memory = f"{facts['memory']['resident_mib']} of {facts['memory']['budget_mib']} MiB"
    lines = [f"edged {facts['version']}, device {facts['device']}: {facts['state']}, up {facts['uptime_s']:.0f} s, {memory}"]
    rows = [(kind, name, part) for kind in ("source", "pipeline", "model", "broker") for name, part in facts[f"{kind}s"].items()]
    rows += [("spool", "", facts["spool"])] if "spool" in facts else []
    width = max((len(name) for _, name, _ in rows), default=0)
    for kind, name, part in rows:
        counted = {"source": "rows", "pipeline": "published"}.get(kind)
        said = [f"{part[counted]} {'results' if kind == 'pipeline' else counted}"] if counted else []
        said += [part["reason"]] if part.get("reason") else []
        said += [f"{stage} {100 * s / facts['cpu_s']:.0f} %" for stage, s in part.get("spent_s", {}).items() if facts["cpu_s"]]
        lines.append(f"{kind:9} {name:{width}}  {part['state']:12} {'; '.join(said)}".rstrip())
    if "config_last_good" in facts:
        lines.append(f"runs the last good configuration, of {facts['config_last_good']}, until the file is right")
    return "\n".join([*lines, *(f"configuration refused: {line}" for line in facts.get("config_errors", ()))])


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
