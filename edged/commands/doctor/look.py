"""Reads what the files of a machine say of it, all below one root, so that a test can lay out a board that nobody has."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from edged.commands.doctor.facts import Cgroup, Flash, Folder, Holder, Port, Swap, User, Zone
from edged.notation.units import KIB
from edged.serialport.terminal import console_at

UNIT = "edged.service"
STATE = Path("/var/lib/edged")
UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
PORTS = ("dev/ttyUSB*", "dev/ttyACM*", "dev/ttyAMA*", "dev/ttyTHS*")
LOCKS = ("run/lock", "var/lock")
PROBERS = ("ModemManager", "brltty")
"""Programs that open every new port to see what it is."""

WHEELS = re.compile(r"(onnxruntime|ort[-_]nightly)([-_](gpu|openvino|directml|qnn|rocm|training))?")
THROTTLED = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc/soc:firmware/raspberrypi/get_throttled",
)

Disk = Callable[[Path], tuple[int, int, int]]


class Login(msgspec.Struct, frozen=True):
    """Who asks: as the kernel knows it, which may be older than what /etc/group says by now."""

    name: str
    uid: int
    gids: frozenset[int]


class Unit(msgspec.Struct, frozen=True):
    """The service, as its file and drop-ins say; `user` is empty where it is not installed."""

    user: str = ""
    groups: tuple[str, ...] = ()
    is_there: bool = False


def text(path: Path) -> str:
    """What a file says, without the NULs of a device tree; empty if it is not there."""
    try:
        return path.read_text("utf-8", "replace").replace("\0", "").strip()
    except OSError:
        return ""


def is_there(path: Path) -> bool:
    """What this user may not see is not there."""
    return os.path.exists(path)


def system(root: Path) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', text(root / "etc/os-release"), re.MULTILINE)
    return found[1] if found else "an unknown Linux"


def board(root: Path) -> str:
    return text(root / "proc/device-tree/model") or text(root / "sys/devices/virtual/dmi/id/product_name")


def l4t(root: Path) -> str:
    """`36.4.3` of `# R36 (release), REVISION: 4.3, ...`"""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else ""


def has_nvidia(root: Path) -> bool:
    return is_there(root / "proc/driver/nvidia/version")


def has_dot_product(root: Path) -> bool | None:
    """Whether an Arm core has the instructions that make int8 worth while; None on others."""
    found = re.search(r"^Features\s*:(.*)$", text(root / "proc/cpuinfo"), re.MULTILINE)
    return "asimddp" in found[1].split() if found else None


def packages(folders: Sequence[str]) -> dict[str, str]:
    """What brings a folder `onnxruntime`, with versions: of two, the one that was installed last wins."""
    found = {}
    for one in metadata.distributions(path=list(folders)):
        name = str(one.metadata["Name"] or "").lower()
        if WHEELS.fullmatch(name):
            found[name] = one.version
    return found


def groups(root: Path) -> dict[str, tuple[int, frozenset[str]]]:
    """Number and members, by name."""
    found = {}
    for line in text(root / "etc/group").splitlines():
        name, _, number, members = (*line.split(":"), "", "", "")[:4]
        if number.isdigit():
            found[name] = (int(number), frozenset(filter(None, members.split(","))))
    return found


def unit(root: Path) -> Unit:
    """The first file that is there, and all drop-ins; an empty setting starts over."""
    file = next((path for folder in UNIT_FOLDERS if is_there(path := root / folder / UNIT)), None)
    if file is None:
        return Unit()
    drop_ins = sorted(
        (path for folder in UNIT_FOLDERS for path in (root / folder / f"{UNIT}.d").glob("*.conf")), key=lambda p: p.name
    )
    user = ""
    more: tuple[str, ...] = ()
    for path in (file, *drop_ins):
        for line in text(path).splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "User":
                user = value.strip()
            elif key.strip() == "SupplementaryGroups":
                more = (*more, *value.split()) if value.split() else ()
    return Unit(user, more, True)


def user(root: Path, login: Login, service: Unit) -> User:
    """Whoever runs edged here."""
    known = groups(root)
    accounts = {line.split(":")[0]: line.split(":") for line in text(root / "etc/passwd").splitlines() if line.count(":") >= 6}
    if service.user in accounts:
        _, _, uid, gid = accounts[service.user][:4]
        named = {n for n, (number, members) in known.items() if service.user in members or number == int(gid)}
        have = frozenset({*named, *service.groups})
        return User(service.user, int(uid), have, have, True)
    have = frozenset(n for n, (number, _) in known.items() if number in login.gids)
    listed = frozenset(n for n, (_, members) in known.items() if login.name in members)
    return User(login.name, login.uid, have, have | listed)


def may(path: Path, who: User, known: Mapping[str, tuple[int, frozenset[str]]], want: int) -> bool:
    """Whether a user may do `want` (4 read, 2 write, 1 enter) with a file, as its mode says."""
    try:
        status = path.stat()
    except OSError:
        return False
    if who.uid == 0:
        return True
    if status.st_uid == who.uid:
        return (status.st_mode >> 6) & want == want
    is_member = any(known[name][0] == status.st_gid for name in who.groups if name in known)
    return (status.st_mode >> (3 if is_member else 0)) & want == want


def ports_here(root: Path) -> list[str]:
    """Those that stay the same when they are replugged, where there are any."""
    by_id = sorted(root.glob("dev/serial/by-id/*"))
    found = by_id or sorted(path for pattern in PORTS for path in root.glob(pattern))
    return [f"/{path.relative_to(root)}" for path in found]


def port(root: Path, path: str, who: User, source: str = "") -> Port:
    """`path` as the machine calls it; empty for a device that was looked for by other marks and is not there."""
    at = root / path.lstrip("/")
    if not path or not is_there(at):
        return Port(path, False, source=source)
    known = groups(root)
    status = at.stat()
    group = next((n for n, (number, _) in known.items() if number == status.st_gid and n != "root"), "")
    is_for_group = status.st_mode & 0o060 == 0o060
    device = f"/{os.path.relpath(os.path.realpath(at), os.path.realpath(root))}"
    found = holders(root, device)
    return Port(path, True, may(at, who, known, 6), group if is_for_group else "", found, source, console_at(path, root))


def holders(root: Path, device: str) -> tuple[Holder, ...]:
    """Who has it open, as far as this user may see, and who has locked it as uucp did. Not this process."""
    where = _file_system(root / device.lstrip("/"))
    pids = {pid for pid in _processes(root) for link in (root / f"proc/{pid}/fd").glob("*") if _points_to(link, device, where)}
    for folder in LOCKS:
        locked = text(root / folder / f"LCK..{Path(device).name}").split()
        if locked and locked[0].isdigit() and is_there(root / "proc" / locked[0]):
            pids.add(int(locked[0]))
    return tuple(Holder(pid, text(root / f"proc/{pid}/comm")) for pid in sorted(pids) if pid != os.getpid())


def _processes(root: Path) -> Iterator[int]:
    try:
        names = os.listdir(root / "proc")
    except OSError:
        return
    yield from (int(name) for name in names if name.isdigit())


def _file_system(device: Path) -> int | None:
    """Where a real device is: a container may have a /dev/pts/0 of its own."""
    try:
        status = device.stat()
    except OSError:
        return None
    return status.st_dev if stat.S_ISCHR(status.st_mode) else None


def _points_to(link: Path, device: str, where: int | None) -> bool:
    try:
        return os.readlink(link) == device and (where is None or os.stat(link).st_dev == where)
    except OSError:
        return False


def probers(root: Path) -> tuple[str, ...]:
    running = {text(root / f"proc/{pid}/comm") for pid in _processes(root)}
    return tuple(name for name in PROBERS if name in running)


def cgroup(root: Path) -> Cgroup:
    """Which version is mounted, and whether it can hold a process to an amount of memory."""
    top = root / "sys/fs/cgroup"
    is_off = "cgroup_disable=memory" in text(root / "proc/cmdline").split()
    if is_there(top / "cgroup.controllers"):
        limit = text(top / "system.slice" / UNIT / "memory.max")
        return Cgroup(2, "memory" in text(top / "cgroup.controllers").split(), is_off, int(limit) if limit.isdigit() else None)
    if not is_there(top):
        return Cgroup(0, False, is_off)
    return Cgroup(1, is_there(top / "memory"), is_off)


def throttled(root: Path) -> int | None:
    """The Pi's flags since it was booted."""
    said = next((found for name in THROTTLED if (found := text(root / name))), "")
    return int(said, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]+", said) else None


def zones(root: Path) -> Iterator[Zone]:
    for folder in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        now = text(folder / "temp")
        if not now.lstrip("-").isdigit():
            continue
        limits = [
            int(at)
            for kind in folder.glob("trip_point_*_type")
            if text(kind) in ("passive", "hot") and (at := text(folder / kind.name.replace("_type", "_temp"))).isdigit()
        ]
        yield Zone(text(folder / "type") or folder.name, int(now) / 1000, min(limits) / 1000 if limits else None)


def folder(root: Path, what: str, path: Path, who: User, disk: Disk) -> Folder:
    """Of one that is not there yet: where it would be made."""
    at = root / str(path).lstrip("/")
    while not is_there(at) and at != root:
        at = at.parent
    total, _, free = disk(at)
    is_made_by_systemd = who.is_service and path == STATE
    may_write = is_made_by_systemd or may(at, who, groups(root), 3)
    return Folder(what, str(path), may_write, _is_read_only(root, path), free, total)


def disk_usage(path: Path) -> tuple[int, int, int]:
    """Total, used and free bytes of the disk below; nothing where nobody knows."""
    try:
        return shutil.disk_usage(path)
    except OSError:
        return 0, 0, 0


def _is_read_only(root: Path, path: Path) -> bool:
    mounts = [line.split() for line in text(root / "proc/mounts").splitlines()]
    around = [m for m in mounts if len(m) >= 4 and path.is_relative_to(m[1].replace("\\040", " "))]
    return bool(around) and "ro" in max(around, key=lambda m: len(m[1]))[3].split(",")


def flash(root: Path) -> Iterator[Flash]:
    """Cards and soldered chips; of two figures for the life of a chip, the worse."""
    for device in sorted(root.glob("sys/block/mmcblk*/device")):
        life = [int(part, 16) for part in text(device / "life_time").split() if part.startswith("0x")]
        end = text(device / "pre_eol_info")
        kind = "eMMC" if text(device / "type") == "MMC" else "SD card"
        yield Flash(device.parent.name, kind, max(life, default=0), int(end, 16) if end.startswith("0x") else 0)


def damaged(root: Path) -> tuple[str, ...]:
    """File systems in which the kernel met errors."""
    counts = sorted(root.glob("sys/fs/ext4/*/errors_count"))
    return tuple(path.parent.name for path in counts if text(path) not in ("", "0"))


def swaps(root: Path) -> Iterator[Swap]:
    for line in text(root / "proc/swaps").splitlines()[1:]:
        parts = line.split()
        if len(parts) >= 4:
            yield Swap(parts[0], int(parts[2]) * KIB, int(parts[3]) * KIB)


def queued_at_most(root: Path) -> int | None:
    """`max_queued_messages` of the mosquitto of this machine; None if there is none."""
    main = root / "etc/mosquitto/mosquitto.conf"
    if not is_there(main):
        return None
    return _last_number((main, *sorted(root.glob("etc/mosquitto/conf.d/*.conf"))), "max_queued_messages", 1000)


def mosquitto_listens(root: Path) -> frozenset[str]:
    """Ports and sockets of the mosquitto of this machine, as its files say; none where there is none."""
    main = root / "etc/mosquitto/mosquitto.conf"
    if not is_there(main):
        return frozenset()
    files = (main, *sorted(root.glob("etc/mosquitto/conf.d/*.conf")))
    lines = [words for file in files for line in text(file).splitlines() if (words := line.split())]
    found = {
        words[2] if words[1] == "0" and len(words) > 2 else words[1] for words in lines if words[0] == "listener" and words[1:]
    }
    return frozenset(found or {words[1] for words in lines if words[0] == "port" and words[1:]} or {"1883"})


def _last_number(files: Iterable[Path], key: str, otherwise: int) -> int:
    found = otherwise
    for file in files:
        for line in text(file).splitlines():
            words = line.split()
            if words[:1] == [key] and len(words) == 2 and words[1].isdigit():
                found = int(words[1])
    return found
