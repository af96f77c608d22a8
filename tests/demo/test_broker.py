from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from edged.demo.broker import NoBroker, Program, broker, find
from edged.demo.place import port
from tests.support.broker import find_mosquitto, free_port
from tests.support.lacking import lacking

HERE = Path(sys.executable).parent


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without mosquitto where Debian puts it."""
    monkeypatch.setattr("edged.demo.broker.SBIN", "/nonexistent")


@pytest.mark.usefixtures("bare")
def test_mosquitto_is_the_first_choice(tmp_path: Path) -> None:
    path = program(tmp_path, "mosquitto")
    program(tmp_path, "amqtt")
    found = find(None, str(tmp_path), tmp_path)
    assert (found.name, found.path, found.version) == ("mosquitto", str(path), "5")


@pytest.mark.usefixtures("bare")
def test_amqtt_is_the_second(tmp_path: Path) -> None:
    path = program(tmp_path, "amqtt")
    found = find(None, "/nonexistent", tmp_path)
    assert (found.name, found.path, found.version) == ("amqtt", str(path), "3.1.1")


def test_amqtt_can_be_asked_for(tmp_path: Path) -> None:
    program(tmp_path, "mosquitto")
    program(tmp_path, "amqtt")
    assert find("amqtt", str(tmp_path), tmp_path).name == "amqtt"


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("name", [None, "mosquitto", "amqtt"])
def test_without_a_broker_it_says_what_to_install(name: str | None, tmp_path: Path) -> None:
    with pytest.raises(NoBroker, match="apt install mosquitto"):
        find(name, "/nonexistent", tmp_path)


def test_a_broker_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    path = program(tmp_path, "mosquitto")
    path.write_text("#!/bin/sh\necho no such option\nexit 3\n")
    nothing = Program("mosquitto", str(path), "", "5")
    with pytest.raises(NoBroker, match="no such option"), broker(nothing, tmp_path, free_port()):
        pass


@pytest.mark.parametrize("name", ["mosquitto", "amqtt"])
def test_it_takes_connections_and_is_gone_afterwards(name: str, tmp_path: Path) -> None:
    if name == "mosquitto" and find_mosquitto() is None:
        lacking("mosquitto")
    number = free_port()
    with broker(find(name, "/usr/bin", HERE), tmp_path, number):
        socket.create_connection(("127.0.0.1", number), 5).close()
    assert port(number) == number
