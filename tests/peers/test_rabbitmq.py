"""RabbitMQ with its plugin for MQTT 3.1.1 (Debian's 3.10), which hangs up on MQTT 5: nothing is configured for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.test_aedes import CONFIG, NAME, Witness, has_settled
from tests.support.broker import free_port
from tests.support.daemon import Daemon, until
from tests.support.pause import pause

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_S = 90.0


@pytest.fixture
def rabbitmq(tmp_path: Path) -> Iterator[int]:
    """Its port for MQTT. It runs as whoever runs the tests, in a folder of theirs, and knows no other node."""
    if not PROGRAM.exists():
        pytest.fail("RabbitMQ is not installed: apt-get install rabbitmq-server")
    port, node, folder = free_port(), free_port(), tmp_path / "rabbit"
    folder.mkdir()
    (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\nloopback_users = none\n"
    )
    environ = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"edged{node}@localhost",
        "RABBITMQ_NODE_PORT": str(node),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(free_port()),
    }
    log = (tmp_path / "rabbitmq.log").open("wb")
    with log, subprocess.Popen([PROGRAM], env=environ, stdout=log, stderr=log) as process:
        try:
            _wait_until_open(port, process, tmp_path / "rabbitmq.log")
            yield port
        finally:
            process.terminate()
            subprocess.run(["epmd", "-kill"], env=environ, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            pause(0.2, "between two looks")
    pytest.fail(f"RabbitMQ did not start:\n{log.read_text(errors='replace')[-3000:]}")


def test_it_is_spoken_to_in_3_1_1_without_a_word_of_configuration(rabbitmq: int, tmp_path: Path) -> None:
    text = CONFIG.format(port=rabbitmq, version="auto", name=NAME)
    with Witness(rabbitmq) as witness, Daemon(tmp_path, text) as daemon:
        until(lambda: witness.connects == 1, what="edged at the broker")
        witness.publish(range(50))
        until(lambda: witness.values == list(range(50)), what="every number once")
        until(lambda: has_settled(witness.health), what="ledgers that balance")
        daemon.wait_log("version=3.1.1")
