from __future__ import annotations

import os
import subprocess
from pathlib import Path

from edged.commands.doctor import look
from edged.commands.doctor.facts import Cgroup, Flash, Holder, Swap, Zone
from edged.commands.doctor.look import Login, Unit
from tests.support.trees import JETSON, PI, lay_out, open_port, write

PI_LOGIN = Login("pi", os.getuid() + 1, frozenset({os.getgid()}))


def test_a_machine_without_anything(tmp_path: Path) -> None:
    assert look.system(tmp_path) == "an unknown Linux"
    assert look.board(tmp_path) == look.l4t(tmp_path) == ""
    assert not look.has_nvidia(tmp_path)
    assert look.has_dot_product(tmp_path) is None
    assert look.packages([str(tmp_path)]) == {}
    assert look.unit(tmp_path) == Unit()
    assert look.ports_here(tmp_path) == []
    assert look.probers(tmp_path) == ()
    assert look.cgroup(tmp_path) == Cgroup(0, False, False)
    assert look.throttled(tmp_path) is None
    assert look.damaged(tmp_path) == ()
    assert look.queued_at_most(tmp_path) is None
    assert [*look.zones(tmp_path), *look.flash(tmp_path), *look.swaps(tmp_path)] == []


def test_this_machine_can_be_read() -> None:
    root = Path("/")
    assert look.system(root)
    assert look.cgroup(root).version in (0, 1, 2)
    who = look.user(root, Login("somebody", os.getuid(), frozenset(os.getgroups())), look.unit(root))
    for path in look.ports_here(root):
        assert look.port(root, path, who).is_there


def test_boards(tmp_path: Path) -> None:
    write(tmp_path, JETSON)
    assert look.l4t(tmp_path) == "36.4.3"
    assert look.board(tmp_path) == "NVIDIA Jetson Orin Nano Developer Kit"
    assert look.has_dot_product(tmp_path) is True
    write(tmp_path, {"proc/cpuinfo": "Features\t: fp asimd evtstrm crc32 cpuid\n"})
    assert look.has_dot_product(tmp_path) is False


def test_a_unit_with_drop_ins(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "usr/lib/systemd/system/edged.service": "[Service]\nUser=edged\nSupplementaryGroups=dialout audio\n",
            "etc/systemd/system/edged.service.d/10-gpu.conf": "[Service]\nSupplementaryGroups=\nSupplementaryGroups=video\n",
            "etc/systemd/system/edged.service.d/20-user.conf": "[Service]\nUser = ai\nSupplementaryGroups=render\n",
        },
    )
    assert look.unit(tmp_path) == Unit("ai", ("video", "render"), True)


def test_groups_of_a_login_and_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, {"etc/group": f"dialout:x:{os.getgid()}:\nvideo:x:44001:pi,other\nbroken\naudio:x:29:other\n"})
    who = look.user(tmp_path, PI_LOGIN, Unit())
    assert who.groups == {"dialout"}
    assert who.listed == {"dialout", "video"}


def test_rights_by_owner_group_and_others(tmp_path: Path) -> None:
    lay_out(tmp_path, PI)
    known, path = look.groups(tmp_path), tmp_path / "dev/ttyUSB0"
    member = look.user(tmp_path, PI_LOGIN, Unit())
    stranger = look.user(tmp_path, Login("other", os.getuid() + 1, frozenset()), Unit())
    owner = look.user(tmp_path, Login("me", os.getuid(), frozenset()), Unit())
    for mode, rights in {0o660: (True, True, False), 0o600: (True, False, False), 0o666: (True, True, True)}.items():
        path.chmod(mode)
        assert tuple(look.may(path, who, known, 6) for who in (owner, member, stranger)) == rights
    assert not look.may(tmp_path / "absent", owner, known, 4)


def test_who_holds_a_port(tmp_path: Path) -> None:
    lay_out(tmp_path, PI)
    assert look.holders(tmp_path, "/dev/ttyUSB0") == ()
    open_port(tmp_path, 812, "screen")
    write(tmp_path, {"run/lock/LCK..ttyUSB0": "  900\n", "proc/900/comm": "minicom\n"})
    assert look.holders(tmp_path, "/dev/ttyUSB0") == (Holder(812, "screen"), Holder(900, "minicom"))
    write(tmp_path, {"run/lock/LCK..ttyUSB0": "901\n"})  # a lock that its process left behind
    assert look.holders(tmp_path, "/dev/ttyUSB0") == (Holder(812, "screen"),)
    assert look.holders(tmp_path, "/dev/ttyUSB1") == ()


def test_who_holds_a_real_port() -> None:
    master, port = os.openpty()
    child = subprocess.Popen(["cat"], stdin=port, stdout=subprocess.DEVNULL)
    try:
        name = os.ttyname(port)
        assert [h.pid for h in look.holders(Path("/"), name)] == [child.pid]
    finally:
        child.kill()
        child.wait()
        os.close(port)
        os.close(master)


def test_ports_by_the_name_that_stays(tmp_path: Path) -> None:
    write(tmp_path, {"dev/ttyACM0": "", "dev/ttyS0": "", "dev/ttyAMA0": ""})
    assert look.ports_here(tmp_path) == ["/dev/ttyACM0", "/dev/ttyAMA0"]
    lay_out(tmp_path, PI)
    assert look.ports_here(tmp_path) == ["/dev/serial/by-id/usb-FTDI-if00"]


def test_control_groups(tmp_path: Path) -> None:
    write(tmp_path, {"sys/fs/cgroup/cgroup.controllers": "cpu memory\n"})
    assert look.cgroup(tmp_path) == Cgroup(2, True, False)
    write(tmp_path, {"sys/fs/cgroup/system.slice/edged.service/memory.max": "209715200\n"})
    assert look.cgroup(tmp_path).limit_bytes == 200 << 20
    old = tmp_path / "old"
    write(old, {"sys/fs/cgroup/cpu/tasks": "", "proc/cmdline": "cgroup_disable=memory quiet\n"})
    assert look.cgroup(old) == Cgroup(1, False, True)
    write(old, {"sys/fs/cgroup/memory/tasks": ""})
    assert look.cgroup(old).has_memory


def test_heat(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone"
    write(
        tmp_path,
        {
            f"{zone}0/type": "cpu-thermal\n",
            f"{zone}0/temp": "61500\n",
            f"{zone}0/trip_point_0_type": "passive\n",
            f"{zone}0/trip_point_0_temp": "80000\n",
            f"{zone}0/trip_point_1_type": "critical\n",
            f"{zone}0/trip_point_1_temp": "110000\n",
            f"{zone}1/type": "cv0-thermal\n",
            f"{zone}1/temp": "",  # asleep
        },
    )
    assert list(look.zones(tmp_path)) == [Zone("cpu-thermal", 61.5, 80.0)]
    write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"})
    assert look.throttled(tmp_path) == 0x50005


def test_disks(tmp_path: Path) -> None:
    lay_out(tmp_path, PI)
    who = look.user(tmp_path, PI_LOGIN, Unit())
    asked: list[Path] = []

    def usage(path: Path) -> tuple[int, int, int]:
        asked.append(path)
        return 100, 60, 40

    found = look.folder(tmp_path, "state", Path("/var/lib/edged/deep/down"), who, usage)
    assert asked == [tmp_path / "var/lib/edged"]
    assert (found.may_write, found.is_read_only, found.free_bytes, found.total_bytes) == (True, False, 40, 100)
    write(tmp_path, {"proc/mounts": "/dev/root / ext4 ro 0 0\n/dev/sda1 /var ext4 rw 0 0\n"})
    assert not look.folder(tmp_path, "state", Path("/var/lib/edged"), who, usage).is_read_only
    assert look.folder(tmp_path, "state", Path("/srv/edged"), who, usage).is_read_only
    assert look.disk_usage(tmp_path / "absent") == (0, 0, 0)


def test_wear(tmp_path: Path) -> None:
    device = "sys/block/mmcblk0/device"
    write(tmp_path, {f"{device}/type": "MMC\n", f"{device}/life_time": "0x02 0x03\n", f"{device}/pre_eol_info": "0x01\n"})
    write(tmp_path, {"sys/block/mmcblk1/device/type": "SD\n", "sys/block/sda/device/type": "0\n"})
    assert list(look.flash(tmp_path)) == [Flash("mmcblk0", "eMMC", 3, 1), Flash("mmcblk1", "SD card")]
    write(tmp_path, {"sys/fs/ext4/sda1/errors_count": "0\n", "sys/fs/ext4/sda2/errors_count": "4\n"})
    assert look.damaged(tmp_path) == ("sda2",)


def test_swap(tmp_path: Path) -> None:
    write(tmp_path, {"proc/swaps": "Filename Type Size Used Priority\n/var/swap file 1024 512 -2\n"})
    assert list(look.swaps(tmp_path)) == [Swap("/var/swap", 1 << 20, 1 << 19)]


def test_what_mosquitto_keeps(tmp_path: Path) -> None:
    write(tmp_path, {"etc/mosquitto/mosquitto.conf": "# max_queued_messages 7\ninclude_dir /etc/mosquitto/conf.d\n"})
    assert look.queued_at_most(tmp_path) == 1000
    write(tmp_path, {"etc/mosquitto/conf.d/a.conf": "max_queued_messages 50000\n"})
    assert look.queued_at_most(tmp_path) == 50_000
