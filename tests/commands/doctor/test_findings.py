"""Story S14: each thing that is wrong with a machine gives one finding, and its fix."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from edged.commands.doctor import look
from edged.commands.doctor.facts import Broker, Daemon, Onnx, Process
from edged.commands.doctor.findings import LEVELS, STATUS, Finding, diagnose, worst
from edged.commands.doctor.look import Login
from edged.commands.help import word
from edged.serialport.terminal import CONSOLE_FIX
from edged.system.terminal import Look
from tests.support.trees import (
    CONFIG,
    GIB,
    JETSON,
    NOW,
    OWN_GROUP,
    PI,
    examine,
    jetson,
    lay_out,
    live,
    open_port,
    write,
)

MIB = 1 << 20


def test_s14_a_healthy_pi(tmp_path: Path) -> None:
    lay_out(tmp_path, PI)
    found = diagnose(examine(tmp_path, live()))
    assert [f for f in found if f.level != "ok"] == []
    assert worst(found) == "ok"
    said = {f.topic: f.text for f in found}
    assert (
        said["system"] == "Raspberry Pi 5 Model B Rev 1.0, Debian GNU/Linux 13 (trixie), aarch64, 4 cores, 8.0 GiB, Python 3.13.5"
    )
    assert said["ports"] == "source.accel: /dev/serial/by-id/usb-FTDI-if00"
    assert said["broker"] == "main: mqtts://plant:8883 answers within 12 ms, certificate until 2027-09-14"
    assert said["queue"].endswith("17 min at 1 per second (max_queued_messages)")
    assert said["heat"] == "48 C at most (cpu-thermal)"
    assert all(f.fix == "" for f in found)


def test_s14_a_healthy_jetson(tmp_path: Path) -> None:
    lay_out(tmp_path, JETSON)
    found = diagnose(examine(tmp_path, jetson()))
    assert [f for f in found if f.level != "ok"] == []
    assert "L4T 36.4.3" in found[0].text


@dataclass(frozen=True)
class Fault:
    """`spoil` changes the tree, `seen` what the kernel, onnxruntime and brokers say."""

    level: str
    topic: str
    words: str
    fix: str
    spoil: Callable[[Path], object] = lambda _: None
    seen: dict[str, object] = field(default_factory=dict)
    on: str = "pi"
    config: str = CONFIG


def wheels(*names: str) -> Onnx:
    return Onnx(dict.fromkeys(names, "1.23.0"), "1.23.0", ("cpu",))


def unplug(root: Path) -> None:
    (root / "dev/serial/by-id/usb-FTDI-if00").unlink()
    (root / "dev/ttyUSB0").unlink()


def lock(root: Path) -> None:
    write(root, {"run/lock/LCK..ttyUSB0": "       812\n", "proc/812/comm": "minicom\n"})


NO_DIALOUT = Login("pi", os.getuid() + 1, frozenset({44001, 44002, OWN_GROUP}))
CGROUP_OFF = {"proc/cmdline": "cgroup_disable=memory rootwait\n", "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n"}
FAULTS = {
    "wrong JetPack": Fault(
        "warn",
        "onnxruntime",
        "L4T 35.4.1 is JetPack 5: no onnxruntime for its GPU",
        "update to JetPack 6",
        lambda root: write(root, {"etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 1\n"}),
        on="jetson",
    ),
    "a build for another JetPack": Fault(
        "warn",
        "onnxruntime",
        "libcublasLt.so.13: cannot open shared object file",
        "built for JetPack 6, CUDA 12, Python 3.10",
        seen={
            "onnx": Onnx(
                {"onnxruntime-gpu": "1.31.1"},
                "1.31.1",
                ("cuda", "cpu"),
                {"cuda": "libcublasLt.so.13: cannot open shared object file"},
            )
        },
        on="jetson",
    ),
    "CPU wheel over GPU wheel": Fault(
        "bad",
        "onnxruntime",
        "onnxruntime and onnxruntime-gpu are installed over each other",
        "then install onnxruntime-gpu again, alone",
        seen={"onnx": wheels("onnxruntime", "onnxruntime-gpu")},
        on="jetson",
    ),
    "CPU wheel on a Jetson": Fault(
        "warn",
        "onnxruntime",
        "no GPU provider",
        "built for JetPack 6",
        seen={"onnx": wheels("onnxruntime")},
        on="jetson",
    ),
    "numpy 2 below a GPU build": Fault(
        "bad",
        "onnxruntime",
        "does not work with this numpy",
        'pip install "numpy<2"',
        seen={"onnx": Onnx({"onnxruntime-gpu": "1.23.0"}, error="ImportError: numpy.core.multiarray failed to import")},
        on="jetson",
    ),
    "a wheel for another processor": Fault(
        "bad",
        "onnxruntime",
        "it crashes when it is imported (signal 4)",
        "is it built for aarch64?",
        seen={"onnx": Onnx({"onnxruntime": "1.31.1"}, error="it crashes when it is imported (signal 4)")},
    ),
    "no onnxruntime": Fault(
        "bad", "onnxruntime", "not installed", "pip install onnxruntime", seen={"onnx": Onnx(error="No module")}
    ),
    "32 bits": Fault("bad", "system", "32 bits", "install the 64-bit system", seen={"bits": 32, "architecture": "armv7l"}),
    "no dialout group": Fault(
        "bad",
        "groups",
        "pi is not in the group dialout",
        "sudo usermod -aG dialout pi, then log in again",
        seen={"login": NO_DIALOUT},
    ),
    "a login older than its group": Fault(
        "warn",
        "groups",
        "pi was added to dialout after this login",
        "log in again",
        lambda root: write(root, {"etc/group": f"dialout:x:{os.getgid()}:pi\nvideo:x:44001:pi\n"}),
        {"login": NO_DIALOUT},
    ),
    "no video group": Fault(
        "bad",
        "groups",
        "pi is not in the group video, to which the GPU belongs",
        "sudo usermod -aG video pi",
        seen={"login": Login("pi", os.getuid() + 1, frozenset({os.getgid(), 44002}))},
        on="jetson",
    ),
    "port busy": Fault(
        "bad",
        "ports",
        "usb-FTDI-if00 is in use by ModemManager, pid 812",
        "systemctl disable --now ModemManager",
        lambda root: open_port(root, 812, "ModemManager"),
    ),
    "port locked": Fault("bad", "ports", "is in use by minicom, pid 812", "sudo kill 812", lock),
    "port unplugged": Fault("warn", "ports", "is not there; edged waits for it", "plug it in", unplug),
    "a prober": Fault(
        "warn", "ports", "brltty runs", "apt-get remove brltty", lambda root: write(root, {"proc/99/comm": "brltty\n"})
    ),
    "cgroup off": Fault(
        "warn", "cgroup", "booted with cgroup_disable=memory", "cgroup_enable=memory", lambda root: write(root, CGROUP_OFF)
    ),
    "unsynced clock": Fault("warn", "clock", "is not synchronized", "timedatectl set-ntp true", seen={"is_clock_synced": False}),
    "a clock that was never set": Fault(
        "bad", "clock", "1970-01-01", "timedatectl", seen={"utc": 60.0, "is_clock_synced": False}
    ),
    "full disk": Fault(
        "bad",
        "disk",
        "/var/lib/edged: the disk is full, 0 MiB free",
        "journalctl --vacuum-size",
        seen={"disk": lambda _: (GIB, GIB, 0)},
    ),
    "little room": Fault("warn", "disk", "100 MiB free", "journalctl", seen={"disk": lambda _: (GIB, GIB, 100 * MIB)}),
    "read-only card": Fault(
        "bad",
        "disk",
        "mounted read-only",
        "replace a card",
        lambda root: write(root, {"proc/mounts": "/dev/mmcblk0p2 / ext4 ro 0 0\n"}),
    ),
    "a folder of somebody else": Fault(
        "bad",
        "disk",
        "/var/lib/edged: pi may not write to it",
        "install -d -o pi",
        lambda root: (root / "var/lib/edged").chmod(0o700),
    ),
    "a worn chip": Fault(
        "warn",
        "wear",
        "eMMC mmcblk0: 80 to 90 % of its life is used",
        "plan to replace it",
        lambda root: write(
            root,
            {
                "sys/block/mmcblk0/device/type": "MMC\n",
                "sys/block/mmcblk0/device/life_time": "0x01 0x09\n",
                "sys/block/mmcblk0/device/pre_eol_info": "0x01\n",
            },
        ),
    ),
    "a dead chip": Fault(
        "bad",
        "wear",
        "at the end of its life",
        "replace it",
        lambda root: write(root, {"sys/block/mmcblk0/device/type": "MMC\n", "sys/block/mmcblk0/device/life_time": "0x0b 0x01\n"}),
    ),
    "a damaged file system": Fault(
        "warn",
        "wear",
        "mmcblk0p2 has errors",
        "fsck.mode=force",
        lambda root: write(root, {"sys/fs/ext4/mmcblk0p2/errors_count": "3\n"}),
    ),
    "weak supply": Fault(
        "warn",
        "heat",
        "the supply voltage was too low since the last boot",
        "a stronger supply",
        lambda root: write(root, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n"}),
    ),
    "too hot": Fault(
        "warn",
        "heat",
        "cpu-thermal at 84 C",
        "a heat sink",
        lambda root: write(root, {"sys/class/thermal/thermal_zone0/temp": "84100\n"}),
    ),
    "slowed down": Fault(
        "warn",
        "heat",
        "heat slowed the board down",
        "a fan",
        lambda root: (root / "sys/devices/platform/soc/soc:firmware/get_throttled").unlink(),
        {"throttled": 0x80000},
    ),
    "swapping": Fault(
        "warn",
        "swap",
        "97 MiB are swapped to /var/swap",
        "swapoff",
        lambda root: write(root, {"proc/swaps": "Filename Type Size Used Priority\n/var/swap file 204796 100000 -2\n"}),
    ),
    "broker down": Fault(
        "bad",
        "broker",
        "main: nothing listens",
        "start the broker at this address",
        seen={"brokers": (Broker("main", "mqtts://plant:8883", False, "refused", "nothing listens at mqtts://plant:8883"),)},
    ),
    "this machine's mosquitto does not run": Fault(
        "bad",
        "broker",
        "main: nothing listens",
        "start the broker (sudo systemctl start mosquitto)",
        lambda root: write(root, {"etc/mosquitto/mosquitto.conf": "include_dir /etc/mosquitto/conf.d\n"}),
        {"brokers": (Broker("main", "mqtt://localhost:1883", True, "refused", "nothing listens there", where="1883"),)},
    ),
    "another port than that of this machine's mosquitto": Fault(
        "bad",
        "broker",
        "main: nothing listens",
        "start the broker at this address",
        lambda root: write(root, {"etc/mosquitto/mosquitto.conf": "listener 8883\n"}),
        {"brokers": (Broker("main", "mqtt://localhost:1883", True, "refused", "nothing listens there", where="1883"),)},
    ),
    "a certificate near its end": Fault(
        "warn",
        "broker",
        "its certificate ends on 2026-11-28",
        "renew it",
        seen={"brokers": (Broker("main", "mqtts://plant:8883", took_ms=1.0, certificate_ends=NOW + 10 * 86400.0),)},
    ),
    "a broker that keeps little": Fault(
        "warn",
        "queue",
        "keeps 100 messages for a client that is away or slow: 10 s at 10 per second",
        "max_queued_messages 6000",
        lambda root: write(
            root,
            {"etc/mosquitto/mosquitto.conf": "listener 1883\n", "etc/mosquitto/conf.d/own.conf": "max_queued_messages 100\n"},
        ),
        {"brokers": (Broker("main", "mqtt://localhost:1883", True, took_ms=1.0, where="1883"),)},
        config=CONFIG.replace('"6/min"', "1").replace("mqtts://plant", "mqtt://localhost"),
    ),
    "no glibc": Fault("warn", "process", "not glibc", "a system with glibc", seen={"process": Process(False, "1", True)}),
    "threads by the environment": Fault(
        "warn", "process", "is 4", "unset OPENBLAS_NUM_THREADS", seen={"process": Process(True, "4", True)}
    ),
    "a configuration with errors": Fault(
        "bad", "configuration", "unknown key", "edged check -c", config=CONFIG.replace("rate =", "rrate =")
    ),
    "a service that does not run": Fault(
        "warn",
        "daemon",
        "installed and does not run",
        "journalctl -u edged",
        lambda root: write(root, {"etc/systemd/system/edged.service": "[Service]\nType=notify\n"}),
    ),
}


WORDS = {"no dialout group": "forbidden", "port busy": "busy", "port locked": "busy", "broker down": "refused"} | dict.fromkeys(
    ("this machine's mosquitto does not run", "another port than that of this machine's mosquitto"), "refused"
)
"""Of those that the manual has more of."""


@pytest.mark.parametrize("name", FAULTS)
def test_s14_one_finding_with_its_fix(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    lay_out(tmp_path, JETSON if fault.on == "jetson" else PI)
    fault.spoil(tmp_path)
    seen = replace(jetson() if fault.on == "jetson" else live(), **fault.seen)
    found = [f for f in diagnose(examine(tmp_path, seen, fault.config)) if f.level != "ok"]
    assert [(f.level, f.topic) for f in found] == [(fault.level, fault.topic)], found
    assert fault.words in found[0].text
    assert fault.fix in found[0].fix
    assert found[0].word == WORDS.get(name, "")
    assert not found[0].word or word(found[0].word, Look())


def test_a_group_is_asked_for_before_the_port_is_there(tmp_path: Path) -> None:
    lay_out(tmp_path, PI)
    unplug(tmp_path)
    config = CONFIG.replace('"/dev/serial/by-id/usb-FTDI-if00"', "{ vid = 0x0403, pid = 0x6001 }")
    found = [f for f in diagnose(examine(tmp_path, live(login=NO_DIALOUT), config)) if f.level != "ok"]
    assert [f.topic for f in found] == ["groups", "ports"]
    assert found[0].text == "pi is not in the group dialout, to which serial ports belong"
    assert found[1].text == "source.accel: its USB device is not there; edged waits for it"


def test_the_status_is_that_of_the_worst() -> None:
    findings = [Finding(level, "a", "b") for level in ("ok", "bad", "warn")]
    assert worst(findings) == "bad"
    assert worst([]) == "ok"
    assert [STATUS[level] for level in LEVELS] == [0, 1, 69]


def test_a_port_that_edged_itself_holds_is_well(tmp_path: Path) -> None:
    lay_out(tmp_path, PI)
    open_port(tmp_path, 812, "python3")
    found = diagnose(examine(tmp_path, live(daemon=Daemon(812))))
    assert worst(found) == "ok"
    assert Finding("ok", "ports", "source.accel: /dev/serial/by-id/usb-FTDI-if00, in use by edged") in found
    assert Finding("ok", "daemon", "runs, pid 812") in found


def test_a_port_that_is_the_kernels_console_is_no_port_for_a_sensor(tmp_path: Path) -> None:
    lay_out(tmp_path, PI)
    device = (tmp_path / "dev/serial/by-id/usb-FTDI-if00").resolve().name
    write(tmp_path, {"proc/consoles": f"{device}              -W- (EC p a)  204:64\n"})
    (found,) = [f for f in diagnose(examine(tmp_path, live())) if f.topic == "ports"]
    assert (found.level, found.fix) == ("bad", CONSOLE_FIX)
    assert "source.accel: /dev/serial/by-id/usb-FTDI-if00 is the kernel's console (/proc/consoles)" in found.text


def test_the_user_of_the_service_is_the_one_who_counts(tmp_path: Path) -> None:
    lay_out(tmp_path, PI)
    write(
        tmp_path, {"etc/systemd/system/edged.service": "[Service]\nUser=edged\n", "etc/passwd": "edged:x:997:997::/:/bin/false\n"}
    )
    facts = examine(tmp_path, live(daemon=Daemon(812)))
    (found,) = [f for f in diagnose(facts) if f.level != "ok"]
    assert found.fix == "sudo usermod -aG dialout edged, then sudo systemctl restart edged"
    write(tmp_path, {"etc/systemd/system/edged.service": "[Service]\nUser=edged\nSupplementaryGroups=dialout\n"})
    assert worst(diagnose(examine(tmp_path, live(daemon=Daemon(812))))) == "ok"


def test_packages_are_found_where_pip_puts_them(tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu", "onnxruntime_extensions", "numpy"):
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.23.0\n"
        write(tmp_path, {f"{name}-1.23.0.dist-info/METADATA": metadata})
    assert look.packages([str(tmp_path)]) == {"onnxruntime": "1.23.0", "onnxruntime-gpu": "1.23.0"}
