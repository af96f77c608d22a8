"""Inputs that end the daemon, and what must hold then: its own watchdog, the bound of its memory, a second signal."""

from __future__ import annotations

import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edged.daemon.lifecycle import STOP_DEADLINE_S
from edged.errors import EX_SOFTWARE
from edged.notation.units import MIB
from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, is_pending, until

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[memory]
budget = "250MiB"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.in]
type = "mqtt"
topic = "in/x"
decode = {{ format = "csv", fields = ["v"] }}
[model.m]
path = "{path}"
run = "inline"
[pipeline.p]
source = "in"
model = "m"
publish = {{ topic = "out/p" }}
"""
WATCHDOG_S = 2.0
HANGS = 13


def hangs(path: Path) -> Path:
    """y = x, and a loop without end where one of the numbers is 13."""
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["goes"]), h.make_node("Add", ["was", "one"], ["is"])],
        "body",
        [models.value("i", T.INT64, []), models.value("go", T.BOOL, []), models.value("was", T.FLOAT, [])],
        [models.value("goes", T.BOOL, []), models.value("is", T.FLOAT, [])],
    )
    nodes = [
        h.make_node("Equal", ["x", "hangs"], ["each"]),
        h.make_node("Cast", ["each"], ["numbers"], to=T.FLOAT),
        h.make_node("ReduceMax", ["numbers"], ["most"], keepdims=0),
        h.make_node("Cast", ["most"], ["has"], to=T.BOOL),
        h.make_node("Loop", ["", "has", "nought"], ["end"], body=body),
        h.make_node("Add", ["x", "end"], ["y"]),
    ]
    constants = [nh.from_array(np.float32(v), name) for name, v in {"hangs": HANGS, "nought": 0, "one": 1}.items()]
    return models.save(path, nodes, [models.value("x", T.FLOAT, ["n", 1])], [models.value("y", T.FLOAT, ["n", 1])], constants)


def fills(path: Path) -> Path:
    """y = the sum of x zeros, written out: 4 bytes each."""
    nodes = [
        h.make_node("Cast", ["x"], ["whole"], to=T.INT64),
        h.make_node("Reshape", ["whole", "flat"], ["size"]),
        h.make_node("ConstantOfShape", ["size"], ["zeros"]),
        h.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        h.make_node("Add", ["x", "sum"], ["y"]),
    ]
    flat = nh.from_array(np.array([1], np.int64), "flat")
    return models.save(path, nodes, [models.value("x", T.FLOAT, [1, 1])], [models.value("y", T.FLOAT, [1, 1])], [flat])


def answers(client: Client) -> list[int]:
    results = [seen for seen in client.messages if seen.topic.startswith("out/")]
    return [int(np.ravel(seen.json["outputs"]["y"])[0]) for seen in results]


def wait_connected(client: Client) -> None:
    client.health(lambda found: found["brokers"]["main"]["state"] == "connected")


def ends(daemon: Daemon, number: signal.Signals = signal.SIGALRM) -> None:
    """By its own watchdog, unless told otherwise. Then it is started as systemd would; it may end before anybody looks."""
    assert daemon.wait() == -number
    daemon.spawn()


def test_an_input_on_which_the_model_hangs(broker: Broker, tmp_path: Path) -> None:
    """It ends the daemon twice among others and once alone, is dropped then, and all others are answered."""
    text = TEXT.format(port=broker.port, path=hangs(tmp_path / "m.onnx"))
    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, text, watchdog_s=WATCHDOG_S)
        daemon.start()
        wait_connected(client)
        client.publish_all("in/x", [str(v) for v in range(1, 31)])
        for _ in range(3):
            ends(daemon)
        client.health(lambda found: found["brokers"]["main"]["unacked"] == 0 and found["sources"]["in"]["dropped"])
        client.publish("in/x", "31")
        wanted = [v for v in range(1, 32) if v != HANGS]
        client.until(lambda: set(answers(client)) >= set(wanted) or None, what=f"{wanted}")
        found = client.health(lambda found: found["state"] == "healthy")
        assert found["sources"]["in"]["dropped"] == {"poison": 1}
        assert found["pipelines"]["p"]["dropped"] == {}
        assert found["last_run_ended_in"] == ["model.m"]
        assert balanced(found)
        assert set(answers(client)) == set(wanted)
        [event] = [seen.json for seen in client.of("edged/t/event") if seen.json["event"] == "poison"]
        assert (event["topic"], event["stage"]) == ("in/x", "model.m")
        assert "edged/model/onnx.py" in daemon.log  # the stack of what hung
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        daemon.start()  # the broker has it no more, and nothing is held against anybody
        client.publish("in/x", "32")
        client.until(lambda: 32 in answers(client) or None)
        assert "last_run_ended_in" not in client.health()
        assert daemon.stop() == 0
        daemon.assert_no_bug()


def test_two_of_them_and_what_came_between(broker: Broker, tmp_path: Path) -> None:
    """The second is found as the first was; one that comes anew later costs one restart, since it is known."""
    text = TEXT.format(port=broker.port, path=hangs(tmp_path / "m.onnx"))
    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, text, watchdog_s=WATCHDOG_S)
        daemon.start()
        wait_connected(client)
        client.publish_all("in/x", ["1", "13", "2", "13.0", "3"])
        for _ in range(4):
            ends(daemon)
        client.until(lambda: set(answers(client)) == {1, 2, 3} or None)
        client.health(
            lambda found: found["sources"]["in"]["dropped"] == {"poison": 1} and found["brokers"]["main"]["unacked"] == 0
        )
        assert [seen.json["event"] for seen in client.of("edged/t/event")].count("poison") == 2
        client.publish_all("in/x", ["4", "13", "5"])
        ends(daemon)
        client.until(lambda: set(answers(client)) == {1, 2, 3, 4, 5} or None)
        client.health(
            lambda found: found["sources"]["in"]["dropped"] == {"poison": 1} and found["brokers"]["main"]["unacked"] == 0
        )
        assert daemon.stop() == 0


CRASHES = """
import os

def step(row):
    if row[0] == 13:
        os.abort()
    return row
"""


def test_an_input_on_which_a_step_crashes(broker: Broker, tmp_path: Path) -> None:
    """The same, in another stage; the request that it came with is told."""
    (tmp_path / "steps.py").write_text(CRASHES)
    text = TEXT.format(port=broker.port, path=hangs(tmp_path / "m.onnx"))
    text = text.replace('model = "m"\n', 'model = "m"\npreprocess = "steps.py:step"\n')
    text = text.replace('topic = "in/x"\n', 'topic = "in/x"\nreply = "answers/+"\n')
    with Client(broker.port, "edged/#", "out/#", "answers/#") as client:
        daemon = Daemon(tmp_path, text)
        daemon.start()
        wait_connected(client)
        client.publish_all("in/x", ["1", "2"])
        client.ask("in/x", "13", "answers/a", b"13")
        client.publish_all("in/x", ["3", "4"])
        for _ in range(3):
            ends(daemon, signal.SIGABRT)
        client.until(lambda: set(answers(client)) == {1, 2, 3, 4} or None)
        [answer] = client.wait("answers/a")
        assert (answer.correlation, answer.json["error"]["code"]) == (b"13", "poison")
        found = client.health(lambda found: found["brokers"]["main"]["unacked"] == 0)
        assert found["sources"]["in"]["dropped"] == {"poison": 1}
        assert found["last_run_ended_in"] == ["broker.main: inputs"]
        assert balanced(found)
        assert daemon.stop() == 0


@pytest.mark.parametrize("run", ["inline", "worker"])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_retained_input_on_which_the_model_hangs(broker: Broker, tmp_path: Path, run: str, qos: int) -> None:
    """It comes with every subscription, at QoS 0 owes nobody anything, and must not end each run forever."""
    text = TEXT.format(port=broker.port, path=hangs(tmp_path / "m.onnx"))
    text = (
        text.replace('topic = "in/x"', f'topic = "in/{{name}}"\nretained = true\nqos = {qos}')
        .replace('"inline"', f'"{run}"')
        .replace("out/p", "out/{name}")
    )
    with Client(broker.port) as client:
        for topic, value in {"a": 1, "b": HANGS, "c": 3}.items():
            client.publish(f"in/{topic}", str(value), qos=0, retain=True)
        daemon = Daemon(tmp_path, text, watchdog_s=WATCHDOG_S)
        daemon.spawn()
        for _ in range(3):
            if run == "inline":
                ends(daemon)
            else:
                assert daemon.wait(limit_s=60) == EX_SOFTWARE
                daemon.spawn()
        found = client.health(lambda found: found["sources"]["in"]["dropped"] == {"poison": 1})
        client.until(lambda: {1, 3} <= set(answers(client)) or None)
        client.publish("in/d", "4", qos=qos)
        client.until(lambda: 4 in answers(client) or None)
        assert balanced(found)
        assert daemon.stop() == 0


def test_a_run_that_wants_all_memory_fails_alone(broker: Broker, tmp_path: Path) -> None:
    """Two gigabytes, then what fits: the machine is spared, and so is the process. A reload sets the bound anew."""
    text = TEXT.format(port=broker.port, path=fills(tmp_path / "m.onnx"))
    with Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
        wait_connected(client)
        client.publish_all("in/x", ["1", "500000000", "2", "50000000000", "3"])
        client.until(lambda: answers(client) == [1, 2, 3] or None)
        found = client.health(lambda found: found["pipelines"]["p"]["dropped"] == {"model_error": 2})
        assert found["memory"]["highest_mib"] < found["memory"]["budget_mib"]
        assert found["brokers"]["main"]["unacked"] == 0
        assert balanced(found)
        before = data_room(daemon)
        daemon.config.write_text(text.replace("250MiB", "350MiB"))
        until(lambda: before + 90 * MIB < data_room(daemon) < before + 110 * MIB, what="the new bound")


def data_room(daemon: Daemon) -> int:
    """Addresses that the bound leaves beyond those in use, to which the stacks of threads that have ended belong."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    used = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:"))
    return resource.prlimit(daemon.process.pid, resource.RLIMIT_DATA)[0] - used


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_run_that_does_not(broker: Broker, tmp_path: Path, kind: signal.Signals) -> None:
    """The first one is never seen: the loop is in the model."""
    text = TEXT.format(port=broker.port, path=hangs(tmp_path / "m.onnx"))
    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, text)
        daemon.start()
        wait_connected(client)
        client.publish("in/x", str(HANGS))
        used = daemon.cpu_s
        until(lambda: daemon.cpu_s - used > 0.5, what="the model to loop")
        daemon.signal(kind)
        until(lambda: not is_pending(daemon.process.pid, kind), what="the first to be taken")
        assert daemon.process.poll() is None
        started = time.monotonic()
        daemon.signal(kind)
        assert daemon.wait() == -kind
        assert time.monotonic() - started < STOP_DEADLINE_S / 2
        assert "event=stopping" not in daemon.log


SLOW_START = """
import pathlib, threading
pathlib.Path(__file__).with_name("began").touch()
gate = pathlib.Path(__file__).with_name("gate")
while not gate.exists():
    threading.Event().wait(0.01)

def step(row):
    return row
"""


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_ready_is_a_stop(broker: Broker, tmp_path: Path, kind: signal.Signals) -> None:
    (tmp_path / "steps.py").write_text(SLOW_START)
    text = TEXT.format(port=broker.port, path=hangs(tmp_path / "m.onnx")).replace(
        'model = "m"\n', 'model = "m"\npreprocess = "steps.py:step"\n'
    )
    daemon = Daemon(tmp_path, text)
    daemon.spawn()
    until((tmp_path / "began").exists)
    daemon.signal(kind)
    assert daemon.wait() == 0
    assert f"{kind.name} before READY" in daemon.log
    assert "READY=1" not in daemon.notices
    daemon.assert_no_bug()


def test_a_reload_asked_for_before_ready_is_done_after_it(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(SLOW_START)
    text = TEXT.format(port=broker.port, path=hangs(tmp_path / "m.onnx")).replace(
        'model = "m"\n', 'model = "m"\npreprocess = "steps.py:step"\n'
    )
    with Client(broker.port) as client:
        daemon = Daemon(tmp_path, text)
        daemon.spawn()
        until((tmp_path / "began").exists)
        daemon.signal(signal.SIGHUP)
        daemon.config.write_text(text.replace("out/p", "out/q"))
        (tmp_path / "gate").touch()
        until(lambda: "RELOADING=1" in daemon.notices)
        wait_connected(client)
        client.publish("in/x", "7")
        client.wait("out/q")
        assert daemon.stop() == 0
        daemon.assert_no_bug()


RAISES = """
import asyncio, sys

def step(row):
    if row[0] == 1:
        sys.exit(3)
    if row[0] == 2:
        raise KeyboardInterrupt
    if row[0] == 3:
        raise asyncio.CancelledError
    if row[0] == 4:
        raise GeneratorExit
    if row[0] == 5:
        raise BaseException("odd")
    return row

def after(outputs):
    if outputs["y"][0] == 6:
        sys.exit("six")
    if outputs["y"][0] == 7:
        raise KeyboardInterrupt
    return outputs
"""


def test_whatever_a_step_raises_costs_its_row(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(RAISES)
    text = TEXT.format(port=broker.port, path=hangs(tmp_path / "m.onnx")).replace(
        'model = "m"\n', 'model = "m"\npreprocess = "steps.py:step"\npostprocess = "steps.py:after"\n'
    )
    with Client(broker.port) as client, Daemon(tmp_path, text) as daemon:
        wait_connected(client)
        client.publish_all("in/x", [str(v) for v in range(10)])
        client.until(lambda: answers(client) == [0, 8, 9] or None)
        found = client.health(lambda found: found["pipelines"]["p"]["dropped"] == {"preprocess": 5, "postprocess": 2})
        assert balanced(found)
        daemon.wait_log("SystemExit: 3 (line 6 of steps.py)")
        assert daemon.process.poll() is None
