"""Code of the user's that is waited for only so long: a file that never returns must not keep the daemon from starting."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 10.0
"""For libraries that a file of steps imports: on a slow card some take seconds."""
_GRACE_S = 1.0


class _GaveUp(BaseException):
    """Raised in the thread that took too long, so that it ends."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns, run in a thread of its own. Raises what it raises, and TimeoutError when it has not returned after
    `seconds`: then it is stopped at its next step of Python, if it ever comes to one."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            answers.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="edged-step", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_GaveUp))
        thread.join(_GRACE_S)
        raise TimeoutError(f"it has not returned after {seconds:g} s: a loop that never ends, or a wait?")
    if errors:
        raise errors[0]
    return answers[0]
