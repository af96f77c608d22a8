import errno
import grp
import os
import subprocess
import sys
import termios
from pathlib import Path

from edged.serialport.faults import explain, is_no_port, missing, others


def test_errors_are_explained_with_their_fix(tmp_path: Path) -> None:
    def said(code: int, path: str) -> tuple[str, str]:
        retryable = explain(OSError(code, os.strerror(code)), path, lambda: ["/dev/ttyUSB1"])
        return retryable.state, retryable.reason

    port = tmp_path / "port"
    port.touch()
    port.chmod(0o600)
    assert said(errno.EACCES, str(port))[0] == "forbidden"
    assert "permission denied" in said(errno.EACCES, str(port))[1]
    assert "on this machine: /dev/ttyUSB1" in said(errno.ENOENT, "/dev/ttyUSB0")[1]
    assert said(errno.EBUSY, str(port))[0] == "busy"
    assert said(errno.EIO, str(port))[0] == "missing"
    assert said(errno.EMFILE, str(port)) == ("refused", f"{port}: Too many open files")
    hidden = OSError("Could not configure port")
    hidden.__context__ = termios.error(errno.ENOTTY, "Inappropriate ioctl for device")
    assert explain(hidden, str(port), list).state == "unsupported"


def test_forbidden_names_user_and_group(tmp_path: Path) -> None:
    groups = [g.gr_gid for g in grp.getgrall() if g.gr_name == "dialout"]
    port = tmp_path / "port"
    port.touch()
    if os.geteuid() == 0 and groups:
        os.chown(port, 0, groups[0])
        port.chmod(0o660)
        reason = explain(PermissionError(errno.EACCES, "Permission denied"), str(port), list).reason
        assert reason.startswith("permission denied: add the user root to the group dialout")
    port.chmod(0o600)
    assert "mode 600" in explain(PermissionError(errno.EACCES, "Permission denied"), str(port), list).reason


def test_missing_lists_what_is_there_but_not_without_end() -> None:
    assert "this machine has no serial port" in missing("/dev/ttyUSB0", []).reason
    many = [f"/dev/ttyUSB{n}" for n in range(100)]
    assert missing("x", many).reason.endswith("/dev/ttyUSB7 and 92 more")


def test_a_folder_and_a_file_are_no_ports(tmp_path: Path) -> None:
    (tmp_path / "run7.csv").touch()
    assert is_no_port(str(tmp_path), lambda: ["/dev/ttyUSB1"]).endswith(
        "is a folder, not a serial port; on this machine: /dev/ttyUSB1"
    )
    assert 'type = "replay"' in is_no_port(str(tmp_path / "run7.csv"), list)
    assert is_no_port("/dev/null", list) == ""


def test_others_are_seen_with_pid_and_name_and_we_are_not_other(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.touch()
    arguments = [sys.executable, "-c", "import sys; f = open(sys.argv[1]); print('open', flush=True); input()", str(path)]
    with path.open() as _, subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"open\n"
        assert [pid for pid, _ in others(str(path))] == [other.pid]
        other.stdin.write(b"\n")
        other.stdin.flush()
        other.wait()
        assert others(str(path)) == []
