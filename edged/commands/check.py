"""What the command `edged check` does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edged.commands.problems import JSON_SCHEMA_VERSION, problems_text
from edged.daemon.prepare import load, prepare
from edged.errors import EX_CONFIG, EX_OK, ConfigError
from edged.plan.report import load_text, plan_json, plan_text, threads_text
from edged.system import log
from edged.system.process import complain, say
from edged.system.terminal import look_of


def check(path: Path, as_json: bool) -> int:
    """Prints the plan, or raises ConfigError; as JSON errors are printed as well. Models are loaded and run, nothing else is
    opened."""
    log.configure("warning")
    try:
        prepared = prepare(path)
        plan, loaded = load(prepared)
    except ConfigError as error:
        if not as_json:
            raise
        errors = [one.facts() for one in error.found]
        say(json.dumps({"schema_version": JSON_SCHEMA_VERSION, "ok": False, "errors": errors, "warnings": []}, indent=2))
        return EX_CONFIG
    if as_json:
        warnings = [one.facts() for one in prepared.remarks]
        facts = {"schema_version": JSON_SCHEMA_VERSION, "ok": True, "errors": [], "warnings": warnings, **plan_json(plan)}
        facts["workers"] = plan.workers
        facts["loaded"] = {
            n: {
                "provider": x.report.provider,
                "run": x.report.run,
                "batch_max": x.report.batch_max,
                "p50_us": round(x.report.p50_us, 1),
                "why": list(x.report.reasons),
                "batching": x.report.batching,
                "builds": x.report.builds,
            }
            for n, x in loaded.items()
        }
        say(json.dumps(facts, indent=2))
        return EX_OK
    if prepared.remarks:
        complain(problems_text(prepared.remarks, look_of(sys.stderr)), is_clean=True)
    models = [load_text(x.report) for x in loaded.values()]
    threads = threads_text(plan, {n: x.report for n, x in loaded.items()})
    say("\n".join([plan_text(plan), "", *models, *threads, f"{path}: ok"]))
    return EX_OK
