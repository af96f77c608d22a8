from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from edged.config import external
from edged.config.checks.broker import pass_phrase
from edged.config.parsers.value import Surroundings
from edged.config.schema import Broker
from edged.notation.values import BrokerUrl, Secret

NOWHERE = Surroundings(Path("/nowhere"), {})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mqtt://localhost", BrokerUrl("mqtt", "localhost", 1883)),
        ("mqtt://10.0.0.1:1884", BrokerUrl("mqtt", "10.0.0.1", 1884)),
        ("mqtts://iot.example.com", BrokerUrl("mqtts", "iot.example.com", 8883)),
        ("mqtt://[::1]:1884", BrokerUrl("mqtt", "::1", 1884)),
        ("unix:/run/mosquitto.sock", BrokerUrl("unix", path="/run/mosquitto.sock")),
        ("unix:///run/mosquitto.sock", BrokerUrl("unix", path="/run/mosquitto.sock")),
    ],
)
def test_addresses(text: str, url: BrokerUrl) -> None:
    assert external.broker_url(text, NOWHERE) == url
    assert external.broker_url(str(url), NOWHERE) == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mqtt://u:p4ss@host", "a password in the address ends up in logs"),
        ("u:p4ss@host", "a user in the address"),
        ("tcp://u:p4ss@host", "a password in the address"),
        ("mqtt://u@host", "use username"),
        ("host:1883", "write mqtt://host:1883"),
        ("ssl://host", "write mqtts://host"),
        ("mqtt://host:0", "port from 1 to 65535"),
        ("mqtt://host:port", "found something else than a port after the host, not shown here"),
        ("mqtt://me:p4ss", "not shown here"),
        ("mqtt://me:p4ss/word", "not shown here"),
        ("mqtt://fe80::1", "an IPv6 address stands in brackets"),
        ("mqtt://host:1883/path", "without a path: mqtt://host:1883"),
        ("mqtt://host/path", "without a path: mqtt://host"),
        ("unix:relative", "an absolute path"),
    ],
)
def test_what_is_no_address(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"expected|use") as caught:
        external.broker_url(text, NOWHERE)
    assert said in str(caught.value)
    assert "p4ss" not in str(caught.value)


def test_text_comes_from_the_file_the_environment_a_file_or_a_credential(tmp_path: Path) -> None:
    (tmp_path / "name.txt").write_text("from file\n")
    (tmp_path / "mqtt").write_text("from systemd\r\n")
    around = Surroundings(tmp_path, {"NAME": "from environment", "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert external.ext("plain", around) == "plain"
    assert external.ext({"env": "NAME"}, around) == "from environment"
    assert external.ext({"file": "name.txt"}, around) == "from file"
    assert external.ext({"credential": "mqtt"}, around) == "from systemd"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"env": "NAMES"}, "environment variable NAMES is not set; did you mean NAME?"),
        ({"file": "absent"}, "is not there"),
        ({"file": "."}, " is a folder"),
        ({"file": "latin1"}, "is not UTF-8"),
        ({"file": "empty"}, "the file empty is empty"),
        ({"credential": "absent"}, "is LoadCredential=absent:/path in the unit?"),
        ({"credential": "../mqtt"}, "expected the name of a credential"),
        ({}, "found a table with nothing"),
        ({"env": "A", "file": "b"}, "found a table with env and file"),
        ({"env": 5}, "found a number for env"),
        ({"hunter2": "b"}, "found a table with a key that is none of these"),
        ({"fil": "b"}, 'found a table with a key that is none of these; did you mean "file"?'),
        (12345678, "found a number"),
        ("", "found an empty one"),
    ],
)
def test_what_is_no_text(tmp_path: Path, raw: Any, said: str) -> None:
    (tmp_path / "latin1").write_bytes(b"caf\xe9")
    (tmp_path / "empty").write_text("\n")
    around = Surroundings(tmp_path, {"NAME": "x", "CREDENTIALS_DIRECTORY": str(tmp_path)})
    with pytest.raises(ValueError, match=r"\w") as caught:
        external.ext(raw, around)
    assert said in str(caught.value)
    assert "12345678" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_without_systemd_a_credential_names_the_fix() -> None:
    with pytest.raises(ValueError, match="LoadCredential=mqtt:/path") as caught:
        external.ext({"credential": "mqtt"}, NOWHERE)
    assert "CREDENTIALS_DIRECTORY is not set" in str(caught.value)


def test_a_secret_in_the_file_is_taken_and_warned_of() -> None:
    around = Surroundings(Path("/"), {"PASSWORD": "hunter2"})
    assert external.secret("hunter2", around) == "hunter2"
    assert len(around.warnings) == 1
    assert "hunter2" not in around.warnings[0]
    assert isinstance(external.secret({"env": "PASSWORD"}, around), Secret)
    assert len(around.warnings) == 1


def test_a_key_must_be_a_key() -> None:
    with pytest.raises(ValueError, match="PEM") as caught:
        external.private_key("client.key", NOWHERE)
    assert str(caught.value).endswith('for the path of a file: { file = "client.key" }')


def test_a_device_id_is_one_level_of_a_topic() -> None:
    assert external.device_id("pi-4", NOWHERE) == "pi-4"
    for text in ("a/b", "a+", "#"):
        with pytest.raises(ValueError, match="without / "):
            external.device_id(text, NOWHERE)


@pytest.mark.parametrize("parse", [external.secret, external.private_key])
def test_a_secret_in_a_file_that_everybody_may_read_is_warned_of(parse: Any, tmp_path: Path) -> None:
    """Pytest's own folders are closed to others."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        file = folder / "secret"
        file.write_text("-----BEGIN PRIVATE KEY-----\nhunter2\n")
        for mode, warnings in ((0o644, [f"every user of this machine may read {file}; chmod o= {file}"]), (0o640, [])):
            file.chmod(mode)
            around = Surroundings(folder, {})
            parse({"file": "secret"}, around)
            assert around.warnings == warnings
        file.chmod(0o644)
        folder.chmod(0o700)
        around = Surroundings(folder, {})
        parse({"file": "secret"}, around)
        assert around.warnings == []


@pytest.mark.parametrize("form", [[], ["-aes256"], ["-aes256", "-traditional"]])
def test_a_key_and_its_pass_phrase_belong_together(form: list[str], tmp_path: Path) -> None:
    command = ["openssl", "genrsa", *form, *(["-passout", "pass:hunter2"] if form else []), "-out", "key.pem", "2048"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    key = external.private_key({"file": "key.pem"}, Surroundings(tmp_path, {}))
    url = BrokerUrl("mqtts", "h", 8883)
    said = {
        password: [text for _, text, *_ in pass_phrase(Broker(url=url, key=key, key_password=password), {})]
        for password in (None, Secret("hunter2"))
    }
    if form:
        assert said[None][0].startswith("it has a pass phrase; add key_password, or a key without: nobody is there to type it")
        assert not said[Secret("hunter2")]
    else:
        assert not said[None]
        assert said[Secret("hunter2")] == ["has no effect, since key has no pass phrase; remove it"]
    alone = [text for _, text, *_ in pass_phrase(Broker(url=url, key_password=Secret("hunter2")), {})]
    assert alone == ["has no effect without key, whose pass phrase it is; add cert and key"]


@pytest.mark.parametrize(
    ("written", "port", "path", "shown"),
    [
        ("ws://host", 80, "/mqtt", "ws://host:80/mqtt"),
        ("wss://host/", 443, "/", "wss://host:443/"),
        ("wss://[::1]:8084/a/b?token=secret", 8084, "/a/b?token=secret", "wss://[::1]:8084/a/b"),
    ],
)
def test_a_websocket_has_a_path(written: str, port: int, path: str, shown: str, tmp_path: Path) -> None:
    url = external.broker_url(written, Surroundings(tmp_path, {}))
    assert (url.port, url.path, str(url)) == (port, path, shown)
    with pytest.raises(ValueError, match="expected a path of printable ASCII"):
        external.broker_url("ws://host/a b", Surroundings(tmp_path, {}))
