"""What the README and the manual say is so: configurations load, targets and commands exist, links lead somewhere."""

from __future__ import annotations

import argparse
import re
import subprocess
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from edged.commands.arguments.table import make_parser
from edged.commands.help import ORDER, entries, sections
from edged.config.load import read, report
from edged.model.manifest import read_manifest
from tests.support import daemon
from tests.support.deployments import BESIDE, CASES, environ

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MANUAL = ROOT / "edged" / "manual"
PAGES = [README, *sorted(MANUAL.glob("*.md")), *sorted(MANUAL.glob("*/*.md"))]
PLAYED = [MANUAL / "behaviours.md", *MANUAL.glob("*/*.md")]
"""Pages whose configurations tests of their own run as they stand."""


class Block(NamedTuple):
    """What stands in a fence."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}:{self.line}"


def blocks(page: Path, language: str) -> list[Block]:
    text = page.read_text("utf-8")
    fences = re.finditer(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [Block(page, text.count("\n", 0, one.start()) + 2, textwrap.dedent(one[1])) for one in fences]


TOML = [block for page in PAGES if page not in PLAYED for block in blocks(page, "toml")]
TESTS = [block for block in TOML if block.text.startswith("[[test]]")]
PARTS = [block for block in TOML if block not in TESTS and not re.search(r"^\[source\.", block.text, re.MULTILINE)]
WHOLE = [block for block in TOML if block not in TESTS + PARTS]
DEMO = (ROOT / "models" / "demo.toml").read_text("utf-8")
AROUND = (
    DEMO
    + """
[port.relay]
port = "/dev/ttyACM1"
[source.pumps]
type = "mqtt"
topic = "plant/{pump}"
decode = { format = "json", fields = ["v"] }
[pipeline.seen]
source = "pumps"
"""
)
"""What a part of a configuration may name."""
KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEADavE2U2MQRA8UMRT/0pBZ1+dXbvCBskdleC6huAx8UM=\n-----END PUBLIC KEY-----\n"
NAMED = {"answer.schema.json": '{"type": "object"}', "fleet.pub": KEY, "behaviours.py": "async def guard(me):\n    pass\n"}
"""Files that the pages name, beside those of the deployments."""


def around(part: str) -> str:
    """The tables that a part leaves out."""
    there = set(re.findall(r"^\[[\w.]+\]", part, re.MULTILINE))
    source = "pumps" if "{key}" in part else "accel"
    tables = re.findall(r"^\[.*?(?=^\[|\Z)", AROUND.replace('source = "accel"', f'source = "{source}"'), re.DOTALL | re.MULTILINE)
    return "".join(table for table in tables if table.split("\n", 1)[0] not in there)


def accepted(text: str, folder: Path) -> None:
    for file, content in {**BESIDE, **NAMED}.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(content)
    path = folder / "edged.toml"
    path.write_text(text, "utf-8")
    draft = read(path, {**environ(folder), "VLM_TOKEN": "secret"})
    assert all(p.is_warning for p in draft.problems), report(draft, draft.problems)
    assert draft.config.source


def test_the_first_configuration_is_the_demo() -> None:
    assert blocks(MANUAL / "start.md", "toml")[0].text == DEMO


@pytest.mark.parametrize("block", WHOLE, ids=str)
def test_a_configuration_is_accepted(block: Block, tmp_path: Path) -> None:
    accepted(block.text, tmp_path)


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_a_part_of_a_configuration_is_accepted(block: Block, tmp_path: Path) -> None:
    accepted(block.text + "\n" + around(block.text), tmp_path)


@pytest.mark.parametrize("block", TESTS, ids=str)
def test_a_test_of_a_configuration_passes(block: Block, tmp_path: Path) -> None:
    config = DEMO.split("[model.vibration]")[0] + '[pipeline.shaft]\nsource = "accel"\nwindow = { size = 2 }\n'
    (tmp_path / "edged.toml").write_text(config, "utf-8")
    (tmp_path / "edged.test.toml").write_text(block.text, "utf-8")
    code, out, err = daemon.said(
        daemon.edged("test", "-c", str(tmp_path / "edged.toml"))
    )  # a process of its own: this one is over the budget
    assert (code, err) == (0, ""), out


def test_the_examples_are_tested_deployments() -> None:
    known = {_without_blanks(path.read_text("utf-8")) for path in CASES.glob("*.toml")}
    examples = [block for block in WHOLE if _without_blanks(block.text) in known]
    assert len(examples) == 5


def test_the_keys_of_model_toml_exist(tmp_path: Path) -> None:
    [block] = blocks(MANUAL / "models.md", "toml model.toml")
    (tmp_path / "model.toml").write_text(block.text)
    (tmp_path / "model.onnx").write_bytes((ROOT / "models" / "tiny" / "model.onnx").read_bytes())
    _, problems = read_manifest("pump", tmp_path)
    assert problems  # the page's model is another one
    assert not [str(one) for one in problems if "unknown" in one.text]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"\bmake ([a-z-]+)\b", "\n".join(_code(page)))}
    assert named <= targets
    assert {"run", "test", "check", "bench", "deploy", "status", "logs", "rollback", "undeploy"} <= named


@pytest.mark.parametrize("target", ["help", "run", "test", "check"])
def test_make_knows_what_to_do(target: str) -> None:
    made = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr


def test_commands_and_options_exist() -> None:
    parser = make_parser()
    (commands,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    command_line = re.compile(rf"(^|/|\s)edged ({'|'.join(commands)})\b")
    lines = [line for page in PAGES for code in _code(page) for line in code.splitlines() if command_line.search(line)]
    assert {re.search(r"edged ([a-z]+)", line)[1] for line in lines} == set(commands)  # type: ignore[index]
    for line in lines:
        command = re.split(r"[|;#]", line[line.index("edged ") + 6 :])[0].split()
        if command[0] not in commands:
            continue
        actions = commands[command[0]]._actions
        if command[0] in ("model", "service", "fleet") and len(command) > 1:
            below = next(a.choices for a in actions if isinstance(a, argparse._SubParsersAction))
            actions = below[command[1]]._actions if command[1] in below else actions
        options = {option for action in actions for option in action.option_strings}
        assert {word for word in command if word.startswith("-")} <= options, line


def test_every_key_of_the_reference_is_on_a_page() -> None:
    written = "\n".join(code for page in PAGES if page.stem != "code" for code in _code(page))
    words = set(re.findall(r"\w+", written))
    assert sorted({entry.name for entry in entries() if entry.attribute.name not in words}) == []


def test_links_and_anchors_lead_somewhere() -> None:
    stale, seen = [], 0
    for page in PAGES:
        for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", _prose(page)):
            seen += 1
            target = page.parent / link if link else page
            if not target.exists():
                stale.append(f"{page.name}: there is no {link}")
            elif anchor and anchor not in sections(target.read_text("utf-8")):
                stale.append(f"{page.name}: {target.name} has no #{anchor}")
    assert not stale, "\n".join(stale)
    assert seen >= 40


def test_every_page_is_reached_from_the_readme_and_has_its_place_in_the_index() -> None:
    linked = set(re.findall(r"\]\(edged/manual/([\w-]+)\.md", README.read_text("utf-8")))
    pages = {page.stem for page in MANUAL.glob("*.md")}
    assert linked == pages
    assert pages <= set(ORDER)


def _prose(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def _code(page: Path) -> list[str]:
    """What stands on a page as code, in lines or in fences."""
    text = page.read_text("utf-8")
    fenced = re.findall(r"^ *```\w*(?: [^\n]*)?\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [*fenced, *re.findall(r"`([^`\n]+)`", _prose(page))]


def _without_blanks(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip())
