"""A password is in no place where somebody may read it, also at log level debug, when it is wrong, and after a crash."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.broker import Broker
from tests.live.daemon import Client, Daemon

PASSWORD = "canary-7f3a91"
WRONG = "canary-000000"
CONFIG = """
[device]
id = "t"
[log]
level = "debug"
[health]
interval = "100ms"
broker = "open"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
username = "me"
password = {{ file = "{secret}" }}
[broker.open]
url = "mqtt://127.0.0.1:{open}"
[source.in]
type = "mqtt"
broker = "main"
topic = "in/x"
decode = {{ format = "csv", fields = ["v"] }}
[pipeline.p]
source = "in"
publish = {{ topic = "out/p", broker = "open" }}
"""


def everything(daemon: Daemon) -> dict[str, bytes]:
    """What others can read of a process, and what it said."""
    process = Path(f"/proc/{daemon.process.pid}")
    state = [p for p in (daemon.config.parent / "state").rglob("*") if p.is_file()]
    return {
        "log": daemon.log.encode(),
        "status": "\n".join(daemon.notices).encode(),
        "command line": (process / "cmdline").read_bytes(),
        "environment": (process / "environ").read_bytes(),
        **{str(path): path.read_bytes() for path in state},
    }


def test_a_password_is_nowhere_to_be_read(broker: Broker, tmp_path: Path) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    passwords.write_text(f"me:{PASSWORD}\n")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, timeout=20)
    secret.write_text(WRONG + "\n")
    with (
        Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as guarded,
        Client(broker.port, "#") as client,
        Daemon(tmp_path, CONFIG.format(port=guarded.port, open=broker.port, secret=secret)) as daemon,
    ):
        daemon.wait_log("Not authorized")
        places = everything(daemon)
        assert daemon.stop() == 0
        secret.write_text(PASSWORD + "\n")
        daemon.start()
        daemon.wait_log("broker=main state=connected")
        places |= {f"{name}, later": text for name, text in everything(daemon).items()}
        daemon.signal(signal.SIGABRT)  # a crash: faulthandler writes the stacks
        daemon.wait(20)
        places["log after the crash"] = daemon.log.encode()
        assert b"Fatal Python error" in places["log after the crash"]
        places["messages"] = b"\n".join(m.topic.encode() + m.payload for m in client.messages)
    for place, text in places.items():
        for word in (PASSWORD, WRONG):
            assert word.encode() not in text, f"{word} in {place}"
