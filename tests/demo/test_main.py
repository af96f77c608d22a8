"""The demo as a process: what `make run` does after it has made its environment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.broker import find_mosquitto
from tests.support.lacking import lacking

ROOT = Path(__file__).parents[2]
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edged.demo", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PATH": PATH}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def children(pid: int) -> set[int]:
    """Processes whose parent is `pid`."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.add(int(text.split()[0]))
    return found


def results(output: str) -> list[str]:
    return re.findall(r"^\d\d:\d\d:\d\d  (\w+) +[01]\.\d\d", output, re.MULTILINE)


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_it_shows_results_and_ends_by_itself(broker: str) -> None:
    if broker == "mosquitto" and find_mosquitto() is None:
        lacking("mosquitto")
    demo = start("--seconds", "4", "--broker", broker)
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0, errors
    assert errors == ""
    assert output.startswith(f"broker         {broker} on port")
    assert len(results(output)) >= 3
    assert set(results(output)) == {"healthy"}
    assert re.search(r"^edged: ready ", output, re.MULTILINE)
    assert re.search(rf"^{len(results(output))} results, ", output, re.MULTILINE)
    assert "\033" not in output


def test_its_seconds_are_those_of_the_daemon_not_of_its_start() -> None:
    demo = start("--seconds", "2")
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0, errors
    assert results(output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_of_it(number: signal.Signals) -> None:
    demo = start()
    assert demo.stdout
    for line in demo.stdout:
        if results(line):
            break
    family = children(demo.pid)
    assert len(family) == 2  # the broker and the daemon
    demo.send_signal(number)
    demo.send_signal(number)
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0, errors
    assert "results, " in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in family)


def test_nobody_reads_it() -> None:
    demo = start("--seconds", "20")
    assert demo.stdout
    assert demo.stderr
    for line in demo.stdout:
        if results(line):
            break
    demo.stdout.close()
    assert demo.wait(timeout=60) == 0
    assert demo.stderr.read() == ""
    demo.stderr.close()


def test_what_it_cannot_print_ends_it_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edged.demo", "--seconds", "3"],
            cwd=ROOT,
            env={"PATH": PATH, "HOME": os.environ.get("HOME", "/")},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (70, "make run: [Errno 28] No space left on device\n")
