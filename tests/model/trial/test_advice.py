from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edged.config.load import read
from edged.model.manifest import read_manifest
from edged.model.records import LoadReport, ModelPlan
from edged.model.trial.advice import Batch, Measured, Pace, Way, advise, side_by_side, threads_to_try

TINY = Path(__file__).parents[3] / "models" / "tiny"


def way(
    us: float,
    provider: str = "cpu",
    threads: int = 1,
    run: str = "inline",
    batches: Mapping[int, float] | None = None,
    batch_max: int = 16,
) -> Way:
    """`us` for a row at any cadence that allows it; batches that pay as usual unless `batches` says otherwise."""
    timed = batches or {1: us, 2: us * 1.5, 4: us * 2.5, 8: us * 4.5, 16: us * 9, 32: us * 18}
    report = LoadReport("it", "", "0" * 64, provider, (), run, batch_max, (), us, us, 0, 0, 0, 0.1)
    paces = tuple(Pace(hz, 100, us, us * 1.2, 0.01) for hz in (10, 100, 1000) if us * hz < 800_000)
    rows = tuple(Batch(n, t) for n, t in timed.items())
    return Way(threads, report, 0, Measured((*paces, Pace(0, 100, us, us, 1.0)), rows, 100, us + 30, 0))


def plan(**settings: Any) -> ModelPlan:
    manifest, _ = read_manifest("it", TINY)
    assert manifest is not None
    return ModelPlan(manifest, {"x": (8,)}, **settings)


def said(usual: Way, *others: Way, cores: int = 4, **settings: Any) -> list[str]:
    return [a.line for a in advise(plan(**settings), usual, others, cores)]


def test_nothing_is_said_where_the_default_is_as_good() -> None:
    assert said(way(120), way(115, threads=2), way(110, threads=4)) == []


def test_a_provider_that_is_clearly_faster() -> None:
    assert said(way(900, "cuda"), way(120)) == ['providers = ["cpu"]']
    assert said(way(9000, run="inline"), way(900, "cuda", run="worker")) == ['providers = ["cuda", "cpu"]']
    assert said(way(130, "cuda"), way(120)) == []
    many = {n: 200.0 + n for n in (1, 2, 4, 8, 16)}
    assert said(way(200, "cuda", run="worker", batches=many), way(100)) == []  # for one row the CPU, for many the GPU


def test_threads_for_a_model_that_takes_its_time() -> None:
    slow: dict[str, Any] = {"run": "worker", "batches": {1: 1}}
    ways = way(30_000, **slow), way(17_000, threads=2, **slow), way(16_000, threads=4, **slow)
    assert said(*ways) == ["threads = 2"]
    assert said(*ways, cores=2) == []  # one core is for the rest
    assert said(way(300), way(150, threads=2)) == []  # waking the second one costs as much, on a bad day


def test_threads_that_were_configured_for_nothing() -> None:
    assert said(way(110, threads=4), way(120), way(115, threads=2), threads=4) == ["threads = 1"]


def test_a_thread_of_its_own_for_what_takes_long_at_its_cadence() -> None:
    assert said(way(4000, batches={1: 4000, 2: 7000}, batch_max=2)) == ['run = "worker"']
    assert said(way(50, run="worker", batch_max=1, batches={1: 50}), run="worker") == ['run = "inline"']


def test_batches() -> None:
    flat = {n: 100.0 * n for n in (1, 2, 4, 8, 16, 32, 64)}
    assert said(way(100, batches=flat)) == ["batch = { max = 1 }"]
    halved = {n: 500.0 + 10 * n for n in (1, 2, 4, 8, 16, 32, 64)}
    assert said(way(510, batches=halved)) == ["batch = { max = 64 }"]
    tiny = {n: t / 100 for n, t in halved.items()}
    assert said(way(5, batches=tiny)) == []  # there the interpreter is what takes its time
    too_long = {n: 2000.0 + 10 * n for n in (1, 2, 4, 8, 16, 32, 64)}
    assert said(way(1900, batches=too_long)) == []  # inline runs stay below 2 ms
    assert said(way(100, batches={1: 100.0}, batch_max=1)) == []


def test_a_model_too_slow_for_any_cadence() -> None:
    slow: dict[str, Any] = {"run": "worker", "batches": {1: 1}}
    assert said(way(2e6, **slow), way(1.9e6, threads=2, **slow)) == []


@pytest.mark.parametrize(
    ("usual", "others", "cores"),
    [
        (way(900, "cuda"), (way(120),), 4),
        (way(30_000, run="worker", batches={1: 1}), (way(9_000, threads=4, run="worker", batches={1: 1}),), 8),
        (way(4000, batches={1: 4000, 2: 7000}, batch_max=2), (), 1),
        (way(510, batches={n: 500.0 + 10 * n for n in (1, 2, 4, 8, 16, 32, 64)}), (), 1),
    ],
)
def test_the_lines_can_be_pasted(usual: Way, others: tuple[Way, ...], cores: int, tmp_path: Path) -> None:
    lines = [a.line for a in advise(plan(), usual, others, cores)]
    assert lines
    path = tmp_path / "edged.toml"
    path.write_text("\n".join(["[model.it]", f'path = "{TINY}"', *lines]) + "\n")
    assert [p.path for p in read(path).problems if not p.is_warning] == ["source"]


def test_how_many_threads_are_tried() -> None:
    assert threads_to_try(1) == [1]
    assert threads_to_try(2) == [1, 2]
    assert threads_to_try(6) == [1, 2, 4]
    assert threads_to_try(64) == [1, 2, 4, 8]


def test_threads_inside_or_models_beside() -> None:
    one, two = way(30_000, run="worker", batches={1: 1}), way(20_000, threads=2, run="worker", batches={1: 1})
    one = replace(one, measured=replace(one.measured, beside=1.9))
    text = "two such models at the same time do 1.90 times the runs of one; one model with two threads is 1.50 times as fast"
    assert side_by_side([one, two]) == text
    assert side_by_side([two]) == ""
    (advice,) = advise(plan(), one, [two], 4)
    assert advice.line == "threads = 2"
    assert advice.why.endswith("; beside another model keep 1: two models at the same time do 1.9 times the runs of one")
