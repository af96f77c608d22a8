"""A device: a Debian with a booted systemd and an ssh server, in a container. It shares this machine's network, so its ssh server
and the broker it talks to listen on free ports of the loopback. Its disk is memory, and thrown away.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.devices.debian import debian, without
from tests.support.daemon import ROOT, until

PACKAGES = ("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "procps", "util-linux-extra")
BOOT_S = 60.0
USER = "pi"

SSHD = """Port {port}
ListenAddress 127.0.0.1
PermitRootLogin prohibit-password
UseDNS no
UsePAM yes
Subsystem sftp internal-sftp
"""

KEEPER = """
mount -t tmpfs -o size=4g,mode=755 edged-device "$0" && cp -a "$1/." "$2/." "$0" || exit
while read -r _; do
    setpriv --pdeathsig KILL systemd-nspawn --boot --register=no --keep-unit --quiet --link-journal=no -D "$0" </dev/null
done
"""
"""Boots the device for each line that it reads. In a mount namespace of its own, so that nothing is left when it ends."""

SENSOR = """
import math, os, pathlib, time, tty
master, slave = os.openpty()
tty.setraw(slave)
os.set_blocking(master, False)
os.chmod(os.ttyname(slave), 0o666)
port = pathlib.Path("/dev/sensor")
port.unlink(missing_ok=True)
port.symlink_to(os.ttyname(slave))
n = 0
while True:
    lines = [f"{math.sin(i / 7):.3f},{math.sin(i / 5):.3f},{9.81 + math.sin(i / 3):.3f}\\n" for i in range(n, n + 100)]
    n += 100
    try:
        os.write(master, "".join(lines).encode())
    except BlockingIOError:
        pass
    time.sleep(0.1)
"""
"""A serial port in the container: a thousand lines a second, whether somebody reads them or not."""


class Device:
    """`with Device(folder) as device:` boots it. `device.make("deploy", ...)` is what a user types."""

    def __init__(self, folder: Path) -> None:
        self.port = _lasting_port()
        self._folder = folder
        self._key = folder / "key"
        self._log = folder / "console.log"
        self._keeper: subprocess.Popen[bytes]

    def __enter__(self) -> Device:
        if shutil.which("systemd-nspawn") is None:
            without("systemd-nspawn is not installed: make test-devices installs it")
        made = debian("amd64" if os.uname().machine == "x86_64" else "arm64", *PACKAGES)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)], check=True)
        files = {
            "etc/ssh/sshd_config": SSHD.format(port=self.port),
            "etc/hosts": f"127.0.0.1 localhost {os.uname().nodename}\n",
            "root/.ssh/authorized_keys": self._key.with_suffix(".pub").read_text(),
            "root/sensor.py": SENSOR,
        }
        own, root = self._folder / "own", self._folder / "root"
        root.mkdir()
        for place, text in files.items():
            (own / place).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            (own / place).write_text(text)
        (own / "root").chmod(0o700)
        command = ["unshare", "--mount", "sh", "-c", KEEPER, str(root), str(made), str(own)]
        with self._log.open("ab") as log:
            self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
        try:
            self.boot()
            self.root(
                f"useradd -m -s /bin/bash {USER} && useradd -m -s /bin/sh guest"
                f" && for user in {USER} guest; do cp -r /root/.ssh /home/$user/ && chown -R $user /home/$user/.ssh; done"
                f" && echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}"
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.cut_power()
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait()

    def boot(self) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(b"boot\n")
        self._keeper.stdin.flush()
        until(lambda: self._ssh("root", "true").returncode == 0, BOOT_S, f"ssh; the console is in {self._log}")
        self.root("systemd-run --quiet --unit=sensor --property=Restart=always python3 /root/sensor.py")

    def cut_power(self) -> None:
        """Nothing gets to say goodbye. What was written and not synced stays, other than on a real device."""
        for container in children(self._keeper.pid):
            for pid in (*children(container), container):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not children(self._keeper.pid), 30, "its end")

    @property
    def options(self) -> str:
        quiet = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o IdentitiesOnly=yes"
        return f"-p {self.port} -i {self._key} {quiet}"

    def _ssh(self, user: str, command: str) -> subprocess.CompletedProcess[str]:
        words = ["ssh", *self.options.split(), f"{user}@127.0.0.1", command]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL)

    def root(self, command: str) -> str:
        """What a command says that must succeed."""
        done = self._ssh("root", command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def send(self, folder: Path, place: str) -> None:
        """All that is in a folder, into one there."""
        words = ["ssh", *self.options.split(), "root@127.0.0.1", f"mkdir -p {place} && tar -C {place} -x --no-same-owner"]
        with subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run(words, stdin=packed.stdout, check=True, timeout=300)
        assert packed.returncode == 0

    def shown(self, name: str) -> str:
        """A property of the service, as systemd says it."""
        return self.root(f"systemctl show --value -p {name} edged.service")

    @property
    def release(self) -> str:
        return Path(self.root("readlink /opt/edged/current")).name

    def command(self, target: str, *variables: str, user: str = USER) -> list[str]:
        return ["make", "--no-print-directory", target, f"HOST={user}@127.0.0.1", f"SSH_OPTS={self.options}", *variables]

    def make(self, target: str, *variables: str, user: str = USER, limit_s: float = 180.0) -> tuple[int, str]:
        """Exit status and all that it says."""
        done = subprocess.run(
            self.command(target, *variables, user=user),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=False,
        )
        return done.returncode, done.stdout

    def begin(self, target: str, *variables: str) -> subprocess.Popen[str]:
        """The same, to be cut off."""
        return subprocess.Popen(
            self.command(target, *variables),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def children(pid: int) -> list[int]:
    """Of its first thread."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def below(pid: int) -> list[int]:
    """Its children, and theirs."""
    return [one for child in children(pid) for one in (child, *below(child))]


def _lasting_port() -> int:
    """A free one that no outgoing connection is given while the device is not there to hold it."""
    for port in random.sample(range(20000, 30000), 100):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no free port")
