"""Races the daemon against bare loops on this machine: `make bench`, `make bench ROUNDS=7 JSON=build/mine.json RACES=raw,serial`.

How to read the table. Each line is one figure of edged, beside what another contestant needed for the same job in the same
rounds, and their ratio: 0.50, and edged needs half of its processor time; 4.0, and edged needs four times as much. Processor time
is that of the process under test alone, so that a busy broker or a second core does not blur it. Only ratios travel from one
machine to another: they are the medians of the ratios of single rounds, in which all contestants run one after another.
`reach` is where a figure should be, `last` where it was at the last release (tests/bench/figures.json). A figure that is worse
than that by more than noise is marked STEP BACK; one against the plain script only where there is no floor.

"C" is the floor: libmosquitto and ONNX Runtime's C API on arrays bound once. It takes part where a C compiler and
libmosquitto-dev are at hand (tests/bench/floors); else the plain script, what a user writes first, is the reference.
In the tables of single jobs (TABLES=1), "session alone" is the model run in a loop without any input or output: the part of
every figure that nobody can save, at one row a run and at 16 (edged batches what waits, so it can come below the former).

All that was measured is written as JSON. Those of a release are kept by copying that file to tests/bench/figures.json.

Another contestant joins with --against NAME=COMMAND. For the MQTT jobs {port} {model} {topic_in} {topic_out} {form} (raw or json)
and {qos} are put in; a command with {tty} (and {port} {model} {topic_out} {fields} {size} {hop}) runs in the serial ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edged import __version__
from tests.bench.contestant import REPO
from tests.bench.figures import find, last_values, table
from tests.bench.floors import build_floors
from tests.bench.jobs import EDGED, FAILURES, JOBS, Arena, Job, Sample, last_words
from tests.support.broker import Broker, find_mosquitto

BUILD = REPO / "build" / "bench"
LAST = Path(__file__).with_name("figures.json")
RUN_LIMIT_S = 270.0
"""After so long no job begins another round, where nobody said how many there shall be; each job has its share of it."""
ROUNDS = 3
DIGITS = 4

COLUMNS = (
    ("per_s", "per second", ",.0f"),
    ("alone_us", "alone us", ".1f"),
    ("p50_us", "p50 us", ".0f"),
    ("p99_us", "p99 us", ".0f"),
    ("mib", "MiB", ".1f"),
    ("threads", "threads", ".0f"),
    ("ready_s", "READY s", ".2f"),
)

Rounds = list[dict[str, Sample]]


def race(job: Job, arena: Arena, rounds: int, deadline: float) -> Rounds:
    """All contestants, one after another, again and again. One that fails is out, with its reason on stderr."""
    entrants = job.entrants(arena)
    out: set[str] = set()
    results: Rounds = []
    for _ in range(min(rounds, job.rounds_max or rounds)):
        if results and time.monotonic() > deadline:
            break
        result = {}
        for entrant in entrants:
            if entrant.name in out:
                continue
            try:
                result[entrant.name] = entrant.run()
            except FAILURES as error:
                out.add(entrant.name)
                print(f"{entrant.name} is out of the job: {error}\n{last_words(arena.folder)}", file=sys.stderr)
        results.append(result)
    return results


def summary(results: Rounds) -> dict[str, dict[str, Any]]:
    """By contestant: the medians of its columns, and `ratios`, edged's by its, the medians of the rounds."""
    lines: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for result in results for name in result):
        samples = [result[name] for result in results if name in result]
        pairs = [(r[EDGED], r[name]) for r in results if name in r and EDGED in r]
        lines[name] = {column: round(statistics.median(s[column] for s in samples), DIGITS) for column in samples[0]}
        lines[name]["ratios"] = {
            column: round(statistics.median(mine[column] / its[column] for mine, its in pairs), DIGITS)
            for column in samples[0]
            if pairs and all(column in mine and its[column] for mine, its in pairs)
        }
    return lines


def job_table(job: Job, lines: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    columns = [("cost", job.unit, ".2f"), *COLUMNS]
    shown = [c for c in columns if any(c[0] in line for line in lines.values())]
    yield job.title
    yield f"  {'':30}" + "".join(f"{head:>{len(head) + 3}}" for _, head, _ in shown) + "   edged/it"
    for name, line in lines.items():
        cells = "".join(f"{format(line[key], form) if key in line else '':>{len(head) + 3}}" for key, head, form in shown)
        ratio = line["ratios"].get("cost")
        yield f"  {name:30}{cells}{'' if ratio is None else format(ratio, '.2f'):>11}".rstrip()
    yield ""


def machine() -> dict[str, Any]:
    """What a figure that is no ratio depends on."""
    models = (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    return {
        "processor": next(models, platform.machine()),
        "cores": os.cpu_count(),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Races the daemon against bare loops on this machine.")
    parser.add_argument("--rounds", type=int, help=f"rounds of each job ({ROUNDS}, or fewer where they take longer than minutes)")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which, of " + ",".join(JOBS))
    parser.add_argument("--json", type=Path, default=BUILD / "figures.json", metavar="FILE", help="where to write all figures")
    parser.add_argument("--tables", action="store_true", help="print a table of every job as well")
    parser.add_argument("--against", metavar="NAME=COMMAND", action="append", default=[], help="another contestant")
    arguments = parser.parse_args()
    arguments.jobs = arguments.jobs.split(",")
    if unknown := [name for name in arguments.jobs if name not in JOBS]:
        parser.error(f"no job is called {unknown[0]}: they are {', '.join(JOBS)}")
    if find_mosquitto() is None:
        parser.error("mosquitto is not installed: apt install mosquitto")
    return arguments


def main() -> int:
    arguments = _arguments()
    floors = build_floors(BUILD)
    if floors.why_not:
        print(f"no floor in C, so plain scripts are the reference: {floors.why_not}\n", flush=True)
    end = time.monotonic() + (RUN_LIMIT_S if arguments.rounds is None else float("inf"))
    rounds = arguments.rounds or ROUNDS
    options = ("log_type none", "set_tcp_nodelay true", "max_queued_messages 0", "max_inflight_messages 0")
    report: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as name, Broker(Path(name), *options) as broker:
        against = [tuple(a.split("=", 1)) for a in arguments.against]
        arena = Arena(broker.port, Path(name), floors, against)
        for i, key in enumerate(arguments.jobs):
            print(f"({i + 1} of {len(arguments.jobs)}) {JOBS[key].title}", file=sys.stderr, flush=True)
            now = time.monotonic()
            results = race(JOBS[key], arena, rounds, now + (end - now) / (len(arguments.jobs) - i))
            report[key] = summary(results)
            if arguments.tables:
                print("\n".join(job_table(JOBS[key], report[key])), flush=True)
    found = find(report)
    here = machine()
    last = json.loads(LAST.read_text()) if LAST.exists() else {}
    before = last_values(last, here)
    print("\n".join(table(found, before)))
    back = [one.figure for one in found if one.is_step_back(before.get(one.figure.key))]
    if back:
        print(f"\n{len(back)} worse than at {last['version']} by more than noise: " + "; ".join(f.key for f in back))
    record = {
        "version": __version__,
        "machine": here,
        "rounds": rounds,
        "figures": {one.figure.key: one.value for one in found},
        "jobs": report,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nall of it is in {arguments.json}")
    return 0 if all(EDGED in lines for lines in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
