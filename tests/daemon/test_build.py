"""What a plan is built of is imported before anything is taken over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.daemon import ROOT

TEXT = """
device = { id = "t", state_dir = "state" }
[broker.main]
url = "mqtt://127.0.0.1:1"
[spool]
mode = "always"
[port.relay]
port = "/dev/nowhere"
[source.lines]
type = "serial"
port = "/dev/nowhere/else"
baudrate = 9600
decode = { format = "nmea", fields = ["lat", "lon"] }
[source.json]
type = "mqtt"
topic = "in/json"
rate = 10
decode = { format = "json", fields = ["a", "b"], encoding = "hex", payload = "data" }
[source.influx]
type = "mqtt"
topic = "in/influx"
rate = 10
decode = { format = "influx", fields = ["c"] }
[model.far]
url = "http://127.0.0.1:1/answer"
protocol = "http"
[pipeline.joined]
source = ["json", "influx"]
align = { tolerance = "1s" }
output = "raw"
samples = { audit = "4/h", max_bytes = "1MiB" }
publish = { topic = "out/joined" }
[pipeline.asked]
source = "json"
model = "far"
publish = { topic = "out/asked" }
[behaviour.guard]
run = "guard.py:guard"
source = "json"
write = "relay"
"""
GUARD = """
async def guard(me):
    async for sample in me.samples("json"):
        await me.write("relay", b"STOP\\n")
"""
BUILT = """
import asyncio, sys
from pathlib import Path
import structlog
from edged.clock.clock import Clock
from edged.daemon.build import assemble, import_code
from edged.daemon.connect import connect
from edged.daemon.prepare import load, prepare

async def build():
    connect(assemble(plan, loaded, Clock(), structlog.get_logger("edged")))

plan, loaded = load(prepare(Path("edged.toml")))
planned = set(sys.modules)
import_code(plan)
before = set(sys.modules)
asyncio.run(build())
for names in (before - planned, set(sys.modules) - before):
    print(*sorted(name for name in names if name.startswith("edged.")))
"""


def test_assembling_a_plan_imports_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "edged.toml").write_text(TEXT)
    (tmp_path / "guard.py").write_text(GUARD)
    environ = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", BUILT], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, then = done.stdout.split("\n")[:2]
    assert {"edged.model.remote.runner", "edged.pipeline.align.aligner", "edged.spool.spool"} <= set(first.split())
    assert then == ""
