"""What needs no server; refusals and silences are in test_mqtt_faults."""

from __future__ import annotations

import os
import pty
import select
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from edged.errors import Retryable
from edged.mqtt.connect import Connector, Refusal, explain_tls, look_up, make_context, numeric_address
from edged.notation.values import Secret
from tests.support.mqtt_peer import make_certificates, settings


def test_a_numeric_address_needs_no_look_up() -> None:
    assert numeric_address("10.0.0.7", 1883) == (socket.AF_INET, ("10.0.0.7", 1883))
    assert numeric_address("::1", 8883) == (socket.AF_INET6, ("::1", 8883, 0, 0))
    assert numeric_address("broker", 1883) is None


def test_a_name_that_cannot_be_one() -> None:
    with pytest.raises(Retryable) as caught:
        look_up("a" * 64, 1883)
    assert caught.value.state == "unresolved"


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    assert make_context(settings(1883)) is None
    absent = tmp_path / "ca.pem"
    with pytest.raises(Refusal) as caught:
        make_context(settings(8883, scheme="mqtts", ca=absent))
    assert caught.value.state == "files"
    assert str(absent) in caught.value.reason


def test_a_date_that_does_not_fit_may_be_our_clock() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_message, error.verify_code = "certificate has expired", 10
    assert "this machine's clock says" in explain_tls(error)
    error.verify_code = 18
    assert explain_tls(error) == "certificate has expired"


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "ca holds no certificate in PEM form"), ("-----BEGIN CERTIFICATE-----\nAAAA\n", "is not in PEM form")],
)
def test_files_that_hold_something_else(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(Refusal) as caught:
        make_context(settings(8883, scheme="mqtts", ca=tmp_path / "ca.pem"))
    assert said in caught.value.reason


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    make_certificates(tmp_path, client=True)
    other = Secret((tmp_path / "server.key").read_text())
    with pytest.raises(Refusal) as caught:
        make_context(settings(8883, scheme="mqtts", ca=tmp_path / "ca.pem", cert=tmp_path / "client.pem", key=other))
    assert "key does not belong to cert" in caught.value.reason
    assert "PRIVATE" not in caught.value.reason


async def test_nothing_listens_and_no_socket_is_left() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Retryable) as caught:
            await Connector(settings(taken.getsockname()[1])).open(5)
    assert caught.value.state == "refused"
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("form", [["-aes256"], ["-aes256", "-traditional"]])
def test_a_key_with_a_pass_phrase_is_a_message_and_never_a_prompt(form: list[str], tmp_path: Path) -> None:
    """With a terminal at hand, where OpenSSL would ask, and wait through every signal."""
    make_certificates(tmp_path, client=True)
    command = ["openssl", "pkey", *form, "-in", "client.key", "-passout", "pass:hunter2", "-out", "locked.key"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    program = (
        "from pathlib import Path; from edged.notation.values import Secret\n"
        "from edged.mqtt.connect import make_context\n"
        "from tests.support.mqtt_peer import settings\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "key = Secret((folder / 'locked.key').read_text())\n"
        "try: make_context(settings(8883, scheme='mqtts', ca=folder / 'ca.pem', cert=folder / 'client.pem', key=key))\n"
        "except Exception as error: print(error)\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    said = b""
    try:
        while select.select([terminal], [], [], 30)[0] and (data := os.read(terminal, 4096)):
            said += data
    except OSError:  # its end
        pass
    finally:
        os.close(terminal)  # what still waits there gets a hangup
        assert os.waitpid(pid, 0)[1] == 0
    assert said.decode().startswith("files: cannot use the TLS files of broker main")
    assert "key has a pass phrase: add key_password" in said.decode()
    assert "Enter PEM" not in said.decode()
