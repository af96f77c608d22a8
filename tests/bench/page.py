"""The table of the manual's page of figures, from the record of the last release: `python -m tests.bench.page` writes it anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.bench.figures import find

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "edged" / "manual" / "figures.md"
BEGIN, END = "<!-- figures of the last release: begin -->", "<!-- end -->"


def record() -> Any:
    return json.loads((HERE / "figures.json").read_text("utf-8"))


def table(of: Mapping[str, Any]) -> Iterator[str]:
    """Lines of Markdown."""
    machine = of["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}"
    yield f"edged {of['version']}, {of['rounds']} rounds, medians; {where}; mosquitto on the same machine."
    yield ""
    yield "| job | edged | against | | edged : it |"
    yield "|---|---|---|---|---|"
    for one in find(of["jobs"]):
        figure = one.figure
        other = "" if one.other is None else f"{one.other:{figure.form}}"
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        yield f"| {figure.title} | {one.edged:{figure.form}} {figure.unit} | {figure.against} | {other} | {ratio} |".replace(
            "  ", " "
        )


def renewed(page: str, lines: Iterator[str]) -> str:
    """The page with this table in the place of its own."""
    before, _, rest = page.partition(BEGIN)
    return "\n".join([before + BEGIN, *lines, END + rest.partition(END)[2]])


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8"), table(record())), "utf-8")
