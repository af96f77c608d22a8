"""The jobs of the bench: who runs in each, and how one round of one contestant is measured.

`cost` is processor time of the process under test alone, of all its threads in user and system mode, in the job's unit.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from string import Template
from typing import Protocol

import numpy as np

from tests.bench.contestant import LOG, REPO, Contestant, python
from tests.bench.floors import Floors
from tests.bench.load import Load, Lost
from tests.bench.nets import CLASSES, MLP_INPUT, WINDOW_INPUT, write_cnn, write_mlp
from tests.bench.overload import DEADLINE_MS, overload
from tests.bench.sensor import Sensor

HERE = Path(__file__).parent
EDGED, C, PLAIN, ONE_KEY = "edged", "C", "plain script", "edged, one key"
TOPIC_IN = "bench/in"
TOPIC_OUT = "bench/out"
KEYS = 1000
MEASURE_S = 1.5  # a load is as long as a short one before it says that this takes
ALONE = 2000
"""Requests one at a time."""
SESSION_S = 0.4
SESSION_ROWS = (1, 16)
IDLE_S = 10.0
START_LIMIT_S = 15.0

Sample = dict[str, float]
"""What one round of one contestant gave, by column."""
FAILURES = (Lost, OSError, subprocess.CalledProcessError, AssertionError)
"""What puts a contestant out of a job."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contestant of one job: what it is called, and how a round of it is run."""

    name: str
    run: Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Arena:
    """Where all jobs take place. `against` are further contestants, by name and command."""

    port: int
    folder: Path
    floors: Floors
    against: Sequence[tuple[str, str]] = ()
    mlp: Path = field(init=False)
    windowed: Path = field(init=False)
    cnn: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mlp", write_mlp(self.folder / "mlp.onnx"))
        object.__setattr__(self, "windowed", write_mlp(self.folder / "windowed.onnx", WINDOW_INPUT))
        object.__setattr__(self, "cnn", write_cnn(self.folder / "cnn.onnx"))


class Job(Protocol):
    """One job. `rounds_max`: more rounds would say no more."""

    @property
    def title(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def rounds_max(self) -> int | None: ...
    def entrants(self, arena: Arena) -> list[Entrant]: ...


@dataclass(frozen=True, slots=True)
class MqttJob:
    """64 numbers a message, with many in flight, then one at a time."""

    title: str
    form: str
    qos: int
    in_flight: int

    unit = "us an answer"
    rounds_max = None

    def entrants(self, arena: Arena) -> list[Entrant]:
        decodes = {
            "raw": '{ format = "raw", dtype = "float32", shape = [64] }',
            "json": '{ format = "json", fields = ["x"], shape = [64] }',
        }
        words = _words(arena, model=arena.mlp, topic_in=TOPIC_IN, form=self.form, qos=self.qos, window="")
        config = _render("mqtt.toml", arena.folder, {**words, "decode": decodes[self.form]})
        plain = python("plain_mqtt", arena.mlp, TOPIC_IN, TOPIC_OUT, arena.port, self.qos, self.form)
        others = [(name, _fill(command, words)) for name, command in arena.against if "{tty}" not in command]
        if arena.floors.mqtt is not None:
            sizes = (*MLP_INPUT, CLASSES)
            floor = [arena.floors.mqtt, arena.mlp, TOPIC_IN, TOPIC_OUT, arena.port, *sizes, self.form, self.qos]
            others.insert(0, (C, [str(part) for part in floor]))
        return [
            Entrant(EDGED, partial(self._round, arena, _edged(config), says_ready=True)),
            Entrant(PLAIN, partial(self._round, arena, plain)),
            *(Entrant(name, partial(self._round, arena, command)) for name, command in others),
            *(Entrant(_session_name(rows), partial(_session_alone, arena.mlp, rows)) for rows in SESSION_ROWS),
        ]

    def _round(self, arena: Arena, command: list[str], *, says_ready: bool = False) -> Sample:
        with (
            Load(arena.port, [TOPIC_IN], TOPIC_OUT, _payload(self.form), self.qos) as load,
            Contestant(command, arena.folder, says_ready=says_ready) as contestant,
        ):
            load.wait_until_answered(START_LIMIT_S)
            found = _under_load(load, contestant, self.in_flight)
            before = contestant.cpu_s()
            alone = load.drive(ALONE, 1)
            found |= {
                "alone_us": (contestant.cpu_s() - before) / ALONE * 1e6,
                "p50_us": alone.p50_us,
                "p99_us": alone.p99_us,
            }
            return found | _at_the_end(contestant)


@dataclass(frozen=True, slots=True)
class KeysJob:
    """A window of four samples of 16 numbers, an answer a message: of `KEYS` keys in turn, and of one."""

    title: str

    unit = "us an answer"
    rounds_max = None

    def entrants(self, arena: Arena) -> list[Entrant]:
        return [Entrant(EDGED, partial(self._round, arena, KEYS)), Entrant(ONE_KEY, partial(self._round, arena, 1))]

    def _round(self, arena: Arena, keys: int) -> Sample:
        decode = f'{{ format = "raw", dtype = "float32", shape = [{WINDOW_INPUT[1]}] }}'
        words = _words(arena, model=arena.windowed, topic_in=f"{TOPIC_IN}/{{sensor}}", qos=0, decode=decode)
        words["decode"] += f"\nmax_keys = {KEYS}"
        words["topic_out"] = f"{TOPIC_OUT}/{{sensor}}"
        words["window"] = f"window = {{ size = {WINDOW_INPUT[0]}, hop = 1 }}"
        config = _render("mqtt.toml", arena.folder, words)
        payload = _payload("raw")[: 4 * WINDOW_INPUT[1]]
        topics = [f"{TOPIC_IN}/{i:04}" for i in range(keys)]
        with (
            Load(arena.port, topics, f"{TOPIC_OUT}/+", payload, 0) as load,
            Contestant(_edged(config), arena.folder, says_ready=True) as contestant,
        ):
            load.wait_until_answered(START_LIMIT_S)
            return _under_load(load, contestant, 64) | _at_the_end(contestant)


@dataclass(frozen=True, slots=True)
class SerialJob:
    """Lines of `fields` numbers, an answer every `hop` of them; at full speed, or at `rate` lines per second."""

    title: str
    fields: int
    size: int
    hop: int
    rate: float = 0

    @property
    def unit(self) -> str:
        return "% of a core" if self.rate else "us a line"

    @property
    def rounds_max(self) -> int | None:
        return 1 if self.rate else None

    def entrants(self, arena: Arena) -> list[Entrant]:
        model = arena.cnn if self.size > 1 else arena.mlp
        names = json.dumps([f"f{i}" for i in range(self.fields)])
        window = f"window = {{ size = {self.size}, hop = {self.hop} }}" if self.size > 1 else ""
        words = _words(arena, model=model, fields=self.fields, size=self.size, hop=self.hop)

        def run_edged(tty: str) -> list[str]:
            return _edged(_render("serial.toml", arena.folder, {**words, "tty": tty, "fields": names, "window": window}))

        def run_plain(tty: str) -> list[str]:
            return python("plain_serial", model, tty, TOPIC_OUT, arena.port, self.size, self.hop)

        def run_floor(tty: str) -> list[str]:
            sizes = (self.fields, self.size, self.hop, CLASSES)
            return [str(part) for part in (arena.floors.serial, model, tty, TOPIC_OUT, arena.port, *sizes)]

        def run_other(command: str, tty: str) -> list[str]:
            return _fill(command, {**words, "tty": tty})

        others = [(name, partial(run_other, command)) for name, command in arena.against if "{tty}" in command]
        if arena.floors.serial is not None and self.size > 1:
            others.insert(0, (C, run_floor))  # type: ignore[arg-type]
        return [
            Entrant(EDGED, partial(self._round, arena, run_edged, says_ready=True)),
            Entrant(PLAIN, partial(self._round, arena, run_plain)),
            *(Entrant(name, partial(self._round, arena, command)) for name, command in others),
            *(Entrant(_session_name(n), partial(_session_alone, model, n, self.hop)) for n in SESSION_ROWS if not self.rate),
        ]

    def _round(self, arena: Arena, command: Callable[[str], list[str]], *, says_ready: bool = False) -> Sample:
        with (
            Load(arena.port, [TOPIC_IN], TOPIC_OUT, b"", 0) as load,
            Sensor(self.fields) as sensor,
            Contestant(command(sensor.path), arena.folder, says_ready=says_ready) as contestant,
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
            cost = cost / took * 100 if self.rate else cost / count * 1e6
            return {"cost": cost, "per_s": per_s} | _at_the_end(contestant)

    def _talk(self, sensor: Sensor, load: Load, lines: int, rate: float = 0) -> float:
        """Lines per second, from the order to talk to the last answer."""
        began = time.perf_counter()
        sensor.talk(lines, rate)
        load.count_answers(lines // self.hop)
        return lines / (time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class OverloadJob:
    """A model of some milliseconds a run, at the pace that it can take and at ten times that."""

    title: str

    unit = ""
    rounds_max = None

    def entrants(self, arena: Arena) -> list[Entrant]:
        return [Entrant(EDGED, partial(overload, arena.folder))]


JOBS: dict[str, Job] = {
    "raw": MqttJob("MQTT: float32[64] -> MLP -> JSON, QoS 0, 64 in flight", "raw", 0, 64),
    "json": MqttJob("MQTT: JSON array of 64 -> MLP -> JSON, QoS 0, 64 in flight", "json", 0, 64),
    "qos1": MqttJob("MQTT: float32[64] -> MLP -> JSON, QoS 1 both ways, 32 in flight", "raw", 1, 32),
    "serial": SerialJob("Serial: CSV of 6, window 128, hop 64 -> CNN -> JSON, at full speed", 6, 128, 64),
    "keys": KeysJob(f"MQTT: float32[16], {KEYS:,} keys, a window of 4 a key -> MLP -> JSON, 64 in flight"),
    "idle": SerialJob("Idle: serial CSV of 64 at 10 lines per second -> MLP -> JSON", 64, 1, 1, rate=10),
    "overload": OverloadJob(f"Overload: ten times what the model takes, deadline {DEADLINE_MS} ms"),
}


def last_words(folder: Path) -> str:
    """The end of the log of whoever ran last."""
    with contextlib.suppress(OSError):
        return "\n".join((folder / LOG).read_text(errors="replace").splitlines()[-5:])
    return ""


def _under_load(load: Load, contestant: Contestant, in_flight: int) -> Sample:
    count = round(load.drive(1500, in_flight).per_s * MEASURE_S)
    before = contestant.cpu_s()
    full = load.drive(count, in_flight)
    return {"cost": (contestant.cpu_s() - before) / count * 1e6, "per_s": full.per_s}


def _at_the_end(contestant: Contestant) -> Sample:
    found = {"mib": contestant.resident_mib(), "threads": float(contestant.threads())}
    return found if contestant.ready_s is None else {**found, "ready_s": contestant.ready_s}


def _payload(form: str) -> bytes:
    x = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    return x.tobytes() if form == "raw" else json.dumps({"x": [round(float(v), 4) for v in x]}).encode()


def _edged(config: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("edged")), "run", "-c", str(config)]


def _words(arena: Arena, **words: object) -> dict[str, str]:
    return {"port": str(arena.port), "topic_out": TOPIC_OUT, **{name: str(word) for name, word in words.items()}}


def _render(name: str, folder: Path, words: Mapping[str, str]) -> Path:
    path = folder / name
    path.write_text(Template((HERE / name).read_text()).substitute(words))
    return path


def _fill(command: str, words: Mapping[str, str]) -> list[str]:
    return [part.format(**words) for part in shlex.split(command)]


def _session_name(rows: int) -> str:
    return f"session alone, {rows} row{'s' * (rows > 1)} a run"


def _session_alone(model: Path, rows: int, lines: int = 1) -> Sample:
    """`lines` of the job's unit make a row."""
    done = subprocess.run(python("alone", model, rows, SESSION_S), check=True, capture_output=True, text=True, cwd=REPO)
    return {"cost": json.loads(done.stdout)["row_us"] / lines}
