"""The image of cross/Containerfile: built, checked, run, asked by its health check, ended by its signal.

Its base comes from a registry that a test cannot count on, so a Debian with its Python takes the base's place. buildah builds
it and runs its programs in a chroot, which also works where a container cannot be nested."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged import __version__
from tests.devices.debian import KERNEL_NAMES, debian
from tests.support.broker import Broker
from tests.support.daemon import ROOT, Client

BASE, IMAGE = "localhost/edged-test-python", "localhost/edged-test"
FROM_HERE = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
"""With these, pip finds the package index where this machine finds it."""
BUILD_S = 1200.0
RUN_S = 120.0
CONFIG = """
[device]
id = "boxed"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.accel]
type = "simulate"
signal = "vibration"
rate = 1000
[model.m]
path = "/etc/edged/vibration"
[pipeline.p]
source = "accel"
model = "m"
window = {{ size = 512, hop = 256 }}
output = {{ type = "classify" }}
"""
SESSION = """
edged run --on-invalid last-good & daemon=$!
for i in $(seq 200); do
    edged status --check >/tmp/health 2>&1 && grep -q results /tmp/health && break
    sleep 0.1
done
edged status --check; echo "health $?"
kill -TERM $daemon; wait $daemon; echo "daemon $?"
edged status --check; echo "health $?"
"""


def buildah(*words: str, timeout_s: float = RUN_S) -> subprocess.CompletedProcess[str]:
    command = ["buildah", "--storage-driver", "vfs", "--root", str(ROOT / "build" / "peers" / "containers"), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


def done(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-4000:]
    return process.stdout.strip()


@pytest.fixture(params=["amd64", "arm64"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A container of the image, which is built from the working tree."""
    machine = request.param
    if shutil.which("buildah") is None:
        pytest.fail("buildah is not installed: apt-get install buildah")
    print(f"building the image for {machine}: minutes", flush=True)
    packed = tmp_path / "base.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(debian(machine, "python3-venv", "ca-certificates"), "/")
        for path in filter(os.path.exists, FROM_HERE):
            archive.add(os.path.realpath(path), path)
    (tmp_path / "Base").write_text("FROM scratch\nADD base.tar /\nRUN ln -sf python3 /usr/bin/python\n")
    here = ("--isolation", "chroot", "--network", "host", "--format", "docker", "--arch", machine)
    done(buildah("bud", *here, "-t", BASE, "-f", str(tmp_path / "Base"), str(tmp_path), timeout_s=BUILD_S))
    words = ("--pull-never", "--build-arg", f"PYTHON={BASE}", "-f", "cross/Containerfile", "-t", IMAGE, ".")
    done(buildah("bud", *here, *words, timeout_s=BUILD_S))
    name = done(buildah("from", "--pull-never", IMAGE))
    yield name
    buildah("rm", name)
    buildah("rmi", "--force", IMAGE, BASE)


def test_the_image_runs_and_its_health_check_tells_the_truth(container: str, tmp_path: Path) -> None:
    config = tmp_path / "edged.toml"
    config.touch()
    at = ("-v", f"{config}:/etc/edged/edged.toml:ro", "-v", f"{ROOT}/models/vibration:/etc/edged/vibration:ro")
    run = ("run", "--isolation", "chroot", "--network", "host", *at, container, "--")
    image = json.loads(done(buildah("inspect", "--type", "image", IMAGE)))
    assert image["Docker"]["config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "edged status --check || [ $? -eq 1 ]"]
    assert (image["Docker"]["config"]["User"], image["Docker"]["config"]["StopSignal"]) == ("edged", "SIGTERM")
    assert done(buildah(*run, "edged", "--version")) == f"edged {__version__}"
    if KERNEL_NAMES[image["Docker"]["architecture"]] != os.uname().machine:
        return  # onnxruntime dies of the processor that qemu shows it; tests/devices runs edged there in a chroot of its own
    with Broker(tmp_path) as broker, Client(broker.port, "edged/#") as client:
        config.write_text(CONFIG.format(port=broker.port))
        assert done(buildah(*run, "edged", "check")).endswith("/etc/edged/edged.toml: ok")
        assert "uid=0" not in done(buildah(*run, "id"))
        session = buildah(*run, "sh", "-c", SESSION, timeout_s=RUN_S)
        said = re.findall(r"^(?:health|daemon) \d+$", session.stdout, re.MULTILINE)
        assert said == ["health 0", "daemon 0", "health 2"], session.stdout + session.stderr
        results = [json.loads(m.payload) for m in client.messages if m.topic == "edged/boxed/p"]
        assert results
        assert all("label" in one for one in results)
