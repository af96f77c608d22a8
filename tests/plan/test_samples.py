"""What of the inputs must be at hand, what is refused, and what `check` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.plan.records import RootPlan, SamplesPlan
from edged.plan.report import plan_json, plan_text
from tests.support.planning import ACCEL, MAIN, MIB, PUMPS, Planned, planned

PIPELINE = """
[pipeline.p]
source = {source}
window = {{ size = {size} }}
samples = {{ {samples} }}
"""
KEPT = 'when = { of = "ax", above = 0.3 }, max_bytes = "64MiB"'


def made(folder: Path, samples: str = KEPT, source: str = '"accel"', size: int = 64, more: str = "", extra: str = "") -> Planned:
    text = PIPELINE.format(source=source, size=size, samples=samples)
    return planned(folder, MAIN + ACCEL + PUMPS + more + text + extra)


def samples(plan: Planned, name: str = "p") -> SamplesPlan:
    found = plan.whole.pipelines[name].samples
    assert found is not None
    return found


def test_of_a_port_as_many_samples_as_the_window_has(tmp_path: Path) -> None:
    found = samples(made(tmp_path, 'audit = "2/d", max_bytes = "64MiB"'))
    (root,) = found.roots
    assert root == RootPlan("accel", "", "serial", 64, root.max_bytes, ())
    assert root.max_bytes >= 64 * 1024
    assert found.when is None
    assert (found.limits[0].count, found.limits[0].period) == (6, 3600 * 10**9)


def test_of_many_sensors_those_that_the_topic_names(tmp_path: Path) -> None:
    plan = made(tmp_path, 'audit = "2/d", topic = "away/{device}/{pipeline}"', '"pumps"', 10)
    (root,) = samples(plan).roots
    assert (root.kind, root.rows, root.key_at) == ("mqtt", 10, ((0, 0), (1, 1)))
    assert samples(plan).topic == "away/pi4/p"


def test_of_a_chain_all_windows_on_the_way(tmp_path: Path) -> None:
    first = '[pipeline.first]\nsource = "accel"\nwindow = { size = 100, hop = 50 }\npublish = []\n[source.x]\n'
    more = first.replace("[source.x]\n", "")
    plan = made(tmp_path, 'audit = "2/d", max_bytes = "64MiB"', '"first"', 4, more)
    assert samples(plan).roots[0].rows == 3 * 50 + 100


def test_is_in_the_plan_of_memory(tmp_path: Path) -> None:
    found = made(tmp_path, 'audit = "2/d", max_bytes = "64MiB"', size=2048)
    line = next(line for line in found.whole.memory if line.what == "pipeline.p: samples")
    assert line.bytes >= 3 * samples(found).recent_bytes > 3 * 2048 * 3 * 8


def test_check_says_what_leaves_the_device(tmp_path: Path) -> None:
    out = plan_text(made(tmp_path, 'audit = "2/d", topic = "away/{device}"').whole)
    assert "2/d at random: recordings of source.accel, with what came in around them, leave this device: main: away/pi4" in out
    kept = made(tmp_path, 'audit = "2/d", max_bytes = "64MiB", labels = "labels/+"').whole
    out = plan_text(kept)
    assert "are kept in /var/lib/edged/samples/p, at most 64 MiB" in out
    assert "labels of those come from main: labels/+" in out
    assert "leave this device" not in out
    facts = plan_json(kept)["pipelines"]["p"]["samples"]
    assert facts["leaves"] is None
    assert facts["kept"] == {"path": "/var/lib/edged/samples/p", "max_bytes": 64 * MIB}


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ('max_bytes = "1MiB"', 'samples.when: required, such as when = { below = 0.6 }; or audit, such as "2/d"'),
        ('audit = "2/d"', 'samples.max_bytes: required, such as "64MiB", to keep them on disk; or topic, to publish them'),
        ('audit = "2/d", topic = "t", max_bytes = "1MiB"', "samples.topic: they are published (topic) or kept (max_bytes)"),
        ('audit = "2/d", topic = "t", labels = "l"', "samples.labels: has no effect where nothing is kept"),
        ('audit = "2/d", limit = "6/h", max_bytes = "1MiB"', "samples.limit: has no effect without when"),
        ('audit = "2/d", max_bytes = "1MiB", rate = "6/h"', "samples.rate: unknown key"),
        ('audit = "often", max_bytes = "1MiB"', 'samples.audit: expected '),
        ('when = { of = "b", above = 1 }, max_bytes = "1MiB"', 'samples.when: above and below: expected a number field'),
        ('audit = "2/d", topic = "plant/1/2/telemetry"', "samples.topic: plant/1/2/telemetry is read by source.pumps"),
        ('audit = "2/d", topic = "away/{key}"', "samples.topic: {key}"),
        ('audit = "2/d", topic = "t", broker = "other"', 'samples.broker: expected the name of a broker, found "other"'),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, samples: str, why: str) -> None:
    found = made(tmp_path, samples)
    assert any(why in line for line in found.lines), found.lines


def test_a_recording_has_no_samples_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("1,2\n")
    replay = '[source.r]\ntype = "replay"\npath = "r.csv"\nrate = 10\ndecode = { format = "csv", fields = ["a", "b"] }\n'
    found = made(tmp_path, 'audit = "2/d", max_bytes = "1MiB"', '"r"', more=replay)
    assert any("source.r is of type replay: only what sensors send is recorded" in line for line in found.lines), found.lines


def test_too_much_to_be_at_hand_is_said(tmp_path: Path) -> None:
    found = made(tmp_path, 'audit = "2/d", max_bytes = "64MiB"', size=65536)
    assert found.plan is not None
    assert any("65536 samples of source.accel may be some" in line for line in found.lines), found.lines
    assert samples(found).recent_bytes == 4 * MIB
