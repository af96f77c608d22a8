"""`make deploy` to a device over ssh, and everything that can go wrong with it. The device is `booted.Device`.

The tests run in the order of the file, on one device: each begins with a release that runs, and leaves one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cross import bundle, deploy, target
from tests.devices.booted import USER, Device, below
from tests.support.broker import Broker
from tests.support.daemon import ROOT, Client, until
from tests.support.pause import pause
from tests.support.scale import scale

CONFIG = """
[device]
id = "dev"
[memory]
budget = "200MiB"
[health]
interval = "500ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
keepalive = "2s"
username = "edged"
password = {{ credential = "mqtt" }}
[source.accel]
type = "serial"
port = "/dev/sensor"
baudrate = 921600
rate = 1000
decode = {{ format = "csv", fields = ["ax", "ay", "az"] }}
[source.seldom]
type = "mqtt"
topic = "in/seldom"
decode = {{ format = "json", fields = ["v"] }}
[model.vibration]
path = "vibration"
[pipeline.vibration]
source = "accel"
window = {{ size = 512, hop = 256 }}
model = "vibration"
output = {{ type = "classify" }}
[pipeline.rare]
source = "seldom"
"""
RESULTS = "edged/dev/vibration"
PASSWORD = "a-word-that-only-the-device-knows"
CRASHES = scale("crashes at start")
CRASHING = "ExecStart=/opt/edged/current/venv/bin/python -c 'raise SystemExit(\"this release crashes\")'"
NEVER_READY = "ExecStart=/bin/sleep infinity"
SHORT_LIVED = "ExecStart=/opt/edged/current/venv/bin/edged run\nRuntimeMaxSec=3"
QUICK = ("WATCH=1", "READY=20")


class Shop:
    """What is deployed from: a folder with the configuration, and bundles of it, good and bad."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.config = folder / "edged.toml"
        self.config.write_text(CONFIG.format(port=port))
        shutil.copytree(ROOT / "models" / "vibration", folder / "vibration")
        machine = target.read("debian-amd64" if os.uname().machine == "x86_64" else "debian-arm64")
        made = bundle.build(machine, machine.system("bookworm"), folder / "bundles")
        self._files = {part: made.with_suffix("") / part for part in _places(made.with_suffix(""))}
        self._made = 0

    def bundle(self, start: str = "") -> str:
        """A new release, without a configuration: like the one that is there, but for how its service is started."""
        self._made += 1
        unit = (ROOT / "systemd" / "edged.service").read_text()
        if start:
            unit = "\n".join(start if line.startswith("ExecStart=") else line for line in unit.splitlines())
        files: bundle.Files = {**self._files, "systemd/edged.service": f"{unit}\n# release {self._made}\n".encode()}
        made = bundle.write(files, "edged-test", self.folder / "bundles")
        made.unlink()  # the same as a file, not wanted here
        return str(made.with_suffix(""))


def _places(folder: Path) -> list[str]:
    return [line[66:] for line in (folder / "manifest").read_text().splitlines()]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    passwords = folder / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "edged", PASSWORD], check=True, capture_output=True)
    with Broker(folder, f"password_file {passwords}", "max_queued_messages 0") as it:
        yield it


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Shop]:
    it = Shop(tmp_path_factory.mktemp("shop"), broker.port)
    yield it
    shutil.rmtree(it.folder)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    with Device(tmp_path_factory.mktemp("device")) as it:
        yield it


@pytest.fixture
def client(broker: Broker) -> Iterator[Client]:
    with Client(broker.port) as it:
        yield it


def runs(device: Device, client: Client, release: str) -> None:
    """That release serves: it is the current one, the service is up, and results come."""
    assert device.release == release
    assert device.shown("ActiveState") == "active"
    client.forget()
    client.wait(RESULTS, 2)


def kept(device: Device) -> str:
    """What no deploy may touch."""
    return device.root("cd / && find etc/edged -type f -exec sha256sum {} + | sort; cat var/lib/edged/kept 2>/dev/null || true")


def test_what_cannot_be_done_is_refused_with_its_fix(device: Device, shop: Shop) -> None:
    code, said = device.make("deploy", f"BUNDLE={shop.bundle()}", user="guest")
    assert code
    assert "sudo asks guest for a password there, and nobody is here to give it" in said
    code, said = device.make("deploy", f"BUNDLE={shop.bundle()}", "TARGET=pi5")
    assert code
    assert "target pi5 is for aarch64, the device is x86_64: TARGET=debian-amd64" in said
    code, said = device.make("deploy", f"BUNDLE={shop.bundle()}")
    assert code
    assert "there is no /etc/edged/edged.toml on the device: deploy with CONFIG=edged.toml" in said
    assert device.root("systemctl is-active edged || true") == "inactive"


def test_the_first_deploy(device: Device, shop: Shop, client: Client) -> None:
    device.root(f"umask 077; mkdir -p /etc/edged/credentials; echo {PASSWORD} > /etc/edged/credentials/mqtt")
    said = _with_ssh_cut(device.begin("deploy", f"CONFIG={shop.config}", *QUICK))
    before, after = said.split("the connection was lost", 1)
    assert " 0.0 MiB are there already" in before
    assert " 0.0 MiB are there already" not in after
    assert "pipeline vibration: " in said
    assert "pipeline rare: none is due, waiting: source seldom is silent" in said
    runs(device, client, device.release)
    assert PASSWORD not in said
    pid = device.shown("MainPID")
    [made] = {line.split()[1] for line in said.splitlines() if line.startswith("  bundle ")}
    code, said = device.make("deploy", f"BUNDLE={bundle.BUILD / 'bundles' / made}", *QUICK)
    assert code == 0
    assert "runs already: nothing to switch" in said
    assert device.shown("MainPID") == pid


def _with_ssh_cut(deploying: subprocess.Popen[str]) -> str:
    """What a deploy says whose ssh ends while it sends."""
    assert deploying.stdout is not None
    said = []
    for line in deploying.stdout:
        said.append(line)
        if "  sent " in line and "  sent 0.0 " not in line:
            os.kill(next(pid for pid in below(deploying.pid) if Path(f"/proc/{pid}/comm").read_text() == "ssh\n"), signal.SIGKILL)
            break
    said += deploying.stdout
    assert deploying.wait() == 0, "".join(said)
    deploying.stdout.close()
    return "".join(said)


def test_nobody_else_reads_the_configuration(device: Device) -> None:
    """Wherever it has passed through: where the service reads it, in its release, in the cache."""
    found = device.root(
        "find /etc/edged /opt/edged/releases/*/config ! -path '*/credentials*' -printf '%M %u:%g %y\\n' | sort -u; "
        "find /opt/edged/deploy -maxdepth 0 -printf '%M %u %y\\n'"
    )
    assert found.splitlines() == ["-rw-r----- root:edged f", "drwxr-x--- root:edged d", "drwx------ root d"]
    found = device.root(
        f"su -s /bin/sh -c 'grep -rl in/seldom /etc/edged* /opt/edged /tmp /var/lib/edged 2>/dev/null || true' {USER}"
    )
    assert found == ""


def test_an_altered_install_is_not_run(device: Device, shop: Shop, client: Client) -> None:
    release = device.release
    altered = Path(shop.bundle())
    (altered / "install").write_text("#!/bin/sh\ntouch /root/it-ran\n")
    code, said = device.make("deploy", f"BUNDLE={altered}", *QUICK)
    assert code
    assert "nothing of the bundle was run: verify: damaged or incomplete" in said
    assert device.root("ls /root/it-ran 2>/dev/null || true") == ""
    runs(device, client, release)


def test_the_service_is_confined(device: Device) -> None:
    pid = device.shown("MainPID")
    status = dict(line.split(":", 1) for line in device.root(f"cat /proc/{pid}/status").splitlines())
    user = device.root("id -u edged")
    assert status["Uid"].split() == [user] * 4
    assert int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    assert PASSWORD not in device.root(f"tr '\\0' '\\n' < /proc/{pid}/environ; journalctl -u edged --no-pager")
    assert device.root("systemd-analyze verify edged.service edged-switch.service 2>&1") == ""
    said = device.root("systemd-analyze security --no-pager edged.service | tail -1")
    assert float(said.split(":")[1].split()[0]) <= 2.0
    device.root(
        "mkdir -p /tmp/gpu/edged.service.d; cd /opt/edged/current/systemd"
        "; cp edged.service /tmp/gpu; cp gpu.conf /tmp/gpu/edged.service.d"
    )
    said = device.root("systemd-analyze security --no-pager --offline=true /tmp/gpu/edged.service | tail -1")
    assert float(said.split(":")[1].split()[0]) <= 2.0
    limit = int(device.shown("MemoryMax"))
    assert 200 << 20 < limit < 500 << 20
    assert device.root("systemctl is-enabled edged.service") == "enabled"
    assert device.root(f"su -s /bin/sh -c 'cat /etc/edged/edged.toml' {USER} 2>&1 || true").endswith("Permission denied")


def test_a_model_is_tried_and_swapped_under_the_unit(device: Device, client: Client) -> None:
    device.root("echo '# changed' >> /etc/edged/vibration/model.toml")
    found = client.until(lambda: _event(client, "reload"), what="the reload")
    assert found["ok"], found
    assert found["changed"] == ["model.vibration: file or settings"]


def _event(client: Client, kind: str) -> Any:
    return next((m.json for m in client.of("edged/dev/event") if m.json["event"] == kind), None)


def test_reload(device: Device, client: Client) -> None:
    device.root("sed -i 's/hop = 256/hop = 128/' /etc/edged/edged.toml; systemctl reload edged")
    found = client.until(lambda: _event(client, "reload"), what="the reload")
    assert found["changed"] == ["pipeline.vibration: window"]
    client.forget()
    device.root(
        "cp -p /etc/edged/edged.toml /tmp/good; sed -i 's/hop = 128/hop = \"x\"/' /etc/edged/edged.toml; systemctl reload edged"
    )
    assert not client.until(lambda: _event(client, "reload"), what="the refusal")["ok"]
    assert "configuration refused" in until(
        lambda: text if "refused" in (text := device.shown("StatusText")) else "", what="status"
    )
    runs(device, client, device.release)
    client.forget()
    device.root("cat /tmp/good > /etc/edged/edged.toml")
    client.health(lambda h: "config_errors" not in h, device="dev")


def test_a_hang_is_ended_by_the_watchdog(device: Device, client: Client) -> None:
    device.root(
        "mkdir -p /etc/systemd/system/edged.service.d && printf '[Service]\\nWatchdogSec=3\\n'"
        " > /etc/systemd/system/edged.service.d/override.conf && systemctl daemon-reload && systemctl restart edged"
    )
    pid = device.shown("MainPID")
    device.root(f"kill -STOP {pid}")
    until(lambda: device.shown("MainPID") not in (pid, "0") and device.shown("ActiveState") == "active", 30, "a new process")
    log = device.root("journalctl -u edged --no-pager -n 60")
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log  # with every stack
    device.root("rm /etc/systemd/system/edged.service.d/override.conf; systemctl daemon-reload; systemctl restart edged")
    runs(device, client, device.release)


@pytest.mark.parametrize(
    ("start", "more", "reason"),
    [
        (CRASHING, QUICK, "the service ended: exit-code, status 1"),
        (NEVER_READY, ("WATCH=1", "READY=3"), "it was not READY within 3 s"),
        (SHORT_LIVED, ("WATCH=15",), "the service ended: timeout, status 0"),
    ],
)
def test_a_bad_release_is_taken_back(
    device: Device, shop: Shop, client: Client, start: str, more: tuple[str, ...], reason: str
) -> None:
    before, files = device.release, kept(device)
    code, said = device.make("deploy", f"BUNDLE={shop.bundle(start)}", *more)
    assert code
    assert reason in said, said
    assert f"{before} runs again" in said
    if start == CRASHING:
        assert "this release crashes" in said  # of the log's last lines
    runs(device, client, before)
    assert kept(device) == files


def test_a_bad_configuration_is_not_switched_to(device: Device, shop: Shop, client: Client) -> None:
    before, files, pid = device.release, kept(device), device.shown("MainPID")
    bad = shop.folder / "bad.toml"
    bad.write_text(shop.config.read_text().replace("size = 512", "size = 100"))
    code, said = device.make("deploy", f"CONFIG={bad}", *QUICK)
    assert code
    assert "/etc/edged/edged.toml:" in said
    assert "size = 512" in said, said
    assert (device.release, kept(device), device.shown("MainPID")) == (before, files, pid)


def test_cut_off_at_any_point(device: Device, shop: Shop, client: Client) -> None:
    """The laptop is gone, ten times."""
    chance = random.Random(7)
    files = kept(device)
    points = [*range(1, 12)] * 2
    for lines in chance.sample(points, scale("deploys cut off")):  # it says a dozen, from the look to the end
        before = device.release
        deploying = device.begin("deploy", f"BUNDLE={shop.bundle()}", *QUICK)
        _cut_after(deploying, lines, chance.random())
        until(lambda: device.root("systemctl is-active edged-switch || true") != "activating", 60, "the end of the switch")
        whole = device.root("test -e /opt/edged/current/complete && systemctl is-active edged")
        assert whole == "active", lines
        client.forget()
        client.wait(RESULTS, 1)
        print(f"cut after line {lines}: {'the old release' if device.release == before else 'the new one, which did well'}")
    code, said = device.make("deploy", f"BUNDLE={shop.bundle()}", *QUICK)
    assert code == 0, said
    runs(device, client, device.release)
    assert kept(device) == files
    assert len(device.root("ls -d /opt/edged/releases/*/complete").splitlines()) <= 3


def _cut_after(deploying: subprocess.Popen[str], lines: int, more_s: float) -> None:
    assert deploying.stdout is not None
    for _ in range(lines):
        if not deploying.stdout.readline():
            break
    pause(more_s, "the laptop is gone at any moment")
    os.killpg(deploying.pid, signal.SIGKILL)
    deploying.stdout.close()
    deploying.wait()


def test_a_power_cut_while_switching(device: Device, shop: Shop, client: Client) -> None:
    before = device.release
    deploying = device.begin("deploy", f"BUNDLE={shop.bundle(NEVER_READY)}", "READY=60")
    until(lambda: device.release != before, 60, "the switch")
    device.cut_power()
    os.killpg(deploying.pid, signal.SIGKILL)
    assert deploying.stdout is not None
    deploying.stdout.close()
    deploying.wait()
    device.boot()
    until(lambda: device.release == before, 30, "the way back")
    until(lambda: device.shown("ActiveState") == "active", 30, "the service")
    runs(device, client, before)


def test_an_upgrade_with_results_on_disk(device: Device, shop: Shop, broker: Broker) -> None:
    """The broker does not answer before it, during it and after it."""
    device.root("echo untouched > /var/lib/edged/kept")
    before = kept(device)
    with Client(broker.port, RESULTS) as witness:
        witness.wait(RESULTS, 1)
        broker.freeze()
        until(lambda: "storing" in device.root("edged status"), 30, "the spool")
        code, said = device.make("deploy", f"BUNDLE={shop.bundle()}", *QUICK)
        assert code == 0, said
        assert "storing" in device.root("edged status")
        assert kept(device) == before
        broker.thaw()
        until(lambda: json.loads(device.root("edged status --json"))["spool"]["state"] == "idle", 60, "an empty spool")
        replayed = until(lambda: [m.json for m in witness.of(RESULTS) if m.json.get("replayed")], 30, "what was kept")
        until(lambda: witness.of(RESULTS)[-1].json["seq"] > replayed[-1]["seq"], 30, "a result since")
    numbers = {m.json["seq"] for m in witness.of(RESULTS)}
    assert len({m.json["run"] for m in witness.of(RESULTS)}) == 1  # a planned stop: the count goes on
    assert numbers == set(range(min(numbers), max(numbers) + 1))


def test_rollback_and_back(device: Device, client: Client) -> None:
    after = device.release
    before = Path(device.root("readlink /opt/edged/before")).name
    code, said = device.make("rollback", *QUICK)
    assert code == 0, said
    runs(device, client, before)
    configuration = kept(device)
    device.root("cp -a /etc/edged/. /etc/edged.before && sed -i 's/hop = [0-9]*/hop = 512/' /etc/edged.before/edged.toml")
    code, said = device.make("rollback", "CONFIG=before", *QUICK)
    assert code == 0, said
    runs(device, client, after)
    assert "hop = 512" in device.root("cat /etc/edged/edged.toml")
    device.root("cp -a /etc/edged.before/. /etc/edged")  # where the other one is now
    assert kept(device) == configuration


def test_status_and_logs(device: Device) -> None:
    code, said = device.make("status")
    assert code == 0
    assert f"release    {device.release}, before it " in said
    assert "pipeline  vibration  running" in said
    code, said = device.make("logs", "LINES=5")
    assert code == 0
    assert "edged[" in said


def test_the_log_is_followed_until_ctrl_c(device: Device) -> None:
    following = device.begin("logs", "LINES=1", "FOLLOW=1")
    assert following.stdout is not None
    following.stdout.readline()
    device.root("systemctl reload edged")
    assert any("Reloaded edged.service" in line for line in following.stdout)
    os.killpg(following.pid, signal.SIGINT)
    said = following.stdout.read()
    following.stdout.close()
    following.wait()
    assert "Traceback" not in said
    until(lambda: device.root("pgrep journalctl || true") == "", 10, "nothing that runs on there")


def test_a_user_of_whom_sudo_wants_a_password(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    device.root("echo guest:swordfish | chpasswd; echo 'guest ALL=(ALL) ALL' > /etc/sudoers.d/guest")
    given = deploy.Device("guest@127.0.0.1", tuple(device.options.split()), "swordfish", is_root=False)
    assert deploy.order(deploy.verified(given), {"ask": "status"}) == 0
    assert f"release    {device.release}" in capsys.readouterr().out
    wrong = deploy.Device("guest@127.0.0.1", tuple(device.options.split()), "trout", is_root=False)
    with pytest.raises(target.Refused, match=r"sudo does not let us on guest@127\.0\.0\.1: wrong password"):
        deploy.verified(wrong)


def test_what_crashes_at_start_is_started_again_and_again_with_pauses(device: Device, client: Client) -> None:
    device.root(
        "printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > /etc/systemd/system/edged.service.d/override.conf"
        " && systemctl daemon-reload && (systemctl restart edged || true)"
    )
    until(lambda: int(device.shown("NRestarts")) >= CRASHES, 20 + 4 * CRASHES, "restarts")
    said = device.root("journalctl -u edged -b -o json --output-fields=MESSAGE,__MONOTONIC_TIMESTAMP --no-pager -n 200")
    entries = [json.loads(line) for line in said.splitlines()]
    times = [int(e["__MONOTONIC_TIMESTAMP"]) / 1e6 for e in entries if str(e["MESSAGE"]).startswith("Starting edged.service")]
    pauses = [b - a for a, b in pairwise(times)][-CRASHES:]
    assert min(pauses) >= 2.0
    assert device.shown("Result") != "start-limit-hit"
    device.root("rm /etc/systemd/system/edged.service.d/override.conf; systemctl daemon-reload; systemctl restart edged")
    runs(device, client, device.release)


def test_undeploy(device: Device) -> None:
    code, said = device.make("undeploy")
    assert code == 0, said
    left = device.root(
        "ls -d /opt/edged /etc/systemd/system/edged* /etc/edged/edged.toml /var/lib/edged/models 2>/dev/null || true"
    )
    assert left.split() == ["/etc/edged/edged.toml", "/var/lib/edged/models"]
    code, said = device.make("undeploy", "PURGE=1")
    assert code == 0, said
    assert device.root("ls -d /opt/edged /etc/edged* /var/lib/edged 2>/dev/null || true; getent passwd edged || true") == ""
