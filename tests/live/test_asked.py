"""Devices that say nothing unless they are asked, and ports that several sources share: the daemon as a user runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edged.sources.recording import read_header, read_records
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, Sensor, balanced, edged, said, until
from tests.support.devices import Device, answers, modbus

HEAD = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""

CO2 = """
[source.co2]
type = "serial"
port = "{tty}"
baudrate = 9600
send = {{ data = [0xFF, 0x01, 0x86, 0, 0, 0, 0, 0], checksum = {{ type = "neg8", start = 1 }}, every = "100ms" }}
frame = {{ type = "fixed", sync = [0xFF, 0x86], size = 9 }}
checksum = {{ type = "neg8", start = 1 }}
decode = {{ format = "struct", endian = "big", rest = "skip", fields = [
  {{ name = "co2", dtype = "uint16", valid = [300, 10000] }},
] }}
[pipeline.level]
source = "co2"
publish = {{ topic = "out/co2" }}
"""

METERS = """
[source.meters]
type = "modbus"
port = "{tty}"
baudrate = 19200
parity = "even"
rs485 = true
address = [1, 2]
every = "100ms"
timeout = "50ms"
decode = {{ table = "input", dtype = "float32", endian = "big", fields = [
  {{ name = "volts", register = 0, unit = "V", valid = [180, 260] }},
  {{ name = "watts", register = 12, unit = "W" }},
] }}
[pipeline.power]
source = "meters"
publish = {{ topic = "out/meter/{{address}}" }}
"""

IMU = """
[port.imu]
port = "{tty}"
baudrate = 9600
frame = {{ type = "fixed", sync = [0x55], size = 11 }}
checksum = "sum8"
[source.acc]
type = "serial"
port = "imu"
rate = 10
where = {{ tag = 0x51 }}
decode = {{ format = "struct", dtype = "int16", scale = 0.0047884, unit = "m/s2", rest = "skip", fields = [
  {{ name = "tag", dtype = "uint8" }}, "ax", "ay", "az",
] }}
[source.gyro]
type = "serial"
port = "imu"
rate = 10
where = {{ tag = 0x52 }}
decode = {{ format = "struct", dtype = "int16", scale = 0.0610352, rest = "skip", fields = [
  {{ name = "tag", dtype = "uint8" }}, "gx", "gy", "gz",
] }}
[source.angle]
type = "serial"
port = "imu"
rate = 10
where = {{ tag = 0x53 }}
decode = {{ format = "struct", dtype = "int16", scale = 0.0054932, unit = "deg", rest = "skip", fields = [
  {{ name = "tag", dtype = "uint8" }}, "roll", "pitch", "yaw",
] }}
[pipeline.pose]
source = ["angle", "acc", "gyro"]
align = {{ to = "angle", tolerance = "50ms" }}
publish = {{ topic = "out/pose" }}
"""


def test_a_device_is_asked_at_its_pace_and_its_silence_is_noticed(broker: Broker, tmp_path: Path) -> None:
    question = bytes.fromhex("ff 01 86 00 00 00 00 00 79")
    known = answers({question: bytes.fromhex("ff 86 02 60 47 00 00 00 d1")})
    text = HEAD.format(port=broker.port) + CO2.format(tty=tmp_path / "co2")
    with Client(broker.port) as client, Device(tmp_path / "co2", known) as device, Daemon(tmp_path, text):
        messages = client.wait("out/co2", 3)
        assert [m.json["outputs"] for m in messages[:3]] == [{"co2": 608}] * 3
        health = client.health(lambda h: h["sources"]["co2"].get("sent", {}).get("answered", 0) > 3)
        sent = health["sources"]["co2"]["sent"]
        assert sent["bytes"] == 9 * sent["messages"]
        assert sent["unanswered"] == 0
        assert balanced(health)
        assert device.heard == question * (len(device.heard) // 9)
        device.is_off = True
        health = client.health(lambda h: h["sources"]["co2"]["state"] == "silent")
        assert "nothing has come in for" in health["sources"]["co2"]["reason"]
        device.is_off = False
        client.health(lambda h: h["sources"]["co2"]["state"] == "running")


def test_units_of_a_bus_are_asked_and_one_that_is_dead_delays_nobody(broker: Broker, tmp_path: Path) -> None:
    first = {"input": {0: 0x4366, 1: 0x3334, 12: 0x42C8, 13: 0}}
    dead = {2}
    text = HEAD.format(port=broker.port) + METERS.format(tty=tmp_path / "bus")
    with (
        Client(broker.port) as client,
        Device(tmp_path / "bus", modbus({1: first, 2: first}, dead, echoes=True)) as bus,
        Daemon(tmp_path, text),
    ):
        messages = client.wait("out/meter/1", 20)
        assert messages[0].json["outputs"] == {"volts": pytest.approx(230.2), "watts": 100}
        assert bytes.fromhex("01 04 00 00 00 02 71 cb") in bus.heard
        until(lambda: client.of("edged/t/source/meters/2"), what="what is said of the dead unit")
        assert client.of("edged/t/source/meters/2")[-1].payload == b"offline"
        assert client.of("edged/t/source/meters/1")[-1].payload == b"online"
        health = client.health(lambda h: h["sources"]["meters"]["dropped"].get("no_answer", 0) >= 3)
        assert balanced(health)
        asked = [bus.heard.count(bytes((unit, 4, 0, 0, 0, 2))) for unit in (1, 2)]
        assert asked[1] < asked[0] / 2
        dead.clear()
        client.wait("out/meter/2", 1)
        until(lambda: client.of("edged/t/source/meters/2")[-1].payload == b"online", what="the unit that came back")


def test_three_layouts_on_one_port_are_joined_and_a_lost_frame_mixes_nothing(broker: Broker, tmp_path: Path) -> None:
    acc = bytes.fromhex("55 51 cc ff 6e 00 00 08 c4 09 b4")
    gyro = bytes.fromhex("55 52 03 00 fb ff 08 00 c4 09 79")
    angle = bytes.fromhex("55 53 b6 00 94 fe 00 40 c4 09 fd")
    quaternion = bytes.fromhex("55 59 00 00 00 00 00 00 00 00 ae")
    text = HEAD.format(port=broker.port) + IMU.format(tty=tmp_path / "imu")
    wanted = {
        "roll": 1.0,
        "pitch": -2.0,
        "yaw": 90.0,
        "ax": -0.249,
        "ay": 0.527,
        "az": 9.807,
        "gx": 0.18,
        "gy": -0.31,
        "gz": 0.49,
    }
    with Client(broker.port) as client, Sensor(tmp_path / "imu") as imu, Daemon(tmp_path, text):
        client.health(lambda h: h["ports"]["imu"]["state"] == "running")
        imu.write(acc + gyro + quaternion + angle)
        outputs = client.wait("out/pose")[0].json["outputs"]
        assert outputs == {name: pytest.approx(value, abs=0.006) for name, value in wanted.items()}
        health = client.health(lambda h: h["ports"]["imu"]["dropped"].get("other") == 1)
        assert health["ports"]["imu"] | {"bytes": 44, "read": 4, "rows": 3, "rejected": 1} == health["ports"]["imu"]
        assert {name: health["sources"][name]["read"] for name in ("acc", "gyro", "angle")} == {"acc": 1, "gyro": 1, "angle": 1}
        assert balanced(health)
        broken = bytearray(gyro)
        broken[3] ^= 0x40
        imu.write(acc + bytes(broken) + angle)
        health = client.health(lambda h: h["sources"]["angle"]["read"] == 2)
        assert health["ports"]["imu"]["dropped"]["checksum"] == 1
        imu.unplug()
        health = client.health(lambda h: h["sources"]["gyro"]["state"] in ("unplugged", "missing"))
        assert {health["sources"][name]["state"] for name in ("acc", "gyro", "angle")} <= {"unplugged", "missing"}
        imu.plug()
        client.health(lambda h: h["ports"]["imu"]["state"] == "running")
        imu.write(acc + gyro + angle)
        client.health(lambda h: h["sources"]["angle"]["rows"] == 3)


def spoken(device: Device, data: bytes, seen: Callable[[], object]) -> object:
    """Whether something is seen after the device said something more."""
    device.say(data)
    return seen()


def test_a_reload_adds_a_source_to_a_port_and_changes_what_it_says(broker: Broker, tmp_path: Path) -> None:
    acc = bytes.fromhex("55 51 cc ff 6e 00 00 08 c4 09 b4")
    angle = bytes.fromhex("55 53 b6 00 94 fe 00 40 c4 09 fd")
    whole = HEAD.format(port=broker.port) + IMU.format(tty=tmp_path / "imu")
    begin, pipeline = whole.split("[source.gyro]")[0], "[pipeline.a]\nsource = 'acc'\npublish = 'out/acc'\n"
    rest = "[source.angle]" + whole.split("[source.angle]")[1].split("[pipeline.pose]")[0]
    with (
        Client(broker.port) as client,
        Device(tmp_path / "imu", answers({})) as imu,
        Daemon(tmp_path, begin + pipeline) as daemon,
    ):
        client.health(lambda h: h["ports"]["imu"]["state"] == "running")
        until(lambda: spoken(imu, angle + acc, lambda: client.of("out/acc")), what="the first source")
        health = client.health(lambda h: h["ports"]["imu"]["dropped"].get("other", 0) > 0)
        before = health["sources"]["acc"]["rows"]
        more = begin.replace("baudrate = 9600", 'baudrate = 9600\nsend = { data = "hello", every = "100ms" }')
        daemon.config.write_text(more + pipeline + rest + "[pipeline.b]\nsource = 'angle'\npublish = 'out/angle'\n")
        until(lambda: b"hellohello" in imu.heard, what="what is sent since the reload")
        until(lambda: spoken(imu, angle + acc, lambda: client.of("out/angle")), what="the source that was added")
        health = client.health(lambda h: h["sources"]["acc"]["rows"] > before)
        assert health["ports"]["imu"]["sent"]["messages"] >= 2
        assert balanced(health)
        assert client.of("out/angle")[0].json["outputs"] == {
            name: pytest.approx(value, abs=0.006) for name, value in {"roll": 1.0, "pitch": -2.0, "yaw": 90.0}.items()
        }
        daemon.config.write_text(whole.replace("[pipeline.pose]", "[pipeline.of_all]"))
        client.health(
            lambda h: (
                "of_all" in h["pipelines"] and "sent" not in h["sources"]["gyro"] and h["ports"]["imu"]["state"] == "running"
            )
        )


def test_a_shared_port_is_recorded_once_by_its_name(tmp_path: Path) -> None:
    acc = bytes.fromhex("55 51 cc ff 6e 00 00 08 c4 09 b4")
    (tmp_path / "edged.toml").write_text(HEAD.format(port=1) + IMU.format(tty=tmp_path / "imu"))
    output = tmp_path / "imu.rec"
    with Device(tmp_path / "imu", answers({})) as imu:
        command = edged("record", "imu", "-c", str(tmp_path / "edged.toml"), "-o", str(output))
        until(lambda: spoken(imu, acc, lambda: output.exists() and output.stat().st_size > 300), what="a recording")
        command.terminate()
        status, _, errors = said(command)
    assert (status, "reads" in errors) == (0, True)
    with output.open("rb") as file:
        header = read_header(file)
        assert header is not None
        assert (header.kind, header.source) == ("serial", "imu")
        data = b"".join(record.data for record in read_records(file, "serial"))
    assert data == acc * (len(data) // len(acc))
