"""The configuration is edited while the daemon runs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker
from tests.support.daemon import EX_CONFIG, Client, Daemon, balanced, edged, said, until
from tests.support.pause import pause

TEXT = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[source.a]
type = "mqtt"
topic = "in/a"
decode = {{ format = "json", fields = ["v"] }}
[source.b]
type = "mqtt"
topic = "in/b"
decode = {{ format = "json", fields = ["v"] }}
[model.sum]
path = "{zoo}/score.onnx"
[pipeline.kept]
source = "a"
window = {{ size = 4 }}
publish = {{ topic = "out/kept" }}
[pipeline.edited]
source = "b"
model = "sum"
publish = {{ topic = "out/edited" }}
"""


class Stage:
    def __init__(self, daemon: Daemon, client: Client) -> None:
        self.daemon = daemon
        self.client = client
        self.text = daemon.config.read_text()

    def save(self, text: str) -> None:
        """As an editor does that writes a new file and renames it."""
        self.text = text
        new = self.daemon.config.with_suffix(".new")
        new.write_text(text)
        new.replace(self.daemon.config)

    def edit(self, before: str, after: str) -> None:
        assert before in self.text
        self.save(self.text.replace(before, after))

    def event(self, **facts: Any) -> Any:
        """The event of a reload with these facts."""

        def look() -> Any:
            found = [m.json for m in self.client.of("edged/t/event") if m.json["event"] == "reload"]
            return next((e for e in found if facts.items() <= e.items()), None)

        return self.client.until(look, what=f"a reload with {facts}")


@pytest.fixture
def stage(tmp_path: Path, zoo: Path) -> Iterator[Stage]:
    with (
        Broker(tmp_path, "max_queued_messages 0") as broker,
        Client(broker.port) as client,
        Daemon(tmp_path, TEXT.format(port=broker.port, zoo=zoo)) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        yield Stage(daemon, client)
        assert balanced(client.health())
        assert client.health()["brokers"]["main"]["connects"] == 1


def reload(daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
    return said(edged("reload", "-c", str(daemon.config), *arguments))


def test_what_did_not_change_goes_on(stage: Stage) -> None:
    """Its window keeps its samples and its results go on counting, while everything around it changes."""
    client = stage.client
    for value in range(6):
        client.publish("in/a", json.dumps({"v": value}))
    assert client.wait("out/kept")[0].json["outputs"]["v"] == [0, 1, 2, 3]
    client.publish("in/b", '{"v": 1}')
    client.wait("out/edited")
    stage.edit('"out/edited"', '"out/moved"')
    assert stage.event(ok=True)["changed"] == ["pipeline.edited: publish[0]"]
    client.publish("in/b", '{"v": 2}')
    moved = client.wait("out/moved")[0].json
    assert (moved["seq"], len(client.of("out/edited"))) == (2, 1)
    client.publish_all("in/a", ['{"v": 6}', '{"v": 7}'])
    second = client.wait("out/kept", 2)[1].json
    assert (second["outputs"]["v"], second["seq"]) == ([4, 5, 6, 7], 2)


def test_parts_come_and_go(stage: Stage) -> None:
    client = stage.client
    more = '[source.c]\ntype = "mqtt"\ntopic = "in/c"\ndecode = { format = "csv", fields = ["v"] }\n'
    more += '[pipeline.new]\nsource = "c"\npublish = { topic = "out/new" }\n'
    before = stage.text
    stage.save(more + before)
    event = stage.event(ok=True)
    assert event["added"] == ["source.c", "pipeline.new"]
    client.health(lambda h: h["brokers"]["main"]["state"] == "connected" and "c" in h["sources"])
    client.until(lambda: client.of("edged/t/source/c") or None)
    until(lambda: _publishes(client, "in/c", "7", "out/new"))
    stage.save(before)
    client.health(lambda h: set(h["sources"]) == {"a", "b"} and "new" not in h["pipelines"])
    client.until(lambda: any(m.payload == b"" for m in client.of("edged/t/source/c")) or None)
    client.publish("in/a", '{"v": 1}')
    assert client.health(lambda h: h["sources"]["a"]["rows"])["brokers"]["main"]["dropped"] == {}


def _publishes(client: Client, topic: str, payload: str, answer: str) -> bool:
    client.publish(topic, payload)
    return bool(client.of(answer))


def test_a_file_that_is_wrong_changes_nothing(stage: Stage) -> None:
    client, good = stage.client, stage.text
    stage.save(good.replace('source = "b"', 'source = "bee"').replace("size = 4", "size = 0"))
    event = stage.event(ok=False)
    assert len(event["errors"]) == 2
    errors = client.health(lambda h: h.get("config_errors"))["config_errors"]
    assert errors == event["errors"]
    until(lambda: any("configuration refused" in n for n in stage.daemon.notices))
    assert all(f"{place}: " in stage.daemon.log for place in errors)
    client.publish("in/b", '{"v": 1}')
    client.wait("out/edited")
    code, _, err = reload(stage.daemon, "--wait")
    assert code == EX_CONFIG
    assert [line[: len(place)] for line, place in zip(err.splitlines()[:-1], errors, strict=True)] == errors
    stage.save(good)
    client.health(lambda h: "config_errors" not in h)


def _in_three_pieces(path: Path, text: str) -> None:
    third = len(text) // 3
    path.write_text("")
    for piece in (text[:third], text[third : 2 * third], text[2 * third :]):
        with path.open("a") as file:
            file.write(piece)
        pause(0.4, "whoever writes the file takes its time")


def _by_sed(path: Path, text: str) -> None:
    new = path.with_name("sedXq1")
    new.write_text(text)
    new.replace(path)


def _by_vim(path: Path, text: str) -> None:
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)
    path.with_name(path.name + "~").unlink()


def _by_symlink(path: Path, text: str) -> None:
    folder = path.with_name(f"data-{time.monotonic_ns()}")
    folder.mkdir()
    (folder / path.name).write_text(text)
    link = path.with_name("link")
    link.symlink_to(folder / path.name)
    link.replace(path)


def _deleted_first(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def _fifty_times(path: Path, text: str) -> None:
    for i in range(50):
        path.write_text(text if i % 2 else text + "# once more\n")


@pytest.mark.parametrize("save", [_in_three_pieces, _by_sed, _by_vim, _by_symlink, _deleted_first, _fifty_times])
def test_however_it_is_saved(stage: Stage, save: Callable[[Path, str], None]) -> None:
    client = stage.client
    for n in (1, 2):
        save(stage.daemon.config, stage.text.replace('"out/edited"', f'"out/{n}"'))
        until(lambda n=n: _publishes(client, "in/b", '{"v": 1}', f"out/{n}"))  # type: ignore[misc]
    client.until(lambda: len(applied(client)) >= 2 or None, what="two reloads")
    assert [e["changed"] for e in applied(client)] == [["pipeline.edited: publish[0]"]] * 2


def applied(client: Client) -> list[Any]:
    return [m.json for m in client.of("edged/t/event") if m.json["event"] == "reload" and m.json["ok"]]


def test_the_same_again_causes_nothing(stage: Stage) -> None:
    stage.save(stage.text)
    code, out, _ = reload(stage.daemon, "--wait")
    assert code == 0
    assert out.endswith("nothing changed\n")
    assert not [m for m in stage.client.of("edged/t/event") if m.json["event"] == "reload"]


def test_a_burst_of_signals(stage: Stage) -> None:
    stage.daemon.config.write_text(stage.text.replace('"out/edited"', '"out/moved"'))
    for _ in range(50):
        stage.daemon.signal(signal.SIGHUP)
    stage.event(ok=True)
    until(lambda: stage.daemon.notices.count("RELOADING=1") == len([n for n in stage.daemon.notices if n == "READY=1"]) - 1)
    assert 1 <= stage.daemon.notices.count("RELOADING=1") < 50


def test_a_command_gets_its_answer(stage: Stage) -> None:
    stage.daemon.config.write_text(stage.text.replace('id = "t"', 'id = "other"').replace("size = 4", "size = 5"))
    code, out, _ = reload(stage.daemon, "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["changed"] == ["pipeline.kept: window"]
    assert answer["at_start"] == ["device.id"]
    assert stage.client.health()["config_at_start"] == ["device.id"]
    os.unlink(stage.daemon.config)
    code, _, err = reload(stage.daemon, "--wait")
    assert code == EX_CONFIG
    assert "there is no such file" in err


def test_no_daemon_to_ask(tmp_path: Path) -> None:
    code, _, err = said(edged("reload", "-c", str(tmp_path / "edged.toml")))
    assert code == 69
    assert "no edged runs with" in err


WHO_WAITS = """
import sys, threading
frame = sys._current_frames()[threading.main_thread().ident]
names = []
while frame is not None:
    names.append(frame.f_code.co_name)
    frame = frame.f_back
with open({log!r}, "a") as file:
    print(*names, file=file)
def double(x):
    return x * 2
"""
"""A step of a user that notes what the main thread does while it is loaded."""


def test_the_loop_does_not_wait_for_a_step_that_is_loaded(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "loaded"
    (tmp_path / "steps.py").write_text(WHO_WAITS.format(log=str(log)))
    stage.edit('source = "b"\n', 'source = "b"\npreprocess = ["steps.py:double"]\n')
    assert stage.event()["ok"], stage.event()
    told = log.read_text().splitlines()
    assert told
    assert not [names for names in told if "assemble" in names]
    stage.client.publish("in/b", '{"v": 3}')
    stage.client.wait("out/edited")


def test_a_step_that_is_edited_runs(stage: Stage, tmp_path: Path) -> None:
    client, steps = stage.client, tmp_path / "steps.py"

    def answered(value: int) -> Any:
        client.forget()
        client.publish("in/b", json.dumps({"v": value}))
        return client.wait("out/edited")[0].json["outputs"]

    plain = answered(12)
    steps.write_text("def step(x):\n    return x * 2\n")
    stage.edit('source = "b"\n', 'source = "b"\npreprocess = ["steps.py:step"]\n')
    assert stage.event()["ok"]
    assert answered(6) == plain
    steps.write_text("def step(x):\n    return x * 4\n")
    assert stage.event()["ok"]
    assert answered(3) == plain
    steps.write_text("def step(x):\n    return y\n")
    assert not stage.event()["ok"]
    assert answered(3) == plain  # the one before goes on
