"""From what a look found to a bundle, or to why there is none and what to do."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cross import target
from cross.facts import Choice, Unread, choose, described, parse, refusals, warnings

NOW = 1_800_000_000.0
LOOK = Path(__file__).parents[2] / "cross" / "look.sh"
PI = {
    "system": "Linux",
    "machine": "aarch64",
    "bits": "64",
    "glibc": "2.41",
    "board": "Raspberry Pi 5 Model B Rev 1.0",
    "os": "Debian GNU/Linux 13 (trixie)",
    "jetpack": "",
    "python": "3.13",
    "venv": "yes",
    "init": "systemd",
    "systemd": "257",
    "uid": "1000",
    "user": "pi",
    "sudo": "free",
    "clock": str(int(NOW)),
    "synced": "yes",
    "memory_mib": "8063",
    "opt_on": "/",
    "free_mib": "20000",
    "root_type": "ext4",
    "root_mode": "rw",
    "memory_cgroup": "yes",
    "dialout": "yes",
    "ports": "/dev/ttyUSB0",
    "gpu": "",
    "current": "",
    "end": "yes",
}
JETSON = PI | {
    "board": "NVIDIA Jetson Orin Nano",
    "jetpack": "36.4.3",
    "python": "3.10",
    "glibc": "2.35",
    "systemd": "249",
    "gpu": "yes",
}
TARGETS = [target.read(name) for name in target.names()]


def test_a_device_that_will_do() -> None:
    assert refusals(PI, NOW) == []
    assert warnings(PI, "pi5", NOW) == []
    assert described(PI) == (
        "Raspberry Pi 5 Model B Rev 1.0, Debian GNU/Linux 13 (trixie), aarch64, Python 3.13, systemd 257, 8063 MiB of memory,"
        " 20000 MiB free"
    )


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"system": "Darwin"}, "this is Darwin; edged runs on Linux"),
        ({"bits": "32"}, "Debian GNU/Linux 13 (trixie) is 32-bit on a 64-bit processor, and there is no onnxruntime for that"),
        ({"machine": "armv7l"}, "no bundle is for armv7l; there are those for aarch64 and x86_64"),
        ({"python": ""}, "there is no python3: sudo apt install python3"),
        ({"python": "3.9"}, "its Python is 3.9, 3.10 is needed: Debian GNU/Linux 13 (trixie) is too old, install its successor"),
        ({"venv": ""}, "its Python cannot make environments (no module venv): sudo apt install python3-venv"),
        ({"init": "busybox"}, "process 1 is busybox, not systemd: nothing there could start a service"),
        ({"systemd": "245"}, "systemd 245 is too old, 247 is needed: install Debian 11, Ubuntu 22.04 or newer"),
        ({"glibc": ""}, "has no glibc, and there is no onnxruntime for other C libraries"),
        ({"sudo": ""}, "pi is not root and there is no sudo: HOST=root@..., or install sudo and add pi to it"),
        ({"root_type": "overlay"}, "its root is an overlay, so all that is written is gone after the next boot"),
        ({"root_mode": "ro"}, "its root is mounted read-only: sudo mount -o remount,rw /"),
        ({"opt_on": "/opt"}, "/opt is a file system of its own: at boot systemd looks for edged's unit before it is mounted"),
        ({"free_mib": "120"}, "120 MiB are free in /opt, 400 are needed: sudo apt clean"),
        ({"clock": "3600"}, "its clock is 20833 days from this machine's, so no certificate would be valid there"),
    ],
)
def test_a_device_that_will_not(other: dict[str, str], text: str) -> None:
    [found] = refusals(PI | other, NOW)
    assert text in found


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(refusals(PI | {"python": "3.9", "systemd": "245", "free_mib": "1", "sudo": ""}, NOW)) == 4


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"clock": str(int(NOW) - 300)}, "its clock is 300 s from this machine's: timedatectl"),
        ({"synced": "no"}, 'its clock is not synchronized; results will say clock: "unsynced": timedatectl'),
        ({"memory_cgroup": ""}, "cgroup_enable=memory in /boot/firmware/cmdline.txt turns it on"),
        ({"memory_mib": "200"}, "it has 200 MiB of memory; edged takes 80 and more"),
        ({"dialout": ""}, "there is no group dialout; it will be made"),
    ],
)
def test_what_should_be_known(other: dict[str, str], text: str) -> None:
    assert refusals(PI | other, NOW) == []
    [found] = warnings(PI | other, "pi5", NOW)
    assert text in found


def test_a_gpu_that_would_lie_idle() -> None:
    [found] = warnings(JETSON, "debian-arm64", NOW)
    assert found == "it has a GPU, which debian-arm64 does not use; TARGET=jetson-... does"
    assert not warnings(JETSON, "jetson-orin-jp6", NOW)


@pytest.mark.parametrize(
    ("facts", "asked", "found"),
    [
        (PI, "", Choice("pi5", "trixie")),
        (PI | {"board": "Raspberry Pi 4 Model B", "python": "3.11"}, "", Choice("pi4", "bookworm")),
        (PI, "debian-arm64", Choice("debian-arm64", "trixie")),
        (PI | {"board": ""}, "", Choice("debian-arm64", "trixie")),
        (PI | {"board": "", "machine": "x86_64"}, "", Choice("debian-amd64", "trixie")),
        (PI, "pi6", "there is no target pi6; there are debian-amd64, "),
        (PI, "debian-amd64", "target debian-amd64 is for x86_64, the device is aarch64: TARGET=debian-arm64"),
        (
            PI | {"python": "3.12"},
            "",
            "pi5 is for Python 3.13, 3.11, the device has 3.12: TARGET=jetson-jp7 or add its system to cross/targets/pi5.toml",
        ),
        (PI | {"glibc": "2.31"}, "", "target pi5 is for glibc 2.41, the device has 2.31: its system is too old"),
    ],
)
def test_the_bundle_for_it(facts: dict[str, str], asked: str, found: Choice | str) -> None:
    chosen = choose(facts, asked, TARGETS)
    if isinstance(found, str):
        assert isinstance(chosen, str)
        assert found in chosen
    else:
        assert chosen == found


def test_a_jetson_is_known_by_its_jetpack() -> None:
    chosen = choose(JETSON, "", TARGETS)
    assert isinstance(chosen, Choice)
    assert chosen.target == "jetson-orin-jp6"


def test_a_look_at_this_machine() -> None:
    """What the script says here can be read, and every fact that is asked for is in it."""
    said = subprocess.run(["sh", "-s"], input=LOOK.read_bytes(), capture_output=True, check=True).stdout.decode()
    found = parse("welcome to this machine\n" + said)
    assert found.keys() == PI.keys()
    assert (found["system"], found["bits"]) == ("Linux", "64")
    assert abs(int(found["clock"]) - time.time()) < 600
    assert found["python"].count(".") == 1
    refusals(found, time.time())
    warnings(found, "pi5", time.time())


@pytest.mark.parametrize("said", ["", "This account is not available.\n", "system=Linux\nmachine=x86_64\n"])
def test_an_answer_that_is_none(said: str) -> None:
    with pytest.raises(Unread, match="did not answer as a shell does"):
        parse(said)


def test_the_device_needs_nothing_else() -> None:
    """device/ runs on the device's own Python: standard library only."""
    lines = [line for file in (LOOK.parent / "device").glob("*.py") for line in file.read_text().splitlines()]
    names = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    others = {name.partition(".")[0] for name in names if not name.startswith("cross.device.")}
    assert {"os", "subprocess"} < others <= sys.stdlib_module_names
