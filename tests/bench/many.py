"""Many of everything: what a daemon costs that has 300 serial ports, 500 pipelines, 200 subscriptions and 5,000 keys.

    python -m tests.bench.many [--json FILE] [--seconds 20] [--rounds 3]       # or: make many

The ports are pseudo-terminals of a process of its own, each of which says a line ten times per second. Two daemons, one after the
other: `ports` has these alone, `all` has everything. `switch` is what a reload does on the loop. Medians of the rounds; of what
holds the loop the worst.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from edged.clock.clock import Clock
from edged.daemon.build import assemble
from edged.daemon.connect import connect
from edged.daemon.control import ask
from edged.daemon.prepare import load, prepare
from edged.plan.change import compare, with_kept
from edged.system.garbage import Garbage
from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon
from tests.support.pause import pause

PORTS, RATE, SUBSCRIPTIONS, KEYS = 300, 10, 200, 5000
PIPELINES = 500
TICKS = 50
"""Of the sensors, per second: at each of them so many of the ports say a line as make their rate."""
BASE = """
[device]
id = "t"
[memory]
budget = "1GiB"
[health]
interval = "5s"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[model.m]
path = "{folder}/m.onnx"
"""
PORT = """
[source.s{n}]
type = "serial"
port = "{folder}/tty{n}"
rate = {rate}
decode = {{ format = "csv", fields = ["ax", "ay", "az"] }}
[pipeline.p{n}]
source = "s{n}"
window = {{ size = 64, hop = 32 }}
preprocess = "steps.py:mean"
model = "m"
publish = {{ topic = "out/s/{n}", qos = 0 }}
"""
SUBSCRIPTION = """
[source.q{n}]
type = "mqtt"
topic = "in/{n}"
decode = {{ format = "json", fields = ["ax", "ay", "az"] }}
[pipeline.r{n}]
source = "q{n}"
model = "m"
publish = {{ topic = "out/q/{n}", qos = 0 }}
"""
KEYED = """
[source.k]
type = "mqtt"
topic = "keyed/{{sensor}}"
max_keys = {keys}
stale_after = "1h"
decode = {{ format = "json", fields = ["ax", "ay", "az"] }}
[pipeline.keyed]
source = "k"
model = "m"
publish = {{ topic = "out/k/{{sensor}}", qos = 0 }}
"""
STEPS = """
import numpy as np


def mean(window):
    return window.mean(axis=0)
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """`reach`: at most."""

    title: str
    unit: str
    reach: float | None = None


FIGURES = {
    "ports.cpu": Figure(f"{PORTS} ports at {RATE} lines per second", "% of a core", 20.0),
    "ports.p99": Figure("  loop lag, 99th percentile", "ms"),
    "ports.start": Figure("  from exec to READY", "s"),
    "ports.memory": Figure("  memory, of the plan", "%", 100.0),
    "all.start": Figure(f"{PORTS} ports, {PIPELINES} pipelines, {SUBSCRIPTIONS} subscriptions, {KEYS} keys: to READY", "s"),
    "all.cpu": Figure("  the ports, and 200 messages per second", "% of a core"),
    "all.p99": Figure("  loop lag, 99th percentile", "ms"),
    "all.reload": Figure("  a reload of one edit", "s"),
    "all.late": Figure("  meanwhile the loop is late by", "ms"),
    "switch.held": Figure("  holds the loop for, in processor time", "ms", 20.0),
    "switch.collect": Figure("  and then, for what is garbage since", "ms"),
    "all.resident": Figure("  memory in use", "MiB"),
    "all.memory": Figure("  memory, of the plan", "%", 100.0),
}


def sensors(folder: Path, count: int) -> None:
    """The process of the sensors: until its input ends."""
    ends = []
    for n in range(count):
        master, slave = os.openpty()
        tty.setraw(slave)
        (folder / f"tty{n}").symlink_to(os.ttyname(slave))
        os.set_blocking(master, False)
        ends.append(master)
    print("ready", flush=True)
    os.set_blocking(0, False)
    each, begun, tick = TICKS // RATE, time.monotonic(), 0
    while True:
        for master in ends[tick % each :: each]:
            try:
                os.write(master, b"%d.5,-1.25,9.81\n" % (tick % 1000))
            except BlockingIOError:  # nobody reads it yet
                os.read(master, 0)
        tick += 1
        pause(max(0.0, begun + tick / TICKS - time.monotonic()), "the pace of sensors")
        try:
            if os.read(0, 1) == b"":
                return
        except BlockingIOError:
            pass


@contextmanager
def ports(folder: Path, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.many", "--sensors", str(folder), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(10)


def config(folder: Path, port: int, is_all: bool) -> str:
    parts = [BASE.format(port=port, folder=folder)]
    parts += [PORT.format(n=n, folder=folder, rate=RATE) for n in range(PORTS)]
    if is_all:
        parts += [SUBSCRIPTION.format(n=n) for n in range(SUBSCRIPTIONS - 1)]
        parts.append(KEYED.format(keys=KEYS))
    return "".join(parts)


@contextmanager
def running(folder: Path, text: str) -> Iterator[Daemon]:
    daemon = Daemon(folder, text)
    daemon.start(120.0)
    try:
        yield daemon
    finally:
        daemon.stop(60.0)


def measure(folder: Path, broker: Broker, seconds: float, is_all: bool) -> dict[str, float]:
    text = config(folder, broker.port, is_all)
    begun = time.monotonic()
    with Client(broker.port, "edged/#", "out/s/0") as client, running(folder, text) as daemon:
        found = {"start": time.monotonic() - begun}
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected", limit_s=60)
        if is_all:
            for n in range(KEYS):
                client.publish(f"keyed/k{n}", '{"ax":1,"ay":2,"az":3}', qos=0)
            client.health(lambda h: h["sources"]["k"]["keys"] == KEYS, limit_s=60)
        before = next_health(client)
        end = time.monotonic() + seconds
        n = 0
        while time.monotonic() < end:
            if is_all:
                client.publish(f"in/{n % (SUBSCRIPTIONS - 1)}", '{"ax":1,"ay":2,"az":3}', qos=0)
                n += 1
            pause(1 / 200, "the pace of messages")
        after = next_health(client)
        lines = sum(after["sources"][f"s{n}"]["rows"] - before["sources"][f"s{n}"]["rows"] for n in range(PORTS))
        passed = after["uptime_s"] - before["uptime_s"]
        assert lines > 0.9 * PORTS * RATE * passed, f"{lines} lines in {passed:.1f} s: the sensors, or the daemon, do not keep up"
        found["cpu"] = 100 * (after["cpu_s"] - before["cpu_s"]) / passed
        found["p99"] = after["loop_lag"]["p99_ms"]
        if is_all:
            found |= reload(client, daemon, text)
        memory = after["memory"]
        found["resident"] = memory["resident_mib"]
        found["memory"] = 100 * memory["highest_mib"] / memory["planned_mib"]
    return found


def reload(client: Client, daemon: Daemon, text: str) -> dict[str, float]:
    """What one edit costs: the topic of one pipeline."""
    next_health(client)
    begun = time.monotonic()
    daemon.config.write_text(text.replace('"out/s/7"', '"out/s/seven"'))
    answer = ask(daemon.config, {"command": "reload", "wait": True})
    took = time.monotonic() - begun
    assert "pipeline.p7" in " ".join(answer["changed"]), answer
    late = [next_health(client)["loop_lag"]["max_ms"] for _ in range(2)]
    return {"reload": took, "late": max(late)}


def switch(folder: Path) -> dict[str, float]:
    """What a reload does on the loop, done here, in processor time: a busy machine makes everything late."""
    path = folder / "edged.toml"
    path.write_text(config(folder, 1883, True))
    plan, loaded = load(prepare(path))
    path.write_text(path.read_text().replace('"out/s/7"', '"out/s/seven"'))
    after = with_kept(plan, prepare(path).plan)

    async def go_over() -> dict[str, float]:
        garbage, clock, log = Garbage(), Clock(), structlog.get_logger("edged")
        running = assemble(plan, loaded, clock, log)
        connect(running)
        garbage.set_aside()
        begun = time.thread_time()
        assert compare(plan, after).changed == ("pipeline.p7: publish[0]",)
        connect(assemble(after, loaded, clock, log, running), running)
        done = time.thread_time()
        garbage.collect(is_large=False)
        return {"held": 1e3 * (done - begun), "collect": 1e3 * (time.thread_time() - done)}

    return asyncio.run(go_over())


def next_health(client: Client) -> dict[str, Any]:
    last = client.health(lambda h: True)["uptime_s"]
    found: dict[str, Any] = client.health(lambda h: h["uptime_s"] > last, limit_s=30)
    return found


def table(found: dict[str, float]) -> Iterator[str]:
    yield f"{'':64} {'found':>9}  {'at most':>8}"
    for key, figure in FIGURES.items():
        reach = "" if figure.reach is None else f"{figure.reach:g}"
        value = found[key]
        said = "" if figure.reach is None else "ok" if value <= figure.reach else "not reached"
        yield f"{figure.title:64} {value:9.1f}  {reach:>8}  {figure.unit} {said}".rstrip()


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {
        key: (max if key.endswith(("held", "late")) else statistics.median)([one[key] for one in rounds]) for key in rounds[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sensors", nargs=2)
    a = parser.parse_args()
    if a.sensors:
        return sensors(Path(a.sensors[0]), int(a.sensors[1]))
    rounds = []
    for _ in range(a.rounds):
        found: dict[str, float] = {}
        for job in ("ports", "all", "switch"):
            with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker, ports(Path(name), PORTS):
                folder = Path(name)
                models.linear(folder / "m.onnx")
                (folder / "steps.py").write_text(STEPS)
                figures = switch(folder) if job == "switch" else measure(folder, broker, a.seconds, job == "all")
                print(job, {key: round(value, 2) for key, value in figures.items()}, file=sys.stderr, flush=True)
                found |= {f"{job}.{key}": value for key, value in figures.items() if f"{job}.{key}" in FIGURES}
        rounds.append(found)
    whole = summary(rounds)
    print("\n".join(table(whole)))
    if a.json is not None:
        a.json.write_text(json.dumps({"figures": whole, "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
