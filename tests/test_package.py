"""edged as whoever installs it has it: the wheel and the sdist are built once, and the first hour is gone through with them."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import edged
from tests.support.broker import find_mosquitto
from tests.support.lacking import lacking

ROOT = Path(__file__).parents[1]
PARTS = ("edged", "models", "systemd", "tests", "cross", "requirements")
FILES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.in", "Makefile")
JUNK = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")
BUILD = "from setuptools.build_meta import build_sdist, build_wheel; build_sdist('dist'); build_wheel('dist')"

pytestmark = pytest.mark.skipif(not (ROOT / "edged").is_dir(), reason="these tests were taken out of the repository")


class Built(NamedTuple):
    wheel: Path
    sdist: Path
    python: Path
    """Of a fresh environment with the wheel, and what edged depends on from the environment of the tests."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Built:
    """Built and installed by whichever worker comes first."""
    for tool in ("setuptools", "twine"):
        if importlib.util.find_spec(tool) is None:
            lacking(tool, "make test installs it")
    shared = tmp_path_factory.getbasetemp()
    folder = (shared if worker_id == "master" else shared.parent) / "package"
    python = folder / "fresh" / "bin" / "python"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(folder)
            _install(folder, python)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist, python)


def _build(folder: Path) -> None:
    work = folder.with_suffix(".work")
    for part in PARTS:
        shutil.copytree(ROOT / part, work / part, ignore=JUNK, symlinks=True)
    for file in FILES:
        shutil.copy(ROOT / file, work)
    (work / "dist").mkdir()
    subprocess.run([sys.executable, "-c", BUILD], cwd=work, check=True, capture_output=True, timeout=300)
    (work / "dist").rename(folder)


def _install(folder: Path, python: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "fresh")], check=True, timeout=300)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python), "install"]
    [wheel] = folder.glob("*.whl")
    subprocess.run([*pip, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True, timeout=300)
    [packages] = (folder / "fresh").glob("lib/python*/site-packages")
    beside = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "beside.pth").write_text("\n".join(beside))  # a line that is a path brings no .pth file of that folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def said(command: list[str], folder: Path) -> str:
    environ = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_pypi_would_take_both(built: Built) -> None:
    twine = [sys.executable, "-m", "twine", "check", "--strict", str(built.wheel), str(built.sdist)]
    done = subprocess.run(twine, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_wheel_has_all_that_the_first_hour_needs(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as packed:
        names = packed.namelist()
        [metadata] = [packed.read(name).decode() for name in names if name.endswith("METADATA")]
        assert packed.read("edged/demo/vibration/model.onnx") == (ROOT / "models/vibration/model.onnx").read_bytes()
        assert packed.read("edged/edged.service") == (ROOT / "systemd/edged.service").read_bytes()
    assert {"edged/py.typed", "edged/config/REFERENCE.md", "edged/demo/demo.toml", "edged/manual/code.md"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"edged", f"edged-{edged.__version__}.dist-info"}
    fields = set(re.findall(r"^([A-Z][\w-]+): ", metadata, re.MULTILINE))
    assert {"Author", "Classifier", "Keywords", "License-Expression", "License-File", "Requires-Python", "Summary"} <= fields


def test_the_sdist_is_whole(built: Built) -> None:
    with tarfile.open(built.sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
        assert not [member.name for member in packed.getmembers() if member.issym()]
    wanted = {str(path.relative_to(ROOT)) for part in PARTS for path in (ROOT / part).rglob("*") if path.is_file()}
    left_out = {name for name in wanted - names if "__pycache__" not in name and "/." not in name and not name.endswith(".pyc")}
    assert not left_out
    assert set(FILES) <= names


def test_the_commands_of_the_first_minutes(built: Built, elsewhere: Path) -> None:
    program, python = str(built.python.with_name("edged")), built.python
    assert said([program, "--version"], elsewhere) == f"edged {edged.__version__}\n"
    assert said([str(python), "-m", "edged", "--version"], elsewhere) == f"edged {edged.__version__}\n"
    where = said([str(python), "-c", "import edged; print(edged.__file__)"], elsewhere)
    assert Path(where).is_relative_to(python.parents[1])
    assert "115200" in said([program, "help", "baudrate"], elsewhere)
    assert said([program, "help", "reference"], elsewhere).startswith("# Configuration reference")
    assert '"draft-07' not in said([program, "schema"], elsewhere)
    assert f"ExecStart={python} -m edged run" in said([program, "service", "unit"], elsewhere)
    assert "_edged" in said([program, "completions", "bash"], elsewhere)


def test_the_demo(built: Built, elsewhere: Path) -> None:
    if find_mosquitto() is None:
        lacking("mosquitto")
    command = [str(built.python.with_name("edged")), "demo"]
    environ = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin", "HOME": str(elsewhere)}
    demo = subprocess.Popen(command, cwd=elsewhere, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stdout
    shown = ""
    for line in demo.stdout:
        shown += line
        if re.match(r"\d\d:\d\d:\d\d  healthy ", line):
            break
    demo.send_signal(signal.SIGINT)
    output, errors = demo.communicate(timeout=120)
    assert (demo.returncode, errors) == (0, "")
    assert re.search(r"^configuration  .*demo\.toml", shown, re.MULTILINE)
    assert re.search(r"^[1-9]\d* results, ", output, re.MULTILINE)


def test_the_tests_run_from_another_folder_and_with_what_is_installed(built: Built, elsewhere: Path) -> None:
    with tarfile.open(built.sdist) as packed:
        packed.extractall(elsewhere, **({"filter": "data"} if sys.version_info >= (3, 11, 4) else {}))  # type: ignore[arg-type]
    [source] = elsewhere.iterdir()
    shutil.rmtree(source / "edged")
    tests = [
        str(source / "tests" / one) for one in ("test_mirror.py", "test_classes.py", "test_topics.py", "decode/test_wire.py")
    ]
    command = [
        str(built.python),
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-o",
        "addopts=--import-mode=importlib",
    ]
    assert " passed" in said([*command, *tests], elsewhere)


def test_the_container_is_made_of_what_is_there() -> None:
    text = (ROOT / "cross" / "Containerfile").read_text("utf-8")
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)]
    sources = [source for words in copied for source in words]
    assert all((ROOT / source).exists() for source in sources)
    links = [path for path in (ROOT / "edged").rglob("*") if path.is_symlink()]
    assert links
    assert all(path.resolve().relative_to(ROOT.resolve()).parts[0] in sources for path in links)
    assert "HEALTHCHECK" in text
