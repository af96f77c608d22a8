"""A Debian of another machine or release in a folder: made once by debootstrap, kept in build/devices, entered by chroot.

Its packages come from where this machine's apt gets its own. Only root can make and enter one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "devices"
SUITE = "bookworm"
LISTS = (*Path("/etc/apt").glob("sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*")))
BINFMT = Path("/proc/sys/fs/binfmt_misc")
KERNEL_NAMES = {"arm64": "aarch64", "amd64": "x86_64"}

ENTER = """
set -e
mount -t proc proc "$0/proc"
mount --bind "$0/etc/cpuinfo" "$0/proc/cpuinfo"
mount --rbind /dev "$0/dev"
mount -t tmpfs sys "$0/sys"
mkdir -p "$0/sys/devices/system/cpu"
for list in possible present; do echo 0-1 >"$0/sys/devices/system/cpu/$list"; done
exec chroot "$0" "$@"
"""
CORTEX_A53 = """processor	: {}
BogoMIPS	: 38.40
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd03
CPU revision	: 4

"""
CPUINFO = {"arm64": CORTEX_A53.format(0) + CORTEX_A53.format(1), "amd64": Path("/proc/cpuinfo").read_text()}
"""qemu shows the programs it runs this machine's own, of which onnxruntime's look at its processor dies."""


def without(what: str) -> None:
    """Skips the test for want of something; where CI is set, fails it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


def mirror(lists: Sequence[Path] = LISTS) -> str:
    """Where this machine's apt gets Debian from."""
    for file in lists:
        text = file.read_text(errors="replace")
        for entry in text.split("\n\n") if file.suffix == ".sources" else text.splitlines():
            place = re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?) +(\S+)", entry, re.MULTILINE)
            if place and {SUITE, "main"} <= set(entry.split()):
                return place[1]
    without(f"apt's sources on this machine have no {SUITE}: the device tests are written on a Debian 12")
    raise AssertionError


def foreign(machine: str) -> None:
    """Lets the kernel run programs of another machine, by qemu, also within a chroot (which is what F is for)."""
    name = KERNEL_NAMES[machine]
    if os.uname().machine == name:
        return
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=False)
    if not (BINFMT / f"qemu-{name}").exists():
        rule = Path(f"/usr/lib/binfmt.d/qemu-{name}.conf")
        if not rule.exists():
            without("qemu-user-static is not installed: make test-devices installs it")
        fields = rule.read_text().strip().rpartition(":")
        (BINFMT / "register").write_text(f"{fields[0]}:{''.join(sorted({*fields[2], 'F'}))}")


def debian(machine: str, *packages: str) -> Path:
    """The folder of a Debian with its Python and these packages. The first time takes minutes."""
    if os.geteuid():
        without("only root makes a Debian in a folder and enters it")
    if shutil.which("debootstrap", path="/usr/sbin:/usr/bin") is None:
        without("debootstrap is not installed: make test-devices installs it")
    foreign(machine)
    folder = KEPT / "-".join((SUITE, machine, *packages))
    if not folder.exists():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        (new / "etc" / "dpkg" / "dpkg.cfg.d").mkdir(parents=True)
        (new / "etc" / "dpkg" / "dpkg.cfg.d" / "unsafe-io").write_text("force-unsafe-io\n")  # syncs are most of the time else
        include = ",".join(("python3", *packages))
        words = [f"--arch={machine}", "--variant=minbase", f"--include={include}", f"--cache-dir={_archives(machine)}"]
        with (KEPT / f"{folder.name}.log").open("wb") as log:
            made = subprocess.run(["debootstrap", *words, SUITE, str(new), mirror()], stdout=log, stderr=log, check=False)
        assert made.returncode == 0, Path(log.name).read_text()[-4000:]
        (new / "etc" / "cpuinfo").write_text(CPUINFO[machine])
        new.rename(folder)
    return folder


def _archives(machine: str) -> Path:
    """Where the packages themselves are kept, so that a Debian that was begun and cut off fetches none twice."""
    folder = KEPT / f"archives-{machine}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def inside(folder: Path, *command: str, network: bool = False) -> list[str]:
    """A command line that runs one in there, with mounts of its own; without `network` it has not even a loopback."""
    return ["unshare", "--mount", *([] if network else ["--net"]), "sh", "-c", ENTER, str(folder), *command]
