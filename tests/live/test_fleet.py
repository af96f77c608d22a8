"""A device of a fleet: the real daemon, mosquitto, and a static https server with its own CA."""

from __future__ import annotations

import io
import json
import math
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from tests.support import models
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, edged, said, until
from tests.support.fleet import Server, Signer
from tests.support.scale import IS_SOAK

CONFIG = """
[device]
id = "press7"
state_dir = "state"
tags = {{ group = "presses", hall = "B" }}
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[fleet]
topic = "fleet/{{tags.group}}"
signed_by = "fleet.pub"
from = "{url}"
ca = "{ca}"
[source.in]
type = "mqtt"
topic = "in"
decode = {{ format = "json", fields = ["v"] }}
[model.normal]
path = "normal.onnx"
{guard}
[pipeline.p]
source = "in"
model = "normal"
publish = {{ topic = "out/{{tags.hall}}" }}
"""


def times(factor: float) -> bytes:
    """y = factor * x."""
    path = Path(f"/tmp/edged-test-{uuid.uuid4().hex}.onnx")
    nodes = [h.make_node("Mul", ["x", "w"], ["y"])]
    models.save(
        path, nodes, [models.value("x", T.FLOAT, ["n", 1])], [models.value("y", T.FLOAT, ["n", 1])],
        [nh.from_array(np.array([factor], np.float32), "w")],
    )  # fmt: skip
    data = path.read_bytes()
    path.unlink()
    return data


def fragile() -> bytes:
    """y = sqrt(x + 1000): no number below that, which no trial finds."""
    path = Path(f"/tmp/edged-test-{uuid.uuid4().hex}.onnx")
    nodes = [h.make_node("Add", ["x", "w"], ["s"]), h.make_node("Sqrt", ["s"], ["y"])]
    models.save(
        path, nodes, [models.value("x", T.FLOAT, ["n", 1])], [models.value("y", T.FLOAT, ["n", 1])],
        [nh.from_array(np.array([1000], np.float32), "w")],
    )  # fmt: skip
    data = path.read_bytes()
    path.unlink()
    return data


class Device:
    """The daemon, and what is announced to it."""

    def __init__(self, client: Client, server: Server, signer: Signer) -> None:
        self.client, self.server, self.signer = client, server, signer
        self.counter = 0

    def announce(self, version: str, data: bytes, path: str = "", **changes: Any) -> None:
        self.counter += 1
        path = path or f"/normal-{version}.onnx"
        self.server.files.setdefault(path, data)
        said = {"version": version, "counter": self.counter, "url": self.server.url + path[1:], **changes}
        self.client.publish("fleet/presses/model/normal", self.signer.announce(data, **said), retain=True)

    def reported(self, condition: Callable[[Any], object], limit_s: float = 20.0) -> Any:
        """The first report from now on, or the newest, that fits."""

        def look() -> Any:
            seen = [one.json for one in self.client.messages if one.topic == "fleet/presses/report/press7"]
            return next((one["models"]["normal"] for one in reversed(seen[-1:]) if condition(one["models"]["normal"])), None)

        return self.client.until(look, limit_s, "a report")

    def reported_reason(self, why: str) -> Any:
        return self.reported(lambda m: why in m.get("reason", ""))

    def answer(self, value: float) -> float:
        self.client.forget()
        self.client.publish("in", json.dumps({"v": value}))
        found = self.client.wait("out/B")[0].json["outputs"]["y"][0]  # or of an input before, that was not finite
        return math.nan if found is None else float(found)


@pytest.fixture
def guard() -> str:
    return ""


@pytest.fixture
def device(tmp_path: Path, server: Server, signer: Signer, broker: Broker, guard: str) -> Iterator[Device]:
    (tmp_path / "normal.onnx").write_bytes(times(2))
    (tmp_path / "fleet.pub").write_bytes(signer.public)
    text = CONFIG.format(port=broker.port, url=server.url, ca=server.ca, guard=guard)
    with Client(broker.port, "edged/#", "out/#", "fleet/#") as client, Daemon(tmp_path, text) as daemon:
        client.health(lambda x: x["brokers"]["main"]["state"] == "connected", device="press7")
        one = Device(client, server, signer)
        one.daemon = daemon  # type: ignore[attr-defined]
        yield one


def test_a_model_comes_over_mqtt(device: Device) -> None:
    assert device.answer(3) == 6
    assert device.client.of("out/B")[0].json["tags"] == {"group": "presses", "hall": "B"}
    device.announce("4", times(4))
    report = device.reported(lambda m: m["state"] == "running")
    assert report == {"wanted": "4", "running": "4", "state": "running", "counter": 1}
    assert device.answer(3) == 12
    device.daemon.kill()  # type: ignore[attr-defined]
    device.daemon.start()  # type: ignore[attr-defined]
    device.client.health(lambda x: x["brokers"]["main"]["state"] == "connected", device="press7")
    assert device.answer(3) == 12
    device.announce("4", b"", back=True, url="", sha256="", size=0)
    device.reported(lambda m: m["running"] == "local" and m["state"] == "running")
    assert device.answer(3) == 6


def test_what_cannot_be_taken_changes_nothing_and_the_next_one_works(device: Device) -> None:
    good = times(4)
    tried: list[tuple[str, dict[str, Any], str]] = [
        ("hash", {"sha256": "0" * 64}, "another SHA-256"),
        ("size", {"size": 5}, "announced"),
        ("url", {"url": "https://elsewhere/x.onnx"}, "not below"),
        ("old", {"counter": 0}, "replay"),
        ("over", {"until": 5}, "expired"),
        ("clock", {"signed_at": int(time.time()) + 10**6, "until": int(time.time()) + 10**7}, "clock"),
        ("disk", {"size": 1 << 40}, "fleet.max_bytes"),
    ]
    for version, changes, why in tried:
        device.announce(version, good, **changes)
        report = device.reported_reason(why)
        assert report["running"] == "local", report
    device.announce("junk", b"this is no model")
    assert "ONNX" in device.reported(lambda m: m["wanted"] == "junk" and m["state"] == "failed")["reason"]
    device.client.publish("fleet/presses/model/normal", Signer().announce(good, counter=99), retain=True)
    device.reported(lambda m: "none of the keys" in m.get("reason", ""))
    assert device.answer(3) == 6
    device.announce("4", good, url=f"{device.server.url}nowhere.onnx")
    assert "404" in device.reported(lambda m: m["state"] == "waiting")["reason"]
    device.announce("5", good)
    device.reported(lambda m: m["running"] == "5")
    assert device.answer(3) == 12


def test_one_that_changes_half_way(device: Device) -> None:
    def never(request: Any, data: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[:10])
        while not device.server.stop.wait(0.05):
            request.wfile.write(b"x")

    device.server.behaviour["/slow.onnx"] = never
    device.announce("4", times(4) + b"x" * 100_000, path="/slow.onnx")
    device.reported(lambda m: m["state"] == "fetching")
    device.announce("5", times(5))
    device.reported(lambda m: m["running"] == "5" and m["state"] == "running")
    assert device.answer(3) == 15


def test_a_redirect_is_not_followed_and_two_that_contradict_are_refused(device: Device) -> None:
    def elsewhere(request: Any, data: bytes) -> None:
        request.send_response(302)
        request.send_header("Location", f"{device.server.url}normal-5.onnx")
        request.end_headers()

    device.server.files["/normal-5.onnx"] = times(5)
    device.server.behaviour["/moved.onnx"] = elsewhere
    device.announce("moved", times(5), path="/moved.onnx")
    assert "the server redirects" in device.reported(lambda m: m["wanted"] == "moved" and m["state"] == "failed")["reason"]
    assert [path for path, _ in device.server.asked] == ["/moved.onnx"]
    device.announce("5", times(5))
    device.reported(lambda m: m["running"] == "5" and m["state"] == "running")
    device.announce("6", times(6), counter=device.counter)
    report = device.reported_reason("two different announcements")
    assert (report["state"], report["running"]) == ("refused", "5")
    assert device.answer(3) == 15
    device.announce("7", times(7))
    device.reported(lambda m: m["running"] == "7" and m["state"] == "running")


@pytest.mark.skipif(not IS_SOAK, reason="half a minute of waiting: make soak")
def test_a_server_that_stalls_or_sends_a_byte_a_second(device: Device) -> None:
    def sends(pause_s: float) -> Callable[[Any, bytes], None]:
        def answer(request: Any, data: bytes) -> None:
            request.send_response(200)
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            for byte in data:
                request.wfile.write(bytes([byte]))
                if device.server.stop.wait(pause_s):
                    return

        return answer

    for version, pause_s, why in (("stalls", 60.0, "timed out"), ("slow", 1.0, "less than 256 bytes per second")):
        device.server.behaviour[f"/{version}.onnx"] = sends(pause_s)
        device.announce(version, times(4), path=f"/{version}.onnx")
        report = device.reported(lambda m, v=version: m["wanted"] == v and m["state"] == "waiting", 40)  # type: ignore[misc]
        assert why in report["reason"]
        assert report["running"] == "local"
        assert device.answer(3) == 6
    device.announce("5", times(5))
    device.reported(lambda m: m["running"] == "5" and m["state"] == "running")
    assert device.answer(3) == 15


def test_others_take_it(device: Device) -> None:
    device.announce("4", times(4), devices=["press1"])
    device.reported(lambda m: m["state"] == "not_for_us")
    device.announce("4", times(4), tags={"hall": "B"})
    device.reported(lambda m: m["running"] == "4")
    assert device.answer(3) == 12


def test_a_folder_comes_as_a_tar(device: Device) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in (("model.onnx", times(7)), ("model.toml", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    device.announce("7", archive.getvalue(), path="/normal-7.tar")
    device.reported(lambda m: m["running"] == "7")
    assert device.answer(3) == 21


def test_a_laptop_leads(device: Device, signer: Signer, tmp_path: Path) -> None:
    """`edged fleet`: a canary, then the rest; a version that cannot run stops the roll-out; back again."""
    (tmp_path / "signer.key").write_bytes(signer.private)
    where = ["--broker", f"mqtt://127.0.0.1:{device.client.port}", "--to", "fleet/presses", "--json"]
    sure = ["--key", str(tmp_path / "signer.key"), "--wait", "--percent", "0.1", "--timeout", "20", *where]

    def push(data: bytes, version: str) -> tuple[int, list[Any]]:
        file = tmp_path / f"v{version}.onnx"
        file.write_bytes(data)
        device.server.files[f"/{file.name}"] = data
        arguments = ["push", str(file), "--name", "normal", "--as", version, "--url", device.server.url, *sure]
        code, out, err = said(edged("fleet", *arguments))
        assert not err, err
        return code, [json.loads(line) for line in out.splitlines()]

    device.reported(lambda m: m["running"] == "local")
    code, steps = push(times(5), "5")
    assert code == 0
    assert [(step["meant"], step["running"]) for step in steps] == [(1, 1), (1, 1)]
    assert device.answer(3) == 15
    code, steps = push(b"no model at all", "6")
    assert code != 0
    assert len(steps) == 1
    assert "failed" in steps[0]["bad"]["press7"]
    assert device.answer(3) == 15
    code, out, err = said(edged("fleet", "rollback", "normal", *sure))
    assert code == 0, err
    assert device.answer(3) == 6
    code, out, _ = said(edged("fleet", "status", *where))
    assert code == 0
    assert json.loads(out)[0]["models"]["normal"]["running"] == "local"


def test_a_canary_then_the_rest(tmp_path: Path, server: Server, signer: Signer, broker: Broker) -> None:
    """Four daemons: the canary first, then the rest; a version that its guard leaves gets no further than the canary."""
    names = ("press1", "press2", "press3", "press4")
    (tmp_path / "signer.key").write_bytes(signer.private)
    guard = 'guard = { for = "1s", not_finite = 0.01 }'
    with Client(broker.port, "edged/#", "fleet/#") as client, ExitStack() as stack:
        for name in names:
            folder = tmp_path / name
            folder.mkdir()
            (folder / "normal.onnx").write_bytes(times(2))
            (folder / "fleet.pub").write_bytes(signer.public)
            text = CONFIG.format(port=broker.port, url=server.url, ca=server.ca, guard=guard).replace("press7", name)
            stack.enter_context(Daemon(folder, text))
            client.health(lambda x: x["brokers"]["main"]["state"] == "connected", device=name)

        def runs() -> dict[str, str]:
            reports = {one.topic.rsplit("/", 1)[1]: one.json for one in client.messages if "/report/" in one.topic}
            return {name: report["models"]["normal"]["running"] for name, report in reports.items()}

        def push(version: str, data: bytes) -> tuple[int, list[Any]]:
            (tmp_path / f"{version}.onnx").write_bytes(data)
            server.files[f"/{version}.onnx"] = data
            code, out, err = said(
                edged(
                    "fleet", "push", str(tmp_path / f"{version}.onnx"), "--name", "normal", "--as", version, "--url", server.url,
                    "--key", str(tmp_path / "signer.key"), "--broker", f"mqtt://127.0.0.1:{broker.port}", "--to", "fleet/presses",
                    "--wait", "--percent", "1", "--timeout", "40", "--json",
                ), 90,
            )  # fmt: skip
            assert not err, err
            return code, [json.loads(line) for line in out.splitlines()]

        client.until(lambda: len(runs()) == 4, what="four devices")
        code, steps = push("5", times(5))
        assert (code, [(one["meant"], one["running"]) for one in steps]) == (0, [(1, 1), (4, 4)])
        assert runs() == dict.fromkeys(names, "5")
        stop = threading.Event()

        def feed() -> None:
            while not stop.wait(0.01):
                client.publish("in", '{"v":-5000}')

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            code, steps = push("bad", fragile())
        finally:
            stop.set()
            feeder.join()
        assert code == 70
        (step,) = steps
        ((canary, why),) = step["bad"].items()
        assert "not finite" in why
        assert runs() == dict.fromkeys(names, "5")
        log = {name: (tmp_path / name / "edged.toml.log").read_text() for name in names}
        assert [name for name in names if "state=guarded wanted=bad" in log[name]] == [canary], "nobody else tried it"


class TestGuard:
    @pytest.fixture
    def guard(self) -> str:
        return 'guard = { for = "2s", not_finite = 0.01, slower = 50.0 }'

    def test_goes_back_by_itself(self, device: Device) -> None:
        for _ in range(30):
            device.client.publish("in", '{"v":1}', qos=0)
        device.announce("nan", fragile())
        device.reported(lambda m: m["state"] == "guarded" and m["running"] == "nan")
        for _ in range(30):
            device.client.publish("in", '{"v":-5000}')
        report = device.reported(lambda m: m["state"] == "went_back")
        assert "not finite" in report["reason"]
        assert report["running"] == "local"
        assert device.answer(3) == 6
        device.announce("5", times(5))
        device.reported(lambda m: m["state"] == "running" and m["running"] == "5")
        assert device.answer(3) == 15

    def test_also_for_a_watched_file(self, device: Device, tmp_path: Path) -> None:
        (tmp_path / "new.onnx").write_bytes(fragile())
        (tmp_path / "new.onnx").replace(tmp_path / "normal.onnx")
        device.client.until(lambda: [m for m in device.client.messages if m.topic.endswith("/event") and b"reload" in m.payload])
        for _ in range(30):
            device.client.publish("in", '{"v":-5000}')
        event = device.client.until(
            lambda: [m for m in device.client.messages if m.topic.endswith("/event") and b'"guard"' in m.payload]
        )
        assert "not finite" in event[0].json["reason"]
        until(lambda: device.answer(3) == 6, what="the version before")
