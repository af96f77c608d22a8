"""What the command `edged test` does: plays the tests that stand beside a configuration, in virtual time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec

from edged.daemon.prepare import load, prepare
from edged.errors import EX_OK, ConfigError, Fatal
from edged.system import log
from edged.system.durable import replaced
from edged.system.process import complain, say
from edged.testing.accept import Unwritten, accepted
from edged.testing.cases import Tests, beside, read_cases
from edged.testing.judge import judge
from edged.testing.play import Misfit, Outcome, play

EX_FAILED = 1


class Played(msgspec.Struct):
    """One test that was played: what differs, none if it passed."""

    index: int
    name: str
    line: int
    differs: list[str] = msgspec.field(default_factory=list)
    took_s: float = 0.0


def test(config: Path, names: Sequence[str], junit: Path | None, accept: bool, as_json: bool) -> int:
    """Plays those tests, or all, and prints what differs. Raises ConfigError when the file or its tests cannot be played."""
    tests = read_cases(beside(config))
    log.configure("warning")
    prepared = prepare(config)
    plan, loaded = load(prepared)
    done: list[Played] = []
    outcomes: dict[int, Outcome] = {}
    for index in _chosen(tests, names):
        case = tests.cases[index]
        began = time.perf_counter()
        try:
            outcomes[index] = play(plan, loaded, case)
        except Misfit as error:
            line = tests.line(index) if error.number is None else tests.input_line(index, error.number)
            raise ConfigError([f"{tests.path}:{line}: test {json.dumps(case.name)}: {error}"]) from None
        differs = [] if accept else judge(case, outcomes[index])
        done.append(Played(index, case.name, tests.line(index), differs, time.perf_counter() - began))
    if accept:
        return _accept(tests, outcomes)
    if junit is not None:
        _write_junit(junit, tests.path, done)
    say(json.dumps(_facts(tests.path, done), indent=2) if as_json else "\n".join(_lines(tests.path, done)))
    return EX_FAILED if any(one.differs for one in done) else EX_OK


def _chosen(tests: Tests, names: Sequence[str]) -> list[int]:
    known = [case.name for case in tests.cases]
    for name in names:
        if name not in known:
            listed = ", ".join(json.dumps(one) for one in known)
            raise ConfigError([f"{tests.path}: there is no test {json.dumps(name)}; there is {listed}"])
    return [i for i, name in enumerate(known) if not names or name in names]


def _accept(tests: Tests, outcomes: dict[int, Outcome]) -> int:
    try:
        text = accepted(tests, outcomes)
    except Unwritten as error:
        place = f"{tests.path}:{tests.line(error.index)}"
        raise Fatal(f"{place}: its `expect` cannot be replaced safely; write there by hand:\n\n{error.block}") from None
    if text == tests.text:
        say(f"{tests.path}: unchanged")
        return EX_OK
    try:
        with replaced(tests.path, tests.path.stat().st_mode & 0o777) as file:
            file.write(text.encode())
    except OSError as error:
        raise Fatal(f"{tests.path}: cannot be written: {error.strerror}") from None
    results = sum(len(one.published) for one in outcomes.values())
    say(f"{tests.path}: {results} results are now expected; check that they are correct")
    return EX_OK


def _lines(path: Path, done: Sequence[Played]) -> list[str]:
    lines = []
    for one in done:
        lines.append(f"{'FAIL' if one.differs else 'ok':4}  {one.name}")
        lines += [f"      {path}:{one.line}: {text}" for text in one.differs]
    failed = sum(bool(one.differs) for one in done)
    return [*lines, f"{len(done) - failed} passed, {failed} failed" if failed else f"{len(done)} passed"]


def _facts(path: Path, done: Sequence[Played]) -> dict[str, Any]:
    tests = [
        {"name": x.name, "line": x.line, "ok": not x.differs, "differs": x.differs, "took_s": round(x.took_s, 3)} for x in done
    ]
    return {"ok": not any(one.differs for one in done), "file": str(path), "tests": tests}


def _write_junit(output: Path, path: Path, done: Sequence[Played]) -> None:
    """The format that build servers read: https://github.com/testmoapp/junitxml."""
    failed = sum(bool(one.differs) for one in done)
    suite = ElementTree.Element("testsuite", name=str(path), tests=str(len(done)), failures=str(failed), errors="0", skipped="0")
    for one in done:
        case = ElementTree.SubElement(suite, "testcase", classname=path.name, name=one.name, time=f"{one.took_s:.3f}")
        case.set("file", str(path))
        case.set("line", str(one.line))
        if one.differs:
            ElementTree.SubElement(case, "failure", message=one.differs[0]).text = "\n".join(one.differs)
    try:
        ElementTree.ElementTree(suite).write(output, encoding="unicode", xml_declaration=True)
    except OSError as error:
        complain(f"{output}: cannot be written: {error.strerror}")
