"""The pages of devices are true: what a page says is sent gives what it says comes out, by the configuration that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli

import edged
from edged.cli import main
from tests.support.models import cells
from tests.support.pictures import RED, jpeg, pixels

FOLDER = Path(edged.__file__).parent / "manual" / "devices"
PAGES = sorted(FOLDER.glob("*.md"))
TITLE = "# "


def blocks(page: Path) -> tuple[str, str]:
    """The configuration of a page, and its tests."""
    config, tests = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return config, tests


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_device_sends_gives_what_the_page_says(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, tests = blocks(page)
    (tmp_path / "edged.toml").write_text(config, "utf-8")
    (tmp_path / "edged.test.toml").write_text(tests, "utf-8")
    if "models/site.onnx" in config:
        (tmp_path / "models").mkdir()
        cells(tmp_path / "models" / "site.onnx")
        (tmp_path / "snapshot.jpg").write_bytes(jpeg(pixels(64, 64, (8, 8, 16, 16, RED))))
    assert all("expect" in case for case in tomli.loads(tests)["test"])
    assert main(["test", "-c", str(tmp_path / "edged.toml")]) == 0, capsys.readouterr()


def test_every_page_is_on_the_list() -> None:
    listed = re.findall(r"^- `devices/([\w-]+)`: (.*)$", (FOLDER.parent / "devices.md").read_text("utf-8"), re.MULTILINE)
    titles = [(page.stem, page.read_text("utf-8").splitlines()[0].removeprefix(TITLE)) for page in PAGES]
    assert sorted(listed) == sorted(titles)
