"""A password is in no place where somebody may read it, also at log level debug, when it is wrong, and after a crash."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged, said

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
    state: dict[str, bytes] = {}
    for path in (daemon.config.parent / "state").rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # one that is being replaced has another name by now
            state[str(path)] = path.read_bytes()
    return {
        "log": daemon.log.encode(),
        "status": "\n".join(daemon.notices).encode(),
        "command line": (process / "cmdline").read_bytes(),
        "environment": (process / "environ").read_bytes(),
        **state,
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


WRONG_LINES = {
    "bare": f"= {PASSWORD}",
    "open quote": f'= "{PASSWORD}',
    "open bracket": f"= [{PASSWORD}",
    "no equals": PASSWORD,
    "as a key": f'= {{ {PASSWORD} = "x" }}',
    "open quote, an address": f'= "mqtt://me:{PASSWORD}@h',
}


@pytest.mark.parametrize("wrong", WRONG_LINES)
def test_a_password_without_quotes_in_the_running_file_is_nowhere_either(wrong: str, broker: Broker, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("another\n")
    text = CONFIG.format(port=broker.port, open=broker.port, secret=secret)
    line = f'password = {{ file = "{secret}" }}'
    with Client(broker.port, "#") as client, Daemon(tmp_path, text) as daemon:
        whole = daemon.config.read_text()
        number = whole.splitlines().index(line) + 1
        daemon.config.write_text(whole.replace(line, f"password {WRONG_LINES[wrong]}"))
        errors = client.health(lambda h: h.get("config_errors"))["config_errors"]
        assert errors[0].startswith(f"{daemon.config}:{number}:")
        assert all(re.fullmatch(r".*\.toml:\d+:\d+", error) for error in errors)
        code, _, answer = said(edged("reload", "--wait", "-c", str(daemon.config)))
        assert code == 78
        places = {**everything(daemon), "reload": answer.encode()}
        daemon.stop()
        places["messages"] = b"\n".join(m.topic.encode() + m.payload for m in client.messages)
    for place, found in places.items():
        assert PASSWORD.encode() not in found, place
