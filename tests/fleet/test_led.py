"""What a configuration of the fleet's may not say, by the names of the keys; and what stays as it is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import Draft, read
from edged.fleet.led import lead

ENVIRON = {"SECRET": "hunter2", "OTHER": "moonlight"}
HEAD = """
[device]
id = "press7"
tags = { hall = "B" }
[http]
listen = "127.0.0.1:9464"
[fleet]
topic = "fleet/{tags.hall}"
signed_by = "fleet.pub"
from = "https://models.plant/"
configuration = true
[spool]
mode = "always"
"""
BODY = """
[broker.main]
url = "mqtt://plant"
username = "u"
password = { env = "SECRET" }
[source.gyro]
type = "serial"
port = "/dev/ttyUSB0"
baudrate = 9600
decode = { format = "csv", fields = ["x"] }
[source.in]
type = "mqtt"
topic = "in/{id}"
keys = "keys.csv"
decode = { format = "json", fields = ["v"] }
[model.m]
path = "m.onnx"
labels = "labels.txt"
[model.far]
url = "https://gpu:8000/v1"
protocol = "http"
token = { env = "SECRET" }
[pipeline.p]
source = "gyro"
preprocess = [{ step = "steps.py:half" }]
"""


@pytest.fixture
def local(tmp_path: Path) -> Draft:
    (tmp_path / "fleet.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    (tmp_path / "keys.csv").write_text("key,label\na,b\n")
    (tmp_path / "labels.txt").write_text("good\nbad\n")
    (tmp_path / "others.txt").write_text("x\n")
    (tmp_path / "other.csv").write_text("root:x:0:0:moonlight\n")
    for name in ("steps.py", "other.py"):
        (tmp_path / name).write_text("def half(x):\n    return x / 2\n")
    file = tmp_path / "edged.toml"
    file.write_text(HEAD + BODY)
    draft = read(file, ENVIRON)
    assert not [p for p in draft.problems if not p.is_warning], draft.problems
    return draft


def led(local: Draft, text: str) -> Draft:
    return lead(local, text.encode(), local.path.parent / "led.toml", ENVIRON)


def errors(draft: Draft) -> list[str]:
    return [f"{p.path}: {p.text}" for p in draft.problems if not p.is_warning]


def test_the_work_is_the_fleets_and_the_device_stays_what_it_is(local: Draft) -> None:
    draft = led(local, BODY.replace("9600", "115200") + '[pipeline.more]\nsource = "in"\npublish = { topic = "more/{id}" }\n')
    assert errors(draft) == []
    assert draft.config.source["gyro"].baudrate == 115200  # type: ignore[union-attr]
    assert [*draft.config.pipeline] == ["p", "more"]
    for name in ("device", "http", "fleet", "spool"):
        assert getattr(draft.config, name) == getattr(local.config, name)
    assert (draft.path, draft.copy) == (local.path, local.path.parent / "led.toml")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("\n[broker.main]", '\n[device]\nid = "x"\n[broker.main]', "device: belongs to the local file alone"),
        ("\n[broker.main]", "\n[http]\n[broker.main]", "http: belongs to the local file alone"),
        ("\n[broker.main]", '\n[spool]\npath = "/etc"\n[broker.main]', "spool: belongs to the local file alone"),
        ("steps.py", "other.py", "other.py is a Python file that the local file does not name"),
        ("[pipeline.p]", '[behaviour.b]\nrun = "other.py:half"\n[pipeline.p]', "behaviour.b.run: other.py is a Python file"),
        ("/dev/ttyUSB0", "/dev/ttyS0", "source.gyro.port: /dev/ttyS0 is a port that the local file does not name"),
        ("[pipeline.p]", '[port.x]\nport = "/dev/ttyS1"\nbaudrate = 9600\n[pipeline.p]', "port.x.port: /dev/ttyS1 is a port"),
        ('password = { env = "SECRET" }', 'password = { env = "OTHER" }', "broker.main.password: env 'OTHER' is not what"),
        ('password = { env = "SECRET" }', 'password = "plain"', "broker.main.password: is a secret that the local file"),
        ('password = { env = "SECRET" }', 'password = { file = "/etc/shadow" }', "broker.main.password: file '/etc/shadow'"),
        ('username = "u"', 'username = { env = "OTHER" }', "broker.main.username: env 'OTHER' is not what the local file names"),
        ("gpu:8000", "evil:8000", "model.far.url: is another address than that of the local file, and would get its secret"),
        ('"mqtt://plant"', '"mqtt://evil"', "broker.main: is that by which the fleet leads this device"),
        ("labels.txt", "others.txt", "others.txt is a file that the local file does not name"),
        ("keys.csv", "other.csv", "other.csv is a file that the local file does not name"),
        ("[pipeline.p]",
         '[source.r]\ntype = "replay"\npath = "/etc/passwd"\ndecode = { format = "nmea", fields = ["lat"] }\n[pipeline.p]',
         "source.r.path: /etc/passwd is a file"),
    ],
)  # fmt: skip
def test_refused_by_name(local: Draft, old: str, new: str, why: str) -> None:
    assert old in BODY
    found = errors(led(local, BODY.replace(old, new)))
    assert any(why in line for line in found), found
    assert "hunter2" not in str(found)
    assert "moonlight" not in str(found)


def test_a_model_may_be_another(local: Draft) -> None:
    assert errors(led(local, BODY.replace('"m.onnx"', '"models/other.onnx"'))) == []
