"""The command `edged doctor`: a line for each finding, and an exit status by the worst."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from edged.commands.doctor import look
from edged.commands.doctor.findings import STATUS, Finding, diagnose, worst
from edged.commands.doctor.gather import gather, live
from edged.commands.doctor.wanted import wanted
from edged.notation.words import help_on
from edged.system.process import say
from edged.system.readable import readable


def doctor(config: Path, is_asked_for: bool, as_json: bool, root: Path = Path("/")) -> int:
    """0: all is well; 1: warnings; 69: something does not work."""
    named = wanted(config, is_asked_for, look.unit(root).is_there)
    facts = gather(root, named, live(named, config))
    findings = diagnose(facts)
    if as_json:
        said = {"worst": worst(findings), "findings": [f._asdict() for f in findings], "facts": msgspec.to_builtins(facts)}
        say(json.dumps(said, indent=2))
    else:
        say("\n".join(map(line, findings)))
    return STATUS[worst(findings)]


def line(finding: Finding) -> str:
    text = f"{finding.level:4}  {finding.topic:13}  {finding.text}"
    fix = "; ".join(filter(None, (finding.fix, help_on(finding.word) if finding.word else "")))
    return readable(f"{text}  =>  {fix}" if fix else text)  # one line, whatever a program calls itself
