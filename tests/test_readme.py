"""What the README says is so: its configurations load, its targets and commands exist, its links lead somewhere."""

from __future__ import annotations

import argparse
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

import edged
from edged import cli
from edged.config.load import read, report
from tests.support import daemon
from tests.support.deployments import BESIDE, CASES, environ

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
TOML = [textwrap.dedent(block) for block in re.findall(r"^ *```toml\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)]
TESTS = [block for block in TOML if block.startswith("[[test]]")]
PARTS = [block for block in TOML if block.startswith(("[http]", "[behaviour."))]
AROUND = """
[port.relay]
port = "/dev/ttyACM1"
[source.pumps]
type = "mqtt"
topic = "plant/{pump}"
decode = { format = "json", fields = ["v"] }
[pipeline.vibration]
source = "pumps"
"""
"""What a part names: else it is beside the demo's configuration."""
BLOCKS = [block for block in TOML if block not in TESTS + PARTS]
DEMO = (ROOT / "models" / "demo.toml").read_text("utf-8")


def test_the_first_configuration_is_the_demo() -> None:
    assert BLOCKS[0] == DEMO


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_configuration_is_accepted(number: int, tmp_path: Path) -> None:
    for file, text in BESIDE.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    path = tmp_path / "edged.toml"
    path.write_text(BLOCKS[number], "utf-8")
    draft = read(path, environ(tmp_path))
    assert all(p.is_warning for p in draft.problems), report(draft, draft.problems)
    assert draft.config.source


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_configuration_is_accepted(part: str, tmp_path: Path) -> None:
    path = tmp_path / "edged.toml"
    (tmp_path / "behaviours.py").write_text("async def guard(me):\n    pass\n")
    around = DEMO.split("[source.accel]")[0] + AROUND if "relay" in part else DEMO
    path.write_text(part + around, "utf-8")
    draft = read(path, environ(tmp_path))
    assert all(p.is_warning for p in draft.problems), report(draft, draft.problems)


@pytest.mark.parametrize("number", range(len(TESTS)))
def test_a_test_of_a_configuration_passes(number: int, tmp_path: Path) -> None:
    config = DEMO.split("[model.vibration]")[0] + '[pipeline.shaft]\nsource = "accel"\nwindow = { size = 2 }\n'
    (tmp_path / "edged.toml").write_text(config, "utf-8")
    (tmp_path / "edged.test.toml").write_text(TESTS[number], "utf-8")
    code, out, err = daemon.said(
        daemon.edged("test", "-c", str(tmp_path / "edged.toml"))
    )  # a process of its own: this one is over the budget
    assert (code, err) == (0, ""), out


def test_the_examples_are_tested_deployments() -> None:
    known = {_without_blanks(path.read_text("utf-8")) for path in CASES.glob("*.toml")}
    examples = [block for block in BLOCKS if _without_blanks(block) in known]
    assert len(examples) == 5


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(_code())))
    assert named <= targets
    assert {"run", "test", "check", "bench", "deploy", "status", "logs", "rollback", "undeploy"} <= named


@pytest.mark.parametrize("target", ["help", "run", "test", "check"])
def test_make_knows_what_to_do(target: str) -> None:
    made = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr


def test_commands_and_options_exist() -> None:
    parser = cli.make_parser()
    (commands,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    command_line = re.compile(rf"(^|/|\s)edged ({'|'.join(commands)})\b")
    lines = [line for code in _code() for line in code.splitlines() if command_line.search(line)]
    assert {re.search(r"edged ([a-z]+)", line)[1] for line in lines} == set(commands)  # type: ignore[index]
    for line in lines:
        command = line[line.index("edged ") + 6 :].split()
        actions = commands[command[0]]._actions
        if command[0] in ("model", "service"):
            actions = next(a.choices for a in actions if isinstance(a, argparse._SubParsersAction))[command[1]]._actions
        options = {option for action in actions for option in action.option_strings}
        assert {word for word in command if word.startswith("-")} <= options


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert any((place / link).exists() for place in (ROOT, Path(edged.__file__).parents[1])), link


def _code() -> list[str]:
    """What stands in the README as code, in lines or in fences."""
    fenced = re.findall(r"^ *```\w*\n(.*?)^ *```", README, re.DOTALL | re.MULTILINE)
    return [*fenced, *re.findall(r"`([^`\n]+)`", README)]


def _without_blanks(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip())
