"""Machines that nobody has, as trees of files: a healthy Raspberry Pi and a healthy Jetson, to be spoilt by tests.

Whoever runs the tests owns the files, so the user of these machines is somebody else, with rights by group.
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from edged.commands.doctor.facts import Broker, Daemon, Facts, Onnx, Process
from edged.commands.doctor.gather import Live, gather
from edged.commands.doctor.look import Login
from edged.commands.doctor.wanted import wanted

GIB = 1 << 30
NOW = 1_795_000_000.0  # in November 2026
PORT = "/dev/serial/by-id/usb-FTDI-if00"
CONFIG = f"""
[device]
id = "pump7"
state_dir = "/var/lib/edged"

[broker.main]
url = "mqtts://plant"

[source.accel]
type = "serial"
port = "{PORT}"
decode = {{ format = "csv", fields = ["x"] }}

[source.state]
type = "mqtt"
topic = "plant/{{pump}}/state"
max_keys = 10
rate = "6/min"
decode = {{ format = "json", fields = ["on"] }}

[pipeline.p]
source = ["accel", "state"]
align = {{ tolerance = "1min" }}
"""
PI = {
    "etc/os-release": 'NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd crc32 asimddp\n",
    "proc/cmdline": "console=tty1 root=PARTUUID=1 rootwait\n",
    "proc/mounts": "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\ntmpfs /run tmpfs rw 0 0\n",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 2097136 900000 100\n",
    "proc/1/comm": "systemd\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48123\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "110000\n",
    "sys/block/mmcblk0/device/type": "SD\n",
    "sys/fs/ext4/mmcblk0p2/errors_count": "0\n",
    "dev/ttyUSB0": "",
}
JETSON = {
    **PI,
    "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0\n",
}
OWN_GROUP = 45_000


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def lay_out(root: Path, files: dict[str, str]) -> None:
    """Ports belong to dialout, which is the group of whoever runs the tests."""
    write(root, files)
    write(root, {"etc/group": f"dialout:x:{os.getgid()}:\nvideo:x:44001:\nrender:x:44002:\npi:x:{OWN_GROUP}:\n"})
    (root / "dev/ttyUSB0").chmod(0o660)
    (root / "dev/serial/by-id").mkdir(parents=True)
    (root / f".{PORT}").symlink_to("../../ttyUSB0")
    (root / "var/lib/edged").mkdir(parents=True)
    (root / "var/lib/edged").chmod(0o777)


def open_port(root: Path, pid: int, name: str) -> None:
    write(root, {f"proc/{pid}/comm": f"{name}\n"})
    (root / f"proc/{pid}/fd").mkdir()
    (root / f"proc/{pid}/fd/7").symlink_to("/dev/ttyUSB0")


def live(**other: object) -> Live:
    """Of a healthy board."""
    usual = Live(
        login=Login("pi", os.getuid() + 1, frozenset({os.getgid(), 44001, 44002, OWN_GROUP})),
        architecture="aarch64",
        bits=64,
        cores=4,
        memory_bytes=8 * GIB,
        python="3.13.5",
        onnx=Onnx({"onnxruntime": "1.31.1"}, "1.31.1", ("cpu",)),
        brokers=(Broker("main", "mqtts://plant:8883", took_ms=12.0, certificate_ends=NOW + 300 * 86400.0),),
        utc=NOW,
        is_clock_synced=True,
        throttled=None,
        process=Process(True, "1", True),
        daemon=Daemon(),
        disk=lambda _: (32 * GIB, 10 * GIB, 22 * GIB),
        find=lambda _: None,
    )
    return replace(usual, **other)


def jetson(**other: object) -> Live:
    return live(
        python="3.10.12",
        onnx=Onnx({"onnxruntime-gpu": "1.23.0"}, "1.23.0", ("tensorrt", "cuda", "cpu")),
        **other,
    )


def examine(root: Path, seen: Live, config: str = CONFIG) -> Facts:
    """What is known of a laid-out machine, with a configuration of its own beside it."""
    path = root / "etc/edged/edged.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config)
    return gather(root, wanted(path, True, False, {}), seen)
