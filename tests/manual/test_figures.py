"""The page of figures, and the promises of the README, have the figures of the last release."""

from __future__ import annotations

from pathlib import Path

from tests.bench.page import PAGE, record, renewed, table

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_the_table_is_that_of_the_record() -> None:
    page = PAGE.read_text("utf-8")
    assert renewed(page, table(record())) == page, "python -m tests.bench.page writes it anew"


def test_the_promises_are_those_of_the_record() -> None:
    figures = record()["figures"]
    to_c = [value for key, value in figures.items() if key.endswith(".cost : C")]
    assert f"{min(to_c):.1f} to {max(to_c):.1f} times that of C" in README
    assert f"{figures['idle.cost']:.0f} % of a core at 10 Hz" in README
    assert f"{figures['raw.mib']:.0f} MiB resident" in README
    assert f"{figures['overload.growth_mib']:.1f} MiB more after ten times the load" in README
    assert figures["overload.best_share"] >= 0.95
