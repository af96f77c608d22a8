from __future__ import annotations

from edged.config import reference


def test_the_page_is_that_of_the_schema() -> None:
    assert reference.PAGE.read_text("utf-8") == reference.page(), (
        "run: python -m edged.config.reference > edged/config/REFERENCE.md"
    )


def test_every_row_has_four_cells() -> None:
    rows = [line for line in reference.page().splitlines() if line.startswith("|")]
    assert all(row.count(" | ") == 3 or row == "|---|---|---|---|" for row in rows)
    assert len(rows) > 120
