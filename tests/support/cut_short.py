"""`edged`, killed at the n-th of the moments at which something of the fleet's may become durable: the number in the
file `EDGED_CUT_AT`; 0: never.

A moment is just before and just after a file is synced or renamed. Each is appended to `EDGED_CUTS`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_cut_at = int(Path(os.environ["EDGED_CUT_AT"]).read_text("utf-8"))
_count = 0


def _moment(what: str) -> None:
    global _count
    _count += 1
    with Path(os.environ["EDGED_CUTS"]).open("a", encoding="utf-8") as file:
        file.write(f"{_count} {what}\n")
    if _count == _cut_at:
        os.kill(os.getpid(), signal.SIGKILL)


def _is_fleets(path: object) -> bool:
    return "/fleet/" in f"{path}/" and "/state/" in str(path)


def _watched(name: str, does: Callable[..., Any], path_of: Callable[..., object]) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        path = path_of(*arguments)
        if not _is_fleets(path):
            return does(*arguments, **more)
        _moment(f"before {name} {Path(str(path)).name}")
        found = does(*arguments, **more)
        _moment(f"after {name} {Path(str(path)).name}")
        return found

    return call


def main() -> int:
    os.fsync = _watched("sync", os.fsync, lambda fd: os.readlink(f"/proc/self/fd/{fd}"))
    os.rename = _watched("rename", os.rename, lambda source, target: target)
    os.replace = _watched("replace", os.replace, lambda source, target: target)
    from edged import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
