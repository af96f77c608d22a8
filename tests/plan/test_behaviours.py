"""Behaviours in a configuration: what is planned, and every mistake with its place and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.cli import main
from edged.clock.caps import REMEMBERED
from edged.config.load import read
from edged.notation.units import H, S
from edged.plan.change import compare
from edged.plan.make import make_plan
from edged.plan.records import Machine, Plan
from edged.plan.report import plan_json, plan_text
from edged.records import Cap

CONFIG = """
[broker.main]
url = "mqtt://localhost"
[port.relay]
port = "/dev/ttyUSB9"
[source.vib]
type = "mqtt"
topic = "plant/{pump}/{part}/vib"
max_keys = 1000
decode = { format = "json", fields = ["rms"] }
[source.line]
type = "serial"
port = "/dev/ttyUSB8"
decode = { format = "csv", fields = ["a"] }
[pipeline.score]
source = "vib"
publish = []
[pipeline.windows]
source = "vib"
window = { size = 4 }
publish = []
[behaviour.guard]
run = "b.py:guard"
"""
CODE = """
async def guard(me):
    pass

async def other(me):
    return 1

def plain(me):
    pass
"""
MACHINE = Machine("vm", 4 << 30, 50 << 20, disk_free=1 << 30)


def planned(folder: Path, more: str, code: str = CODE, config: str = CONFIG) -> Plan:
    (folder / "b.py").write_text(code)
    (folder / "edged.toml").write_text(config + more)
    draft = read(folder / "edged.toml")
    plan, problems = make_plan(draft.config, {}, MACHINE)
    wrong = [p for p in (*draft.problems, *problems) if not p.is_warning]
    assert not wrong, wrong
    assert plan is not None
    return plan


def test_what_it_may_touch_and_what_it_takes(tmp_path: Path) -> None:
    more = """per = "key"
source = ["score", "vib"]
publish = ["plant/{key}/alarm", "R/+/x"]
write = ["relay", "line"]
ask = "score"
limit = ["10/s", "60/h"]
inbox = 8
on_end = [{ write = "relay", data = "OFF" }, { topic = "x/{key}", value = { a = [1] }, retain = true }]
"""
    plan = planned(tmp_path, more)
    b = plan.behaviours["guard"]
    assert (b.per_key, b.instances, b.inbox, b.overflow, b.limits) == (True, 1000, 8, "drop_oldest", (Cap(10, S), Cap(60, H)))
    assert [(h.stream, h.is_source) for h in b.hears] == [("score", False), ("vib", True)]
    assert b.publish[0].match("plant/p1/bearing/alarm") == ("p1", "bearing")
    assert b.publish[1].match("R/any/x") == ()
    assert [line.bytes for line in plan.memory if line.what == "behaviour.guard"] == [
        1000 * (10 * 1024 + b.waiting_bytes + 60 * REMEMBERED)
    ]
    assert plan.spool is not None  # it may publish at QoS 1, and nobody else does
    assert set(plan.ports) == {"relay"}  # which nobody reads
    text = plan_text(plan)
    for line in (
        "behaviour.guard: b.py:guard, one for each of up to 1000 keys",
        "  reads score, vib; 8 wait, then the oldest is dropped, and a crash loses what waits",
        "  asks pipeline.score",
        "  may publish to main: plant/{key}/alarm, R/+/x, at most 10/s and 60/h",
        "  may write to relay, line",
        "  when it ends relay gets 'OFF'",
    ):
        assert line in text.splitlines(), text
    assert plan_json(plan)["behaviours"]["guard"]["write"] == ["relay", "line"]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ('write = "relais"', 'guard.write: expected a [port.NAME] or a serial source, found "relais"; did you mean "relay"?'),
        ('write = "vib"', 'guard.write: expected a [port.NAME] or a serial source, found "vib"'),
        ('source = "scor"', 'guard.source: expected the name of a source or pipeline, found "scor"; did you mean "score"?'),
        ('ask = "vib"', 'guard.ask: expected the name of a pipeline, found "vib"'),
        ('ask = "windows"', "guard.ask: pipeline.windows has a window, so that one row has no result of its own"),
        ('per = "key"', "guard.per: an instance is made with the first row of its key"),
        ('per = "key"\nsource = "line"', "guard.source: line has no keys"),
        ('publish = "a/{key}"', "guard.publish: there is one instance for all keys, so {key} is nobody"),
        ('publish = "a/b+"', 'guard.publish: "b+": + and # stand for whole levels'),
        ("inbox = 4", "guard.inbox: has no effect without source"),
        ('source = "vib"\noverflow = "block"', 'guard.overflow: expected one of "drop_oldest" "latest_only", found "block"'),
        ("on_end = {}", "guard.on_end"),
        ('on_end = { topic = "a" }', "guard.on_end.value: required with topic"),
        ('on_end = { write = "relay", data = "x", retain = true }', "guard.on_end.retain: has no effect with write"),
        ('on_end = { write = "fan", data = "x" }', 'guard.on_end.write: expected a [port.NAME] or a serial source, found "fan"'),
        ('on_end = { topic = "a", value = 1, write = "relay" }', "expected topic (with value) or write (with data), found both"),
        ('source = "ask"', 'guard.source: expected the name of a source or pipeline, found "ask"'),
        ('[pipeline.q]\nsource = "ask"', 'pipeline.q.source: source = "ask" needs the fields that are given'),
        ('[behaviour.x]\nrun = "b.py:plain"', "x.run: "),
        ('[behaviour.x]\nrun = "b.py:nobody"', "there is no function nobody; there are: guard, other, plain"),
        ('[behaviour.x]\nrun = "b.py"', 'x.run: expected "file.py:function"'),
        ('[behaviour.x]\nrum = "b.py:guard"', 'x.rum: unknown key; did you mean "run"?'),
    ],
)
def test_mistakes_are_named_with_their_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, wanted: str) -> None:
    (tmp_path / "b.py").write_text(CODE)
    (tmp_path / "edged.toml").write_text(CONFIG + more)
    assert main(["check", "-c", str(tmp_path / "edged.toml")]) == 78
    errors = capsys.readouterr().err
    assert wanted in errors
    assert "Traceback" not in errors


def test_a_reload_keeps_those_whose_code_and_table_did_not_change(tmp_path: Path) -> None:
    more = '[behaviour.other]\nrun = "b.py:other"\n'
    old = planned(tmp_path, more)
    change = compare(old, planned(tmp_path, more, CODE.replace("return 1", "return 2")))
    assert change.changed == ("behaviour.other: code",)
    assert "behaviour.guard" in change.kept
    change = compare(old, planned(tmp_path, more + 'write = "relay"\n'))
    assert change.changed == ("behaviour.other: settings",)
    assert "port.relay" in change.added
    change = compare(old, planned(tmp_path, ""))
    assert change.removed == ("behaviour.other",)


def test_a_file_with_nothing_but_a_behaviour_runs(tmp_path: Path) -> None:
    config = '[broker.main]\nurl = "mqtt://localhost"\n[behaviour.guard]\nrun = "b.py:guard"\npublish = "R/+/keepalive"\n'
    assert planned(tmp_path, "", config=config).behaviours["guard"].instances == 1


def test_a_pipeline_that_is_asked_has_a_source_of_its_own(tmp_path: Path) -> None:
    plan = planned(tmp_path, '[source.q]\ntype = "ask"\nfields = ["a", "b"]\n[pipeline.p]\nsource = "q"\npublish = []\n')
    assert [f.name for f in plan.pipelines["p"].fields] == ["a", "b"]
    assert not plan.sources["q"].learns_pace
