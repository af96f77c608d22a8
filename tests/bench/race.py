"""Races the daemon against bare loops on this machine: `make bench`, `make bench ROUNDS=5 JSON=1`.

How to read the tables. `us` is processor time of the process under test alone (all its threads, user and system), so that a
busy broker or a second core does not blur it. `edged/it` is what edged costs relative to that line: 0.50, and edged needs half of
its processor time; 4.0, and edged needs four times as much. Only such ratios travel from one machine to another: they are the
median of the ratios of single rounds, in which all contestants run one after another. `ping` is the time from a request to
its answer, with one request at a time. MiB and threads are of the process at the end of the job, READY is the time from exec.

"session alone" is the model run in a loop without any input or output: the part of every figure that nobody can save, at one
row a run and at 16 (edged batches what waits, so it can come below the former).

Another contestant, a floor in C say, joins with --against NAME=COMMAND. For the MQTT jobs {port} {model} {topic_in} {topic_out}
{form} (raw or json) and {qos} are put in; a command with {tty} (and {port} {model} {topic_out} {fields} {size} {hop}) runs in the
serial ones. QOS is in its environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from string import Template

import numpy as np

from tests.bench.contestant import LOG, REPO, Contestant, python
from tests.bench.load import Load, Lost
from tests.bench.nets import write_cnn, write_mlp
from tests.bench.sensor import Sensor
from tests.support.broker import Broker, find_mosquitto

HERE = Path(__file__).parent
TOPIC_IN = "bench/in"
TOPIC_OUT = "bench/out"
MEASURE_S = 1.5  # a load is as long as a short one before it says that this takes
ALONE_S = 0.4
ALONE_ROWS = (1, 16)
IDLE_S = 5.0
START_LIMIT_S = 15.0
RUN_LIMIT_S = 150.0
"""After so long no job begins another round."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One contestant's round. `cost` is in the job's unit."""

    cost: float
    per_s: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    mib: float | None = None
    threads: float | None = None
    ready_s: float | None = None


COLUMNS = (
    ("per_s", " a second", ",.0f"),
    ("p50_us", "ping p50 us", ".0f"),
    ("p99_us", "p99 us", ".0f"),
    ("mib", "MiB", ".0f"),
    ("threads", "threads", ".0f"),
    ("ready_s", "READY s", ".2f"),
)


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contestant of one job: what it is called, and how a round of it is run."""

    name: str
    run: Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Arena:
    """Where all jobs take place."""

    port: int
    folder: Path
    mlp: Path
    cnn: Path
    against: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class MqttJob:
    title: str
    form: str
    qos: int
    in_flight: int

    unit = "us an answer"
    rounds_most = None

    def entrants(self, arena: Arena) -> list[Entrant]:
        decodes = {
            "raw": '{ format = "raw", dtype = "float32", shape = [64] }',
            "json": '{ format = "json", fields = ["x"], shape = [64] }',
        }
        words = {
            "port": str(arena.port),
            "model": str(arena.mlp),
            "topic_in": TOPIC_IN,
            "topic_out": TOPIC_OUT,
            "form": self.form,
            "qos": str(self.qos),
        }
        config = render("mqtt.toml", arena.folder, {**words, "decode": decodes[self.form]})
        plain = python("plain_mqtt", arena.mlp, TOPIC_IN, TOPIC_OUT, arena.port, self.qos, self.form)
        others = [(name, fill(command, words)) for name, command in arena.against if "{tty}" not in command]
        return [
            Entrant("edged", partial(self._round, arena, edged(config), says_ready=True)),
            Entrant("plain paho script", partial(self._round, arena, plain)),
            *(Entrant(name, partial(self._round, arena, command)) for name, command in others),
            *(Entrant(alone_name(rows), partial(alone, arena.mlp, rows)) for rows in ALONE_ROWS),
        ]

    def _round(self, arena: Arena, command: list[str], *, says_ready: bool = False) -> Sample:
        env = {"QOS": str(self.qos)}
        with (
            Load(arena.port, TOPIC_IN, TOPIC_OUT, self._payload(), self.qos) as load,
            Contestant(command, arena.folder, env, says_ready=says_ready) as contestant,
        ):
            load.wait_until_answered(START_LIMIT_S)
            count = round(load.drive(1500, self.in_flight).per_s * MEASURE_S)
            before = contestant.cpu_s()
            full = load.drive(count, self.in_flight)
            cost = (contestant.cpu_s() - before) / count * 1e6
            ping = load.drive(1000, 1)
            return Sample(
                cost, full.per_s, ping.p50_us, ping.p99_us, contestant.resident_mib(), contestant.threads(), contestant.ready_s
            )

    def _payload(self) -> bytes:
        x = np.random.default_rng(1).standard_normal(64).astype(np.float32)
        return x.tobytes() if self.form == "raw" else json.dumps({"x": [round(float(v), 4) for v in x]}).encode()


@dataclass(frozen=True, slots=True)
class SerialJob:
    """Lines of `fields` numbers, an answer every `hop` of them; at full speed, or at `rate` lines a second."""

    title: str
    fields: int
    size: int
    hop: int
    rate: float = 0

    @property
    def unit(self) -> str:
        return "% of a core" if self.rate else "us a line"

    @property
    def rounds_most(self) -> int | None:
        return 1 if self.rate else None

    def entrants(self, arena: Arena) -> list[Entrant]:
        model = arena.cnn if self.size > 1 else arena.mlp
        names = json.dumps([f"f{i}" for i in range(self.fields)])
        window = f"window = {{ size = {self.size}, hop = {self.hop} }}" if self.size > 1 else ""
        words = {
            "port": str(arena.port),
            "model": str(model),
            "topic_out": TOPIC_OUT,
            "fields": str(self.fields),
            "size": str(self.size),
            "hop": str(self.hop),
        }

        def run_edged(tty: str) -> list[str]:
            return edged(render("serial.toml", arena.folder, {**words, "tty": tty, "fields": names, "window": window}))

        def run_plain(tty: str) -> list[str]:
            return python("plain_serial", model, tty, TOPIC_OUT, arena.port, self.size, self.hop)

        def run_other(command: str, tty: str) -> list[str]:
            return fill(command, {**words, "tty": tty})

        others = [(name, partial(run_other, command)) for name, command in arena.against if "{tty}" in command]
        return [
            Entrant("edged", partial(self._round, arena, run_edged, says_ready=True)),
            Entrant("plain pyserial script", partial(self._round, arena, run_plain)),
            *(Entrant(name, partial(self._round, arena, command)) for name, command in others),
            *(Entrant(alone_name(rows), partial(alone, model, rows, self.hop)) for rows in ALONE_ROWS if not self.rate),
        ]

    def _round(self, arena: Arena, command: Callable[[str], list[str]], *, says_ready: bool = False) -> Sample:
        with (
            Load(arena.port, TOPIC_IN, TOPIC_OUT, b"", 0) as load,
            Sensor(self.fields) as sensor,
            Contestant(command(sensor.path), arena.folder, {}, says_ready=says_ready) as contestant,
        ):
            contestant.wait_until_opened(sensor.path, START_LIMIT_S)
            time.sleep(0.5)  # until it has set the port up and has its broker
            sensor.talk(self.size)
            load.count_answers(1)
            per_s = self._talk(sensor, load, 64 * self.hop)
            count = round(IDLE_S * self.rate) if self.rate else round(per_s * MEASURE_S / self.hop) * self.hop
            before, began = contestant.cpu_s(), time.monotonic()
            per_s = self._talk(sensor, load, count, self.rate)
            cost, took = contestant.cpu_s() - before, time.monotonic() - began
            return Sample(
                cost / took * 100 if self.rate else cost / count * 1e6,
                per_s,
                mib=contestant.resident_mib(),
                threads=contestant.threads(),
                ready_s=contestant.ready_s,
            )

    def _talk(self, sensor: Sensor, load: Load, lines: int, rate: float = 0) -> float:
        """Lines a second, from the order to talk to the last answer."""
        began = time.perf_counter()
        sensor.talk(lines, rate)
        load.count_answers(lines // self.hop)
        return lines / (time.perf_counter() - began)


JOBS: dict[str, MqttJob | SerialJob] = {
    "raw": MqttJob("MQTT: float32[64] -> MLP -> JSON, QoS 0, 64 in flight", "raw", 0, 64),
    "json": MqttJob("MQTT: JSON array of 64 -> MLP -> JSON, QoS 0, 64 in flight", "json", 0, 64),
    "qos1": MqttJob("MQTT: float32[64] -> MLP -> JSON, QoS 1 both ways, 32 in flight", "raw", 1, 32),
    "serial": SerialJob("Serial: CSV of 6, window 128, hop 64 -> CNN -> JSON, at full speed", 6, 128, 64),
    "idle": SerialJob("Idle: serial CSV of 64 at 10 lines a second -> MLP -> JSON", 64, 1, 1, rate=10),
}

Rounds = list[dict[str, Sample]]


def edged(config: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("edged")), "run", "-c", str(config)]


def render(name: str, folder: Path, words: dict[str, str]) -> Path:
    path = folder / name
    path.write_text(Template((HERE / name).read_text()).substitute(words))
    return path


def fill(command: str, words: dict[str, str]) -> list[str]:
    return [part.format(**words) for part in shlex.split(command)]


def alone_name(rows: int) -> str:
    return f"session alone, {rows} row{'s' * (rows > 1)} a run"


def alone(model: Path, rows: int, lines: int = 1) -> Sample:
    """`lines` of the job's unit make a row."""
    done = subprocess.run(python("alone", model, rows, ALONE_S), check=True, capture_output=True, text=True, cwd=REPO)
    return Sample(json.loads(done.stdout)["row_us"] / lines)


def race(job: MqttJob | SerialJob, arena: Arena, rounds: int, deadline: float) -> Rounds:
    """All contestants, one after another, again and again. One that fails is out, with its reason on stderr."""
    entrants = job.entrants(arena)
    out: set[str] = set()
    results: Rounds = []
    for _ in range(min(rounds, job.rounds_most or rounds)):
        if results and time.monotonic() > deadline:
            break
        result = {}
        for entrant in entrants:
            if entrant.name in out:
                continue
            try:
                result[entrant.name] = entrant.run()
            except (Lost, OSError, subprocess.CalledProcessError) as error:
                out.add(entrant.name)
                print(f"{entrant.name} is out of the job: {error}\n{last_words(arena.folder)}", file=sys.stderr)
        results.append(result)
    return results


def last_words(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return "\n".join((folder / LOG).read_text(errors="replace").splitlines()[-5:])
    return ""


def summary(results: Rounds) -> dict[str, dict[str, float]]:
    """By contestant: the medians, and `ratio`, edged's cost by its, the median of the rounds."""
    lines: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for result in results for name in result):
        samples = [asdict(result[name]) for result in results if name in result]
        line = {f.name: statistics.median(s[f.name] for s in samples) for f in fields(Sample) if samples[0][f.name] is not None}
        ratios = [r["edged"].cost / r[name].cost for r in results if name in r and "edged" in r and r[name].cost]
        lines[name] = {**line, "ratio": statistics.median(ratios)} if ratios else line
    return lines


def table(job: MqttJob | SerialJob, lines: dict[str, dict[str, float]]) -> Iterator[str]:
    columns = (("cost", job.unit, ".2f"), ("ratio", "edged/it", ".2f"), *COLUMNS)
    shown = [c for c in columns if any(c[0] in line for line in lines.values())]
    yield job.title
    yield f"  {'':30}" + "".join(f"{head:>{len(head) + 3}}" for _, head, _ in shown)
    for name, line in lines.items():
        cells = (f"{format(line[key], form) if key in line else '':>{len(head) + 3}}" for key, head, form in shown)
        yield f"  {name:30}" + "".join(cells).rstrip()
    yield ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="Races the daemon against bare loops on this machine.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each job (3)")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which, of " + ",".join(JOBS))
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--against", metavar="NAME=COMMAND", action="append", default=[], help="another contestant")
    arguments = parser.parse_args()
    if find_mosquitto() is None:
        parser.error("mosquitto is not installed: apt install mosquitto")
    deadline = time.monotonic() + RUN_LIMIT_S
    options = ("log_type none", "set_tcp_nodelay true", "max_queued_messages 0", "max_inflight_messages 0")
    report = {}
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as name, Broker(Path(name), *options) as broker:
        folder = Path(name)
        against = [tuple(a.split("=", 1)) for a in arguments.against]
        arena = Arena(broker.port, folder, write_mlp(folder / "mlp.onnx"), write_cnn(folder / "cnn.onnx"), against)
        for key in arguments.jobs.split(","):
            report[key] = summary(race(JOBS[key], arena, arguments.rounds, deadline))
            if not arguments.json:
                print("\n".join(table(JOBS[key], report[key])), flush=True)
    if arguments.json:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
        print(json.dumps({"machine": machine, "jobs": report}, indent=2))
    return 0 if all("edged" in lines for lines in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
