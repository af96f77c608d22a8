"""Plans a configuration that is written in a test."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edged.config.load import read, report
from edged.errors import Problem
from edged.model.manifest import read_manifest
from edged.plan.make import make_plan
from edged.plan.records import Machine, Plan

MIB = 1024 * 1024
MACHINE = Machine("pi4", 8192 * MIB, 64 * MIB)

MAIN = """
[broker.main]
url = "mqtt://localhost"
"""
ACCEL = """
[source.accel]
type = "serial"
port = "/dev/ttyACM9"
baudrate = 921600
rate = 1000
decode = { format = "csv", unit = "m/s2", fields = ["ax", "ay", "az"] }
"""
PUMPS = """
[source.pumps]
type = "mqtt"
topic = "plant/{line}/{pump}/telemetry"
max_keys = 250
rate = 1
decode = { format = "json", fields = ["temp", "p_in", "p_out", "rpm"] }
"""


class Planned(NamedTuple):
    plan: Plan | None
    problems: list[Problem]
    lines: list[str]
    """The problems as a person sees them, without the name of the file."""

    @property
    def whole(self) -> Plan:
        assert self.plan is not None, self.lines
        return self.plan


def planned(folder: Path, text: str, machine: Machine = MACHINE) -> Planned:
    """The plan of a configuration whose models lie in `folder`."""
    path = folder / "edged.toml"
    path.write_text(text, "utf-8")
    draft = read(path, {})
    problems: list[Problem] = [p for p in draft.problems if not p.is_warning]
    manifests = {}
    for name, model in draft.config.model.items():
        manifest, found = read_manifest(name, model.path)
        problems += found
        if manifest is not None:
            manifests[name] = manifest
    plan, more = make_plan(draft.config, manifests, machine)
    problems += more
    return Planned(plan, problems, [str(one).removeprefix(f"{path}:") for one in report(draft, problems)])
