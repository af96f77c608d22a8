"""What can be wrong with a serial port, as `Retryable(state, reason)` for a tired technician. The states:

missing      nothing is there; the reason lists what is
busy         another program holds it
forbidden    this user may not open it
unsupported  it is no serial port, or cannot do these settings
unplugged    it was open and went away
refused      anything else the system says
"""

from __future__ import annotations

import errno
import glob
import grp
import os
import pwd
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress

from edged.errors import Retryable

SHOWN_PORTS = 8


def missing(name: str, ports_here: Sequence[str]) -> Retryable:
    """`name` is not there; `ports_here` are."""
    return Retryable("missing", f"{name} is not there (retrying); {_known(ports_here)}")


def is_no_port(name: str, ports_here: Callable[[], Sequence[str]]) -> str:
    """Why a path that is there can never be opened as a port; empty if it may."""
    if os.path.isdir(name):
        return f"{name} is a folder, not a serial port; {_known(ports_here())}"
    if os.path.isfile(name):
        return f'{name} is a file, not a serial port; a recording is played by type = "replay"; {_known(ports_here())}'
    return ""


def _known(ports_here: Sequence[str]) -> str:
    if not ports_here:
        return "this machine has no serial port: check the cable and the power"
    more = f" and {len(ports_here) - SHOWN_PORTS} more" if len(ports_here) > SHOWN_PORTS else ""
    return f"on this machine: {', '.join(ports_here[:SHOWN_PORTS])}{more}"


def unplugged(name: str, how: str) -> Retryable:
    """An open port ended; `how` is what the system said."""
    return Retryable("unplugged", f"{name} went away ({how})")


def explain(error: Exception, path: str, ports_here: Callable[[], Sequence[str]]) -> Retryable:
    """What an error at opening `path` means, as a sentence with its fix."""
    code = _code(error)
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return missing(path, ports_here())
    if code in (errno.EACCES, errno.EPERM):
        return Retryable("forbidden", _forbidden(path))
    if code in (errno.EBUSY, errno.EAGAIN):
        return Retryable("busy", f"{path} is {_holder(path)}")
    if code in (errno.ENOTTY, errno.EISDIR, errno.EINVAL):
        return Retryable("unsupported", f"{path} is not a serial port, or cannot do these settings ({os.strerror(code)})")
    if code == errno.EIO:
        return Retryable("missing", f"{path} has no hardware behind it (Input/output error)")
    return Retryable("refused", f"{path}: {os.strerror(code) if code else error}")


def _code(error: BaseException) -> int:
    """The errno behind an exception; pyserial turns a termios.error into one that has lost it."""
    code = getattr(error, "errno", None)
    if code is None and isinstance(error, termios.error):
        code = error.args[0]
    if code is None and error.__context__ is not None:
        return _code(error.__context__)
    return int(code or 0)


def _forbidden(path: str) -> str:
    try:
        status = os.stat(path)
        user = pwd.getpwuid(os.geteuid()).pw_name
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return f"permission denied: {path}"
    if status.st_mode & 0o060 == 0o060 and group != "root":
        return f"permission denied: add the user {user} to the group {group} (sudo usermod -aG {group} {user}, then log in again)"
    return f"permission denied: {path} belongs to {_owner(status.st_uid)}, mode {status.st_mode & 0o777:o}, this is {user}"


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _holder(path: str) -> str:
    found = others(path)
    if found:
        return f"in use by {found[0][1]}, pid {found[0][0]}"
    return "in use by a program of another user, or by another source of this configuration"


def others(path: str) -> list[tuple[int, str]]:
    """Pid and name of each other process that has the device open, as far as this user may see."""
    device = os.path.realpath(path)
    try:
        where = os.stat(device).st_dev  # a container may have a /dev/pts/0 of its own
    except OSError:
        return []
    others: dict[int, str] = {}
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        with suppress(OSError):
            pid = int(link.split("/")[2])
            if pid != os.getpid() and os.readlink(link) == device and os.stat(link).st_dev == where:
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                    others[pid] = comm.read().strip()
    return list(others.items())
