"""What the device's side of a deploy decides; what it does is tested on a device, in tests/devices."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cross.deploy import BOOT, pack
from cross.device import bundle, config
from cross.device.bundle import is_place, receive
from cross.device.files import point
from cross.device.places import MIB
from cross.device.releases import superfluous
from cross.device.settings import memory_max, settings
from cross.device.verdict import due, judge
from cross.device.words import Refused


def status(**pipelines: dict[str, Any]) -> dict[str, Any]:
    return {
        "pipelines": {
            name: {"published": 0, "filtered": 0, "rate": 0.0, "state": "filling", **p} for name, p in pipelines.items()
        }
    }


RUNNING = {"published": 3, "state": "running"}
SILENT = {"state": "waiting", "reason": "source a is silent"}


@pytest.mark.parametrize(
    ("pipelines", "expected", "known", "verdict", "late"),
    [
        ({"p": RUNNING}, [], [], "well", "well"),
        ({"p": {"filtered": 1, "state": "running"}}, [], [], "well", "well"),
        ({"p": {"gated": 1, "state": "running"}}, [], [], "well", "well"),
        ({"p": RUNNING | {"state": "storing"}}, [], [], "well", "well"),
        ({"p": {}}, [], [], "wait", "well"),
        ({"p": {}}, ["p"], ["p"], "wait", "well"),  # a window that takes its time
        ({"p": SILENT}, [], [], "wait", "well"),
        ({"p": SILENT}, [], ["p"], "well", "well"),  # none was due before either
        ({"p": SILENT}, ["p"], ["p"], "wait", "ill"),  # it gave results, and gives none
        ({"p": {"state": "failing"}}, [], ["p"], "wait", "ill"),
        ({"p": RUNNING | {"state": "stalled"}}, [], [], "wait", "ill"),
        ({"p": RUNNING, "q": {"state": "shedding"}}, [], [], "wait", "ill"),
    ],
)
def test_whether_a_release_does_well(
    pipelines: dict[str, dict[str, Any]], expected: list[str], known: list[str], verdict: str, late: str
) -> None:
    assert judge(status(**pipelines), expected, known, False)[0] == verdict
    assert judge(status(**pipelines), expected, known, True)[0] == late


def test_why() -> None:
    found = status(a=RUNNING, b=SILENT, c=SILENT, d={"state": "failing", "reason": "no such operator"})
    found["config_errors"] = ["edged.toml:1:1: wrong"]
    assert judge(found, ["c"], [], True)[1] == [
        "pipeline a: 3 results",
        "pipeline b: none is due, waiting: source a is silent",
        "pipeline c gave results before the switch, and now: waiting: source a is silent",
        "pipeline d: failing: no such operator",
        "the configuration was refused: edged.toml:1:1: wrong",
    ]
    fine = status(a={"state": "running", "published": 3})
    assert judge(fine, [], [], False)[0] == "well"
    assert judge({**fine, "config_last_good": "2026-11-29T18:30:00Z"}, [], [], False)[0] == "ill"


def test_what_is_to_be_expected() -> None:
    assert due(status(fast={"rate": 2.0}, slow={"rate": 0.1}, none={}), 30) == ["fast"]
    assert due({}, 30) == []


def test_releases_to_remove() -> None:
    sizes = {"a": (1.0, 100), "b": (2.0, 100), "c": (3.0, 100), "d": (4.0, 100), "e": (5.0, 100)}
    room = 10**12
    assert superfluous(sizes, ["e", "a"], room) == ["b", "c"]  # what ran before, however old, and the newest of the others
    assert superfluous(sizes, ["e", "d"], room) == ["a", "b"]
    assert superfluous(sizes, ["e"], 0) == ["a", "b", "c", "d"]  # no room
    assert superfluous({n: (t, 2000 * MIB) for n, (t, _) in sizes.items()}, ["e", "d"], room) == ["a", "b", "c"]
    assert superfluous({}, ["gone"], room) == []


PLAN: dict[str, Any] = {
    "models": {"m": {}},
    "memory": {
        "budget_bytes": 200 * MIB,
        "lines": [
            {"what": "interpreter and libraries", "bytes": 61234567},
            {"what": "model.m: weights", "bytes": 10 * MIB},
            {"what": "model.n: weights", "bytes": 2 * MIB},
        ],
    },
}


def test_the_limit_has_room_for_the_trial_of_a_model() -> None:
    assert memory_max(PLAN) == (200 + 3 * 10 + 128) * MIB
    assert memory_max(PLAN | {"models": {}}) == 200 * MIB


def test_the_drop_in() -> None:
    parts = {"gpu.conf": "[Service]\nTasksMax=256\n", "restart.conf": "[Service]\nRestartSteps=8\n"}
    text = settings(123, ["web", "mqtt"], 252, parts, has_gpu=False)
    assert text.splitlines()[1:] == [
        "[Service]",
        "MemoryMax=123",
        "LoadCredential=mqtt:/etc/edged/credentials/mqtt",
        "LoadCredential=web:/etc/edged/credentials/web",
    ]
    assert "RestartSteps" in settings(123, [], 254, parts, has_gpu=False)
    assert "TasksMax" in settings(123, [], 249, parts, has_gpu=True)


@pytest.mark.parametrize("path", ["install", "systemd/edged.service", "config/models/a b.onnx"])
def test_places_in_a_bundle(path: str) -> None:
    assert is_place(path)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\0b"])
def test_places_outside_of_it(path: str) -> None:
    assert not is_place(path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bundle, "CACHE", tmp_path)
    return tmp_path


DATA = b"0123456789" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
FILES = [{"path": "wheels/a.whl", "sha256": SHA, "size": len(DATA)}]


def test_what_was_cut_off_goes_on_where_it_ended(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EOFError):
        receive(FILES, io.BytesIO(DATA[:3000]))
    receive(FILES, io.BytesIO(DATA[3000:]))
    receive(FILES, io.BytesIO(b""))  # it is there
    assert (cache / SHA).read_bytes() == DATA
    needs = capsys.readouterr().out.splitlines()
    assert needs == [f'{{"need": {{"{SHA}": 0}}}}', f'{{"need": {{"{SHA}": 3000}}}}', '{"need": {}}']


def test_what_is_damaged_does_not_stay(cache: Path) -> None:
    with pytest.raises(Refused, match="damaged on its way"):
        receive(FILES, io.BytesIO(DATA[:-1] + b"x"))
    assert not list(cache.iterdir())


def test_one_rename(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for name in ("a", "b", "b"):
        point(link, tmp_path / name)
        assert link.readlink() == tmp_path / name
    assert [p.name for p in tmp_path.iterdir()] == ["current"]


def answer(*command: str, given: bytes) -> tuple[int, list[Any]]:
    """What the program says when it runs as on a device: by a Python of its own, in a folder that is not this one."""
    done = subprocess.run([sys.executable, "-I", *command], input=given, cwd="/", capture_output=True, timeout=60, check=False)
    assert done.stderr == b""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_sent_file_is_what_runs(tmp_path: Path) -> None:
    """From memory, as over ssh, and from its place, as edged-switch.service runs it: the same bytes, and the order after them."""
    program = pack()
    order = json.dumps({"ask": "status"}).encode() + b"\n"
    code, said = answer("-c", BOOT, str(len(program)), given=program + order)
    assert (code, said[-1].keys()) == (0, {"end", "say"})
    assert said[0]["say"].startswith("release    ")
    place = tmp_path / "device.pyz"
    place.write_bytes(program)
    assert answer(str(place), given=order) == (code, said)
    assert answer(str(place), given=order[:-1]) == (1, [])  # cut off


def test_what_check_says_as_data_is_told_in_lines() -> None:
    one = {"path": "/etc/edged/edged.toml", "line": 3, "column": 2, "key": "a.b", "message": "found 3", "fix": "write 4"}
    line = "/etc/edged/edged.toml:3:2: a.b: found 3; write 4"
    assert config.refusal(json.dumps({"ok": False, "errors": [one, one]}), "") == f"{line}\n{line}"
    assert config.refusal("", " Killed\n") == "Killed"
    assert config.problem("of an earlier release") == "of an earlier release"
