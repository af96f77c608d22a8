from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from edged.config.load import Draft, place_of, read, report, understand
from edged.config.parsers.value import Surroundings
from edged.config.schema import Config, FieldSpec, Function, MqttSource, Publish, SerialSource, Span, UsbPort
from edged.errors import ConfigError, Problem
from edged.notation.values import BrokerUrl

DEPLOYMENTS = sorted((Path(__file__).parent.parent / "cases" / "deployments").glob("*.toml"))
ENVIRON = {"EDGED_ID": "scorer-2"}
KEY = "-----BEGIN PRIVATE KEY-----\nnot one\n-----END PRIVATE KEY-----\n"
BESIDE = {
    "plant-ca.pem": "",
    "cloud-ca.pem": "",
    "gateway-12.pem": "",
    "mqtt.secret": "hunter2\n",
    "mqtt": "hunter2",
    "cloud-key": KEY,
}


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Draft:
    """A file without a problem."""
    draft = read(path, environ)
    assert all(p.is_warning for p in draft.problems), report(draft, draft.problems)
    return draft


def deployment(name: str, folder: Path) -> Config:
    for file, text in BESIDE.items():
        (folder / file).write_text(text)
    source = next(path for path in DEPLOYMENTS if path.stem.endswith(name))
    target = folder / "edged.toml"
    target.write_text(source.read_text("utf-8"), "utf-8")
    return load(target, {**ENVIRON, "CREDENTIALS_DIRECTORY": str(folder)}).config


def written(folder: Path, text: str) -> Path:
    path = folder / "edged.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("name", [path.stem for path in DEPLOYMENTS])
def test_deployments_load(name: str, tmp_path: Path) -> None:
    config = deployment(name, tmp_path)
    assert config.pipeline
    assert "hunter2" not in repr(config)
    assert "BEGIN" not in repr(config)


def test_there_are_eleven_deployments() -> None:
    assert len(DEPLOYMENTS) == 11


def test_values_are_parsed(tmp_path: Path) -> None:
    config = deployment("pumps", tmp_path)
    broker, source, pipeline = config.broker["plant"], config.source["pumps"], config.pipeline["health"]
    assert broker.url == BrokerUrl("mqtts", "plant-broker", 8883)
    assert broker.ca == tmp_path / "plant-ca.pem"
    assert broker.password is not None
    assert broker.password.reveal() == "hunter2"
    assert isinstance(source, MqttSource)
    assert source.topic == ("plant/{line}/{pump}/telemetry",)
    assert source.decode.fields[1] == FieldSpec(name="p_in", path=("pressure", "in"), unit="bar", valid=(0.0, 40.0))
    assert pipeline.window is not None
    assert (pipeline.window.size, pipeline.window.gap) == (Span(duration=60 * 10**9), 5 * 10**9)
    assert (pipeline.output.type, pipeline.output.above, pipeline.output.release) == ("anomaly", 0.8, 0.6)
    assert pipeline.publish[0].when.change == 0.0
    assert pipeline.publish[0].when.max_interval == 60 * 10**9


def test_fields_have_what_decode_says_for_all(tmp_path: Path) -> None:
    source = deployment("rs485", tmp_path).source["imu"]
    assert isinstance(source, SerialSource)
    assert source.port == UsbPort(vid=0x0403, pid=0x6001, serial="AB0JQ7XK")
    assert source.frame.sync == b"\xaa\x55"
    assert [f.dtype for f in source.decode.fields] == ["int16"] * 6
    assert [f.scale for f in source.decode.fields] == [0.01] * 6


def test_raw_has_a_field_of_its_own(tmp_path: Path) -> None:
    source = deployment("scorers", tmp_path).source["parts"]
    assert source.decode is not None
    assert source.decode.fields == (FieldSpec(name="value", path=("value",), dtype="float32", shape=(64,)),)


def test_short_forms_and_single_values(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [broker.main]
        url = "mqtt://localhost"
        [source.a]
        type = "serial"
        port = "/dev/ttyACM0"
        frame = "line"
        decode = { format = "csv", fields = "x", valid = [0, 1] }
        [pipeline.p]
        source = "a"
        preprocess = ["detrend", "steps.py:scale", { step = "normalize", mean = 1, std = 2 }]
        publish = "plant/a"
        """,
    )
    pipeline = load(path).config.pipeline["p"]
    assert pipeline.source == ("a",)
    assert pipeline.publish == (Publish(topic="plant/a"),)
    assert pipeline.preprocess is not None
    assert [step.step for step in pipeline.preprocess] == ["detrend", Function(tmp_path / "steps.py", "scale"), "normalize"]
    assert pipeline.preprocess[2].mean == (1.0,)


def test_warnings_do_not_refuse(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """[broker.main]
url = "mqtt://localhost"
username = "edged"
password = "hunter2"
[source.a]
type = "simulate"
signal = "sine"
rate = 10
[source.b]
type = "simulate"
signal = "sine"
rate = 10
[pipeline.p]
source = "a"
""",
    )
    draft = load(path)
    warnings = [str(one) for one in report(draft, draft.problems)]
    assert [line.removeprefix(f"{path}:").split(":")[0] for line in warnings] == ["4", "9"]
    assert not any("hunter2" in line for line in warnings)


def test_problems_of_a_plan_get_positions(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """[broker.main]
url = "mqtt://localhost"
[source.a]
type = "simulate"
signal = "sine"
rate = 10
[pipeline.p]
source = "a"
window = { size = "60s" }
publish = { topic = "x" }
""",
    )
    draft = read(path)
    lines = report(
        draft,
        [
            Problem("pipeline.p.publish[0].topic", "later"),
            Problem("pipeline.p.window.size", "first"),
            Problem("pipeline.p.output.tensor", "missing"),
            Problem("source.a", "named", "key"),
            Problem("memory.budget", "nowhere"),
        ],
    )
    assert [str(line).removeprefix(str(path)) for line in lines] == [
        ":1:1: memory.budget: nowhere",
        ":3:9: source.a: named",
        ":7:1: pipeline.p.output.tensor: missing",
        ":9:19: pipeline.p.window.size: first",
        ":10:21: pipeline.p.publish.topic: later",
    ]


def test_a_draft_holds_what_is_sound(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """[broker.main]
url = "mqtt://localhost"
[source.good]
type = "simulate"
signal = "sine"
rate = 10
[source.bad]
type = "simulate"
signal = "sin"
rate = 10
[pipeline.p]
source = "good"
[pipeline.q]
source = "bad"
[pipeline.r]
source = "q"
""",
    )
    draft = read(path)
    assert (list(draft.config.source), list(draft.config.pipeline)) == (["good"], ["p"])
    assert [p.path for p in draft.problems] == ["source.bad.signal"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def said(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            read(path)
        (line,) = caught.value.lines
        return line.removeprefix(str(path))

    assert said(tmp_path / "absent.toml") == ": there is no such file"
    assert said(tmp_path).startswith(": expected a file, found a folder; did you mean ")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[device]\nid = "caf\xe9"\n')
    assert said(latin) == ":2:10: expected UTF-8 text, found the byte 0xE9; save the file as UTF-8"
    if os.geteuid() != 0:
        latin.chmod(0)
        assert said(latin).startswith(": may not be read by this user")


def test_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 300 << 20)
    found = {}
    for name in ("pipe", "zero", "large"):
        with pytest.raises(ConfigError) as caught:
            read(tmp_path / name)
        found[name] = caught.value.lines
    assert found == {
        "pipe": [f"{tmp_path}/pipe: expected a plain file, found a pipe"],
        "zero": [f"{tmp_path}/zero: expected a plain file, found a device"],
        "large": [f"{tmp_path}/large: expected at most 1.0 MiB, found 300.0 MiB"],
    }


def test_what_it_names_is_there_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "edged.toml"
    (tmp_path / "ca.pem").write_text("certificate")
    (tmp_path / "secret").write_text("hunter2\n")
    (tmp_path / "steps.py").write_text("def f(x): return x\n")
    text = """
[broker.main]
url = "mqtts://h"
ca = "ca.pem"
username = "u"
password = { file = "secret" }
[source.a]
type = "simulate"
signal = "sine"
rate = 1
[pipeline.p]
source = "a"
preprocess = ["steps.py:f"]
"""
    path.write_text(text)
    draft = read(path)
    assert draft.content == text.encode()
    assert draft.files == {
        tmp_path / "ca.pem": b"certificate",
        tmp_path / "secret": b"hunter2\n",
        tmp_path / "steps.py": b"def f(x): return x\n",
    }
    assert "hunter2" not in repr(draft)
    copies = {tmp_path / "secret": tmp_path / "copy", tmp_path / "steps.py": tmp_path / "copy.py"}
    (tmp_path / "copy").write_text("older")
    (tmp_path / "secret").unlink()
    kept = understand(path, draft.content, Surroundings(tmp_path, {}, copies=copies), tmp_path / "kept.toml")
    assert kept.config.broker["main"].password == "older"
    assert kept.config.broker["main"].ca == tmp_path / "ca.pem"
    steps = kept.config.pipeline["p"].preprocess
    assert steps is not None
    assert steps[0].step == Function(tmp_path / "copy.py", "f")
    assert [str(one) for one in report(kept, [Problem("broker.main.ca", "is old")])] == [
        f"{tmp_path}/kept.toml:4:6: broker.main.ca: is old"
    ]


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "edged.toml"
    text = (
        '[broker.main]\nurl = "mqtt://h"\n[source.a]\ntype = "simulate"\nsignal = "sine"\nrate = 1\n[pipeline.p]\nsource = "a"\n'
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(load(path).config.source) == ["a"]


@pytest.mark.parametrize("password", ["p4ss", "p4ss w/rd", 'p4ss"q', "p4ss" * 50, "p4ss@p4ss"])
@pytest.mark.parametrize(
    "text",
    [
        '[broker.main]\nurl = "{0}"\n',
        '[broker.main]\nurl = {{ env = "URL" }}\n',
        '[broker.main]\nurl = "mqtt://localhost"\nclient_id = ["{0}"]\nversion = "{0}"\n',
        '[source.a]\ntype = "mqtt"\nbroker = "{0}"\ntopic = "{0}/#/"\ndecode = {{ format = "{0}", fields = ["v"] }}\n',
        '[source.a]\ntype = "serial"\nport = "{0}"\nbaudrate = "{0}"\ndecode = "{0}"\n',
        '[health]\ninterval = "{0}"\nbroker = "{0}"\n[broker]\nmain = "{0}"\n[memory]\nbudget = "{0}"\n',
    ],
)
def test_no_error_shows_the_password_of_an_address(text: str, password: str, tmp_path: Path) -> None:
    url = f"mqtt://me:{password}@host"
    path = written(tmp_path, text.format(url.replace('"', '\\"')))
    try:
        draft = read(path, {"URL": url})
        lines = [str(one) for one in report(draft, draft.problems)]
    except ConfigError as error:
        lines = error.lines
    assert lines
    assert not any("p4ss" in line for line in lines), lines


def test_a_line_without_its_words() -> None:
    assert place_of("/etc/edged/edged.toml:3:14: broker.main.url: found x:1:1: y") == "/etc/edged/edged.toml:3:14"
    assert place_of("edged.toml: there is no such file") == "edged.toml: there is no such file"
