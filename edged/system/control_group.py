"""Where the kernel's limits of this process stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def files(proc: Path, controller: str, names: tuple[str, ...], old_names: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Folders and files of a controller's limits: of its own group, then outwards; `old_names` are those of version 1."""
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.split(" - ") for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return
    for number, controllers, path in groups:
        is_new = number == "0"
        if not is_new and controller not in controllers.split(","):
            continue
        for where, what in mounts:
            kind, _, options = what.split(" ", 2)
            if kind == ("cgroup2" if is_new else "cgroup") and (is_new or controller in options.split(",")):
                root, top = where.split(" ")[3:5]
                inner = path.removeprefix(root.rstrip("/"))  # in a container only a part of the tree is mounted
                at = Path(top + inner) if Path(top + inner).is_dir() else Path(top)
                while at.is_relative_to(top):
                    yield from ((at, name) for name in (names if is_new else old_names))
                    at = at.parent
