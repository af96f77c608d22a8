"""The JSON Schema accepts what edged accepts, and refuses what edged refuses as far as it can: read by taplo, as in an editor."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edged.config.introspection import attributes, tables_with_places
from edged.config.json_schema import FORMS, json_schema
from edged.config.lines import values_in
from edged.config.load import read
from edged.errors import ConfigError
from tests.support.lacking import lacking

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
TAPLO = Path(sys.executable).with_name("taplo")
SCHEMA_SAYS = re.compile(
    r"unknown key|unknown table|expected one of|expected true or false|expected a table|expected a duration such"
)
"""Of what `edged check` finds: what a schema can see as well."""


def refused_by_taplo(files: list[Path], folder: Path) -> set[Path]:
    """Those of the files that are not as the schema wants them."""
    schema = folder / "edged.schema.json"
    schema.write_text(json.dumps(json_schema()))
    command = [str(taplo()), "lint", "--no-auto-config", "--schema", schema.as_uri(), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120, check=False)
    assert f"total={len(files)}" in done.stderr
    return {Path(path) for path in re.findall(r'path="([^"]+)"', done.stderr)}


def taplo() -> Path:
    """Beside this Python, or beside the environment that it has its packages from."""
    beside = [Path(folder).parents[2] / "bin" / "taplo" for folder in sys.path if folder.endswith("site-packages")]
    found = next((path for path in (TAPLO, *beside) if path.exists()), None)
    if found is None:
        lacking("taplo", "pip install taplo")
    return found


def complaints(file: Path) -> list[str]:
    """What edged finds wrong in a file without looking outside of it."""
    try:
        draft = read(file, {})
    except ConfigError as error:
        return error.lines
    return [problem.text for problem in draft.problems if not problem.is_warning]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Every whole configuration there is: deployments, the README's, the manual's, the demo's, and those of the designs."""
    found = [*sorted((CASES / "deployments").glob("*.toml")), *sorted((CASES / "designs").glob("*.toml"))]
    pages = [ROOT / "README.md", *sorted((ROOT / "edged" / "manual").glob("*.md"))]
    for page in pages:
        for i, block in enumerate(re.findall(r"^ *```toml\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)):
            text = textwrap.dedent(block)
            if "[source." in text and "[pipeline." in text:
                found.append(tmp_path / f"{page.stem}-{i}.toml")
                found[-1].write_text(text)
    return [*found, ROOT / "models" / "demo.toml"]


def test_what_edged_accepts_the_schema_accepts(files: list[Path], tmp_path: Path) -> None:
    refused = refused_by_taplo(files, tmp_path)
    accepted = [file for file in files if not any(SCHEMA_SAYS.search(one) for one in complaints(file))]
    assert len(accepted) >= 20
    assert not refused & set(accepted)
    assert {file for file in files if any("unknown key" in one for one in complaints(file))} <= refused


def test_the_broken_ones(tmp_path: Path) -> None:
    files = sorted((CASES / "errors").glob("*/edged.toml"))
    refused = refused_by_taplo(files, tmp_path)
    only_warned = {file for file in files if not (file.parent / "error.txt").exists()}
    assert not refused & only_warned
    seen = {file for file in files if any("unknown key" in one or 'expected one of "' in one for one in complaints(file))}
    assert len(seen) >= 25
    assert seen <= refused, sorted(file.parent.name for file in seen - refused)


def test_every_key_is_in_it() -> None:
    whole = json_schema()
    text = json.dumps(whole)
    for table, _ in tables_with_places():
        for name, one in attributes(table).items():
            assert f'"{name}": {{' in text
            assert json.dumps(one.key.meaning.replace("`", ""))[1:-1] in text
    assert set(whole["properties"]) >= {"broker", "source", "model", "pipeline"}


def test_every_type_of_the_reference_has_its_form() -> None:
    """Else an editor takes anything there."""
    types = {
        value.name
        for table, _ in tables_with_places()
        for attribute in attributes(table).values()
        for value in values_in(attribute.type)
    }
    assert types - FORMS.keys() == set()
