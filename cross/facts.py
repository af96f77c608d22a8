"""What `look.sh` found on a device, and what follows from it: whether edged can be put there, and which bundle. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cross.target import Target

OLDEST_PYTHON = (3, 10)
OLDEST_SYSTEMD = 247
MIN_FREE_MIB = 400
MIN_MEMORY_MIB = 350
WRONG_CLOCK_S = 24 * 3600
BOARDS = (
    (r"Raspberry Pi (4|400|Compute Module 4)", "pi4"),
    (r"Raspberry Pi (5|500|Compute Module 5)", "pi5"),
    (r"Raspberry Pi Zero 2", "pi-zero2"),
)
JETPACKS = {"36": "jetson-orin-jp6", "38": "jetson-jp7"}
"""By the first number of /etc/nv_tegra_release."""
MACHINES = {"aarch64": "debian-arm64", "x86_64": "debian-amd64"}


class Unread(Exception):
    """What came back is not what `look.sh` says."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The bundle for a device: a page of `targets/`, and which of its systems."""

    target: str
    system: str


def parse(text: str) -> dict[str, str]:
    """A login shell may print whatever it likes before."""
    facts = dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[a-z_]+=", line))
    if facts.get("end") != "yes":
        raise Unread("the device did not answer as a shell does; the end of what it said: " + (text.strip()[-200:] or "nothing"))
    return {key: value.strip() for key, value in facts.items()}


def refusals(facts: Mapping[str, str], now: float) -> list[str]:
    """Why edged cannot be put on this device as it is, each with what to do. Empty if it can."""
    found = []
    system = facts["os"] or facts["system"]
    if facts["system"] != "Linux":
        return [f"this is {facts['system']}; edged runs on Linux"]
    if facts["machine"] in MACHINES and facts["bits"] == "32":
        found.append(
            f"{system} is 32-bit on a 64-bit processor, and there is no onnxruntime for that: install the 64-bit system"
            " (Raspberry Pi Imager: Raspberry Pi OS Lite (64-bit))"
        )
    elif facts["machine"] not in MACHINES:
        found.append(f"no bundle is for {facts['machine']}; there are those for {' and '.join(MACHINES)}")
    found += _python(facts, system)
    if facts["init"] != "systemd":
        found.append(f"process 1 is {facts['init'] or 'unknown'}, not systemd: nothing there could start a service")
    elif int(facts["systemd"] or 0) < OLDEST_SYSTEMD:
        found.append(
            f"systemd {facts['systemd']} is too old, {OLDEST_SYSTEMD} is needed: install Debian 11, Ubuntu 22.04 or newer"
        )
    if not facts["glibc"]:
        found.append(
            f"{system} has no glibc, and there is no onnxruntime for other C libraries: install Debian or one of its kind"
        )
    if facts["uid"] != "0" and not facts["sudo"]:
        found.append(
            f"{facts['user']} is not root and there is no sudo: HOST=root@..., or install sudo and add {facts['user']} to it"
        )
    if facts["root_type"] == "overlay":
        found.append(
            "its root is an overlay, so all that is written is gone after the next boot: raspi-config, Performance, Overlay"
        )
    elif facts["root_mode"] == "ro":
        found.append("its root is mounted read-only: sudo mount -o remount,rw /; if it was not meant to be, see dmesg")
    elif facts["opt_on"] != "/":
        found.append(
            f"{facts['opt_on']} is a file system of its own: at boot systemd looks for edged's unit before it is mounted, and"
            " would not start it: put /opt/edged on the root"
        )
    elif int(facts["free_mib"] or 0) < MIN_FREE_MIB:
        found.append(
            f"{facts['free_mib']} MiB are free in /opt, {MIN_FREE_MIB} are needed: sudo apt clean; du -xh / | sort -h | tail"
        )
    if (off := abs(int(facts["clock"]) - now)) > WRONG_CLOCK_S:
        found.append(
            f"its clock is {off / 86400:.0f} days from this machine's, so no certificate would be valid there:"
            " sudo timedatectl set-ntp true, or sudo date -s ..."
        )
    return found


def _python(facts: Mapping[str, str], system: str) -> list[str]:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if not facts["python"]:
        return ["there is no python3: sudo apt install python3"]
    if tuple(map(int, facts["python"].split("."))) < OLDEST_PYTHON:
        return [f"its Python is {facts['python']}, {oldest} is needed: {system} is too old, install its successor"]
    if not facts["venv"]:
        return ["its Python cannot make environments (no module venv): sudo apt install python3-venv"]
    return []


def warnings(facts: Mapping[str, str], target: str, now: float) -> list[str]:
    """What will not keep edged from running, and should be known."""
    found = []
    if WRONG_CLOCK_S >= (off := abs(int(facts["clock"]) - now)) > 60:
        found.append(f"its clock is {off:.0f} s from this machine's: timedatectl")
    elif facts["synced"] == "no":
        found.append('its clock is not synchronized; results will say clock: "unsynced": timedatectl')
    if not facts["memory_cgroup"]:
        fix = "; cgroup_enable=memory in /boot/firmware/cmdline.txt turns it on" if "Raspberry" in facts["board"] else ""
        found.append(f"its kernel enforces no memory limits (MemoryMax); edged watches itself{fix}")
    if 0 < int(facts["memory_mib"] or 0) < MIN_MEMORY_MIB:
        found.append(f"it has {facts['memory_mib']} MiB of memory; edged takes 80 and more")
    if not facts["dialout"]:
        found.append("there is no group dialout; it will be made, and serial ports may belong to another one: ls -l /dev/tty*")
    if facts["gpu"] and target in MACHINES.values():
        found.append(f"it has a GPU, which {target} does not use; TARGET=jetson-... does")
    return found


def choose(facts: Mapping[str, str], asked: str, targets: Iterable[Target]) -> Choice | str:
    """The bundle for a device, or why there is none."""
    known = {target.name: target for target in targets}
    name = asked or _guess(facts)
    if name not in known:
        return f"there is no target {name}; there are {', '.join(sorted(known))}: TARGET=..."
    target = known[name]
    if target.machine != facts["machine"]:
        fitting = MACHINES.get(facts["machine"], "none")
        return f"target {name} is for {target.machine}, the device is {facts['machine']}: TARGET={fitting}"
    for system in target.systems:
        if system.python == facts["python"]:
            if _version(system.glibc) > _version(facts["glibc"]):
                return f"target {name} is for glibc {system.glibc}, the device has {facts['glibc']}: its system is too old"
            return Choice(name, system.name)
    pythons = ", ".join(system.python for system in target.systems)
    others = [
        t.name for t in known.values() if t.machine == target.machine and any(s.python == facts["python"] for s in t.systems)
    ]
    general = MACHINES[target.machine]
    instead = [f"TARGET={general}"] if general in others else [f"TARGET={other}" for other in others[:1]]
    fix = " or ".join([*instead, f"add its system to cross/targets/{name}.toml"])
    return f"target {name} is for Python {pythons}, the device has {facts['python']}: {fix}"


def _guess(facts: Mapping[str, str]) -> str:
    if facts["jetpack"]:
        return JETPACKS.get(facts["jetpack"].partition(".")[0], MACHINES[facts["machine"]])
    for pattern, target in BOARDS:
        if re.match(pattern, facts["board"]):
            return target
    return MACHINES[facts["machine"]]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def described(facts: Mapping[str, str]) -> str:
    """One line for a person."""
    parts = [facts["board"], facts["os"], facts["machine"], f"Python {facts['python']}", f"systemd {facts['systemd']}"]
    parts += [f"{facts['memory_mib']} MiB of memory", f"{facts['free_mib']} MiB free"]
    parts += [f"JetPack (L4T {facts['jetpack']})"] if facts["jetpack"] else []
    return ", ".join(part for part in parts if part)
