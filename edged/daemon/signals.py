"""What signals do to the daemon, whatever its loop does.

`Early` has them from the first line to READY. `only_once` makes the second of a kind end the process. `Deadman` is the process's
own watchdog: an alarm of the kernel that the loop puts off while it turns, so that it costs the path nothing. Neither of the two
needs the interpreter: they also end a process in which C code holds its lock for ever. `sampling` asks now and then what the loop
does.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from edged.errors import EX_OK

SAMPLE_S = 0.05
SA_RESETHAND = 0x80000000 - (1 << 32)  # signal.h, as the int that it is in the struct


class _Action(ctypes.Structure):
    """`struct sigaction` of glibc and musl on x86, ARM and RISC-V."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def only_once(number: signal.Signals) -> _Action:
    """The handler that the signal has takes the next one; the one after that does what the kernel does, and ends the process."""
    action, libc = _Action(), ctypes.CDLL(None)
    libc.sigaction(number, None, ctypes.byref(action))
    action.flags |= SA_RESETHAND
    libc.sigaction(number, ctypes.byref(action), None)
    return action


class Early:
    """Until something runs there is nothing to finish: SIGTERM and SIGINT end the process, with status 0. SIGHUP is kept for the
    daemon: the file may have been read before it was edited."""

    def __init__(self) -> None:
        self.is_reload_asked = False

    def take(self) -> Early:
        """To be called first of all: what comes before is not ours yet."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)
            only_once(number)  # a library may hold the interpreter for minutes
        signal.signal(signal.SIGHUP, self._note)
        return self

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_reload_asked = True

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        os.write(2, f"edged: {signal.Signals(number).name} before READY: stopping; nothing was read yet\n".encode())
        os._exit(EX_OK)  # an exception might be caught on its way, by a step of the user's for one


@contextlib.contextmanager
def sampling(tick: Callable[[FrameType | None], object]) -> Iterator[None]:
    """Within the block calls `tick` in the main thread after each 50 ms of processor time of the process, with what that thread
    is doing."""
    signal.signal(signal.SIGPROF, lambda _, frame: tick(frame))
    signal.siginterrupt(signal.SIGPROF, False)  # system calls of libraries go on
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)  # it would end an interpreter that has let go of its handlers


class Deadman:
    """Ends the process by SIGALRM unless `put_off` is called again in time: after two thirds of it every stack is printed, after
    all of it the kernel ends the process. Who was stopped meanwhile (SIGSTOP) has the last third from when it goes on."""

    def __init__(self) -> None:
        faulthandler.register(signal.SIGALRM, file=2, all_threads=True)
        self._action = only_once(signal.SIGALRM)
        self._sigaction = ctypes.CDLL(None).sigaction

    def put_off(self, limit_s: float) -> None:
        """From now on it waits for this long."""
        signal.setitimer(signal.ITIMER_REAL, limit_s * 2 / 3, limit_s / 3)
        self._sigaction(signal.SIGALRM, ctypes.byref(self._action), None)  # the stacks may have been printed, and it went on
