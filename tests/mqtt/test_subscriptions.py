from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from edged.mqtt.subscriptions import KnownFilters


def known(path: Path, owner: str = "edged-t") -> KnownFilters:
    return KnownFilters(path, owner, structlog.get_logger(), lambda work: work())


def test_it_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "state" / "main.json"
    one = known(path)
    assert one.filters == frozenset()
    one.add(["in/a", "in/b"])
    one.remove("in/a")
    assert known(path).filters == {"in/b"}
    assert known(path, "other").filters == frozenset()


def test_the_latest_is_what_stays(tmp_path: Path) -> None:
    path, late = tmp_path / "main.json", list[Any]()
    one = KnownFilters(path, "t", structlog.get_logger(), late.append)
    one.add(["in/a"])
    one.add(["in/b"])
    for work in reversed(late):
        work()
    assert known(path, "t").filters == {"in/a", "in/b"}


def of(*filters: object) -> str:
    return json.dumps({"client": "edged-t", "filters": filters})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "[" * 200_000, '{"client": "edged-t"}', '{"client": "edged-t", "filters": 3}', '{"client": 3, "filters": []}']
    + [of("in/b", bad) for bad in ("", "a/#/b", "a+", "a\0b", "\ud800", "x" * 65_536, 5, None, "{name}")],
    ids=range(16),
)
def test_what_cannot_be_read_is_forgotten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "main.json"
    path.write_text(text)
    one = known(path)
    with capture_logs() as logs:
        assert one.filters == frozenset()
        assert one.filters == frozenset()
    assert [(line["event"], line["lost"]) for line in logs] == [
        ("file_moved_aside", "which topics to unsubscribe from")
    ]  # said, and once
    one.add(["in/a"])
    assert known(path).filters == {"in/a"}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = known(tmp_path / "file" / "main.json")
    with capture_logs() as logs:
        one.add(["in/a"])
        one.add(["in/b"])
    assert one.filters == {"in/a", "in/b"}
    assert [line["event"] for line in logs] == ["subscriptions_not_noted"]  # once
