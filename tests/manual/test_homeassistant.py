"""The page about Home Assistant shows what edged says and takes."""

from __future__ import annotations

import re
from pathlib import Path

import edged
from edged.plan.report import plan_text
from tests.support.models import linear
from tests.support.planning import planned

PAGE = (Path(edged.__file__).parent / "manual" / "homeassistant.md").read_text("utf-8")


def test_what_the_page_says_that_appears_does(tmp_path: Path) -> None:
    [config] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    [said] = re.findall(r"```\n(in Home Assistant.*?)```", PAGE, re.DOTALL)
    (tmp_path / "models").mkdir()
    linear(tmp_path / "models" / "normal.onnx", width=3, out=1)
    config = config.replace('"models/normal"', '"models/normal.onnx"').replace("window = { size = 256 }\n", "")
    plan = planned(tmp_path, '[device]\nid = "press7"\n' + config).whole
    assert said.strip() in plan_text(plan)
