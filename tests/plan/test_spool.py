"""The plan of the spool: where it is, how large, and how long an outage it covers."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edged.plan.records import Machine
from edged.plan.report import plan_text
from edged.plan.spool import results_a_second
from edged.spool.settings import MEMORY_BYTES, SpoolSettings
from tests.support.planning import ACCEL, MACHINE, MAIN, MIB, PUMPS, Planned, planned

GIB = 1024 * MIB
P = '[pipeline.p]\nsource = "accel"\nwindow = { size = 100, hop = 10 }\n'
HERE: Machine = replace(MACHINE, state_dir=Path("/state"), disk_free=10 * GIB)


def plan(folder: Path, more: str = "", machine: Machine = HERE) -> Planned:
    return planned(folder, MAIN + ACCEL + PUMPS + P + more, machine)


def test_by_default(tmp_path: Path) -> None:
    planned_ = plan(tmp_path)
    assert planned_.whole.spool == SpoolSettings(Path("/state/spool"), 256 * MIB)
    assert {line.what: line.bytes for line in planned_.whole.memory}["spool"] == MEMORY_BYTES


@pytest.mark.parametrize(("free", "largest"), [(10 * GIB, 256 * MIB), (GIB, GIB // 10), (MIB, MIB), (0, MIB)])
def test_a_tenth_of_the_free_disk(tmp_path: Path, free: int, largest: int) -> None:
    spool = plan(tmp_path, machine=replace(HERE, disk_free=free)).whole.spool
    assert spool is not None
    assert spool.max_bytes == largest


def test_every_key(tmp_path: Path) -> None:
    more = '[spool]\nmode = "always"\npath = "kept"\nmax_bytes = "2MiB"\noverflow = "drop_newest"\n'
    more += 'order = "strict"\nreplay_rate = 50\n'
    assert plan(tmp_path, more).whole.spool == SpoolSettings(tmp_path / "kept", 2 * MIB, True, True, True, 50.0)


@pytest.mark.parametrize("more", ['[spool]\nmode = "off"\n', 'publish = { topic = "x", qos = 0 }\n'])
def test_none_where_nothing_would_go_there(tmp_path: Path, more: str) -> None:
    whole = plan(tmp_path, more).whole
    assert whole.spool is None
    assert "spool" not in {line.what for line in whole.memory}
    assert "while a broker is away" not in plan_text(whole)


def test_too_small_and_too_large(tmp_path: Path) -> None:
    assert plan(tmp_path, '[spool]\nmax_bytes = "1KiB"\n').lines[-1].endswith("1024 bytes are too few: at least 1MiB")
    large = plan(tmp_path, '[spool]\nmax_bytes = "20GiB"\n')
    assert large.whole.spool is not None
    assert large.lines[-1].endswith("20480 MiB, and 10240 MiB are free on that disk")


def test_says_how_long_an_outage_it_covers(tmp_path: Path) -> None:
    whole = plan(tmp_path).whole
    assert results_a_second(whole.pipelines, whole.sources) == 100
    assert "256 MiB in /state/spool: about 671088 results of 400 bytes, 112 min at 100 per second" in plan_text(whole)
    unknown = planned(tmp_path, MAIN + ACCEL.replace("rate = 1000\n", "") + P, HERE).whole
    assert results_a_second(unknown.pipelines, unknown.sources) is None
    assert "about 671088 results of 400 bytes\n" in plan_text(unknown)


def test_what_is_held_back_in_memory_alone_is_warned_of(tmp_path: Path) -> None:
    held = 'publish = [{ when = { min_interval = "1s" } }, { topic = "b", qos = 0, when = { min_interval = "1s" } }]\n'
    text = MAIN + ACCEL + '[pipeline.p]\nsource = "accel"\n' + held
    off = planned(tmp_path, text + '[spool]\nmode = "off"\n')
    (line,) = off.lines
    assert "pipeline.p.publish[0].when.min_interval: what it holds back is in memory alone, and a crash loses it" in line
    assert plan_text(off.whole).count("a crash loses the results that edged holds back") == 2
    on = planned(tmp_path, text)
    assert on.lines == []
    assert plan_text(on.whole).count("a crash loses the results that edged holds back") == 1  # at QoS 0
