"""Each in a process of its own: most of what is tried here ends one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edged.errors import EX_OK
from tests.support.daemon import is_pending, until
from tests.support.pause import pause

DEADLINE_S = 20.0
HEAD = """
import re, signal, sys, threading, time
from edged.daemon.signals import Deadman, Early, only_once

def ready():
    print("ready", flush=True)
"""
HANGS_WITH_THE_LOCK = r'ready(); re.match(r"(a+)+$", "a" * 64 + "b")'
HANGS_WITHOUT = "ready(); threading.Event().wait()"


@contextmanager
def process(text: str) -> Iterator[subprocess.Popen[str]]:
    """Runs a script until it says that it is ready."""
    one = subprocess.Popen([sys.executable, "-c", HEAD + text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
        yield one
    finally:
        one.kill()
        one.communicate()


def test_what_works_is_sampled_and_what_waits_is_not() -> None:
    text = """
from edged.daemon.signals import sampling
names = []
def works():
    until = time.process_time() + 0.6
    while time.process_time() < until:
        pass
def waits():
    time.sleep(0.5)
with sampling(lambda frame: names.append(frame.f_code.co_name)):
    works()
    waits()
count = len(names)
works()  # and the process ends as it would
assert len(names) == count
ready()
print(names.count("works"), names.count("waits"), flush=True)
"""
    with process(text) as one:
        assert one.stdout is not None
        out = one.stdout.read()
        assert one.wait(DEADLINE_S) == 0
    worked, waited = map(int, out.split())
    assert 3 <= worked <= 20
    assert waited <= 2


@pytest.mark.parametrize("hang", [HANGS_WITH_THE_LOCK, HANGS_WITHOUT])
def test_what_is_not_put_off_ends_the_process_with_its_stacks(hang: str) -> None:
    with process(f"Deadman().put_off(0.6); {hang}") as one:
        _, err = one.communicate(timeout=DEADLINE_S)
    assert one.returncode == -signal.SIGALRM
    assert "most recent call first" in err
    assert "<module>" in err


def test_who_puts_it_off_lives() -> None:
    text = """
deadman = Deadman()
until = time.monotonic() + 1.5
deadman.put_off(0.6)
ready()
while time.monotonic() < until:
    threading.Event().wait(0.02)
    deadman.put_off(0.6)
"""
    with process(text) as one:
        _, err = one.communicate(timeout=DEADLINE_S)
    assert (one.returncode, err) == (0, "")


def test_who_comes_late_but_comes_lives() -> None:
    """Its stacks are printed, and the next time there are both warnings again."""
    text = """
deadman = Deadman()
deadman.put_off(1.5)
ready()
for _ in range(2):
    end = time.monotonic() + 1.1
    while time.monotonic() < end:
        pass
    deadman.put_off(1.5)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    with process(text) as one:
        _, err = one.communicate(timeout=DEADLINE_S)
    assert one.returncode == 0
    assert err.count("most recent call first") == 2


def test_who_was_stopped_for_long_may_go_on() -> None:
    text = """
deadman = Deadman()
gap, last = 0, time.monotonic()
deadman.put_off(0.9)
ready()
while gap < 0.5:  # until it goes on
    threading.Event().wait(0.02)
    gap, last = time.monotonic() - last, time.monotonic()
    deadman.put_off(0.9)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    with process(text) as one:
        one.send_signal(signal.SIGSTOP)
        until(lambda: is_pending(one.pid, signal.SIGALRM), what="the alarm")
        one.send_signal(signal.SIGCONT)
        _, err = one.communicate(timeout=DEADLINE_S)
    assert one.returncode == 0
    assert "most recent call first" in err


@pytest.mark.parametrize("hang", [HANGS_WITH_THE_LOCK, HANGS_WITHOUT])
def test_the_second_signal_of_a_kind_ends_the_process(hang: str) -> None:
    text = f"signal.signal(signal.SIGTERM, lambda *_: None); only_once(signal.SIGTERM); {hang}"
    with process(text) as one:
        for _ in range(100):
            one.send_signal(signal.SIGTERM)
            if one.poll() is not None:
                break
            pause(0.05, "between two signals")
        assert one.wait(DEADLINE_S) == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_before_anything_runs_a_signal_is_a_stop(number: signal.Signals) -> None:
    with process(f"Early().take(); {HANGS_WITHOUT}") as one:
        one.send_signal(number)
        _, err = one.communicate(timeout=DEADLINE_S)
    assert one.returncode == EX_OK
    assert err == f"edged: {number.name} before READY: stopping; nothing was read yet\n"


def test_a_hang_up_is_kept_for_later() -> None:
    text = """
early = Early().take()
ready()
while not early.is_reload_asked:
    threading.Event().wait(0.01)
print("asked", flush=True)
"""
    with process(text) as one:
        one.send_signal(signal.SIGHUP)
        out, _ = one.communicate(timeout=DEADLINE_S)
    assert (one.returncode, out) == (0, "asked\n")
