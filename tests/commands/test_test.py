"""`edged test` through its door: configurations with their tests, played in virtual time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edged.cli import main
from tests.support import models

CONFIG = """
[broker.main]
url = "mqtt://localhost"

[source.s]
type = "serial"
port = "/dev/ttyUSB9"
rate = 10
decode = { format = "csv", fields = ["a", "b"] }

[source.m]
type = "mqtt"
topic = "in/{pump}"
decode = { format = "json", fields = ["t"] }

[model.sum]
path = "sum.onnx"

[pipeline.windows]
source = "s"
window = { size = 2 }
publish = { topic = "out/windows" }

[pipeline.pumps]
source = "m"
publish = { topic = "out/{pump}", when = { change = 1, of = "outputs.t", min_interval = "10s" } }

[pipeline.modelled]
source = "m"
model = "sum"
publish = { topic = "sum/{pump}", format = "msgpack" }
"""
TESTS = """
[[test]]
name = "windows"
source = "s"
every = "100ms"
input = ["1,2", "3,4", "5,x", "7,8", { data = [57, 44, 49, 10] }]
expect = [
  { topic = "out/windows", result = { outputs = { a = [1, 3] }, time = "2026-01-01T00:00:00.100000Z" } },
  { topic = "out/windows", result = { outputs = { b = [8, 1] } } },
]
dropped = { not_a_number = 1 }

# what is held back comes later
[[test]]
name = "pumps"
source = "m"
topic = "in/p1"
every = "1s"
input = ['{"t": 1}', '{"t": 9}', { data = '{"t": 2}', topic = "in/p2" }]
wait = "1min"
expect = [
  { topic = "out/p1", result = { outputs = { t = 1 } } },
  { topic = "out/p1", result = { outputs = { t = 9 } } },
  { topic = "out/p2", count = 1 },
  { topic = "sum/p1", result = { outputs = { y = [2.0] } } },
  { topic = "sum/p1", result = { outputs = { y = [18.0000001] } } },
]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "edged.toml"
    path.write_text(CONFIG)
    models.total(tmp_path / "sum.onnx")
    path.with_name("edged.test.toml").write_text(TESTS)
    return path


def edged_test(config: Path, *more: str) -> int:
    return main(["test", "-c", str(config), *more])


def test_all_pass_and_a_minute_takes_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit = config.with_name("junit.xml")
    began = time.monotonic()
    assert edged_test(config, "--junit", str(junit)) == 0
    assert time.monotonic() - began < 60
    assert capsys.readouterr().out == "ok    windows\nok    pumps\n2 passed\n"
    suite = ElementTree.parse(junit).getroot()
    assert [(case.get("name"), len(case)) for case in suite] == [("windows", 0), ("pumps", 0)]


def test_what_differs_is_said_with_its_place(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tests = config.with_name("edged.test.toml")
    tests.write_text(TESTS.replace("a = [1, 3]", "a = [1, 4], c = 1").replace("not_a_number = 1", "malformed = 1"))
    assert edged_test(config, "windows", "--json") == 1
    (found,) = json.loads(capsys.readouterr().out)["tests"]
    assert (found["name"], found["line"], found["ok"]) == ("windows", 2, False)
    assert found["differs"][:2] == [
        "out/windows, result 1: outputs.a[1]: expected 4, found 3.0",
        "out/windows, result 1: outputs.c: expected 1, found no such field; there is a, b",
    ]
    assert found["differs"][3:] == [
        "1 to be dropped as malformed, 0 were",
        "source.s: 1 dropped as not_a_number: b: expected a number, found 'x'",
    ]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("{ topic = \"out/p2\", count = 1 },", "", None),
        ("count = 1", "count = 2", "out/p2: 2 to be published, 1 were"),
        ('"out/p2", count = 1', '"out/p3"', "out/p3: 1 to be published, 0 were; there were 2 on out/p1, 2 on"),
        ("18.0000001", "18.1", "sum/p1, result 2: outputs.y[0]: expected 18.1, found 18.0"),
        ('input = [\'{"t": 1}\', ', "input = [", "out/p1: 2 to be published, 1 were"),
    ],
)  # fmt: skip
def test_results_are_compared_topic_by_topic(
    before: str, after: str, said: str | None, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert before in TESTS
    config.with_name("edged.test.toml").write_text(TESTS.replace(before, after))
    assert edged_test(config, "pumps") == (0 if said is None else 1)
    assert said is None or said in capsys.readouterr().out


def test_accept_writes_what_came_and_leaves_the_rest(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tests = config.with_name("edged.test.toml")
    tests.write_text(TESTS.split("expect")[0] + "\n# what is held back" + TESTS.split("# what is held back")[1])
    assert edged_test(config, "--accept") == 0
    assert "results are now expected" in capsys.readouterr().out
    text = tests.read_text()
    assert 'dropped = { not_a_number = 1 }\n\n# what is held back comes later\n[[test]]\nname = "pumps"' in text
    assert 'result = { seq = 1, time = "2026-01-01T00:00:00.100000Z", outputs = { a = [1.0, 3.0], b = [2.0, 4.0] } }' in text
    assert edged_test(config) == 0
    assert edged_test(config, "--accept") == 0
    assert tests.read_text() == text


def test_accept_moves_no_comment_and_cuts_no_text(config: Path) -> None:
    tests = config.with_name("edged.test.toml")
    lines = "# one of many lines\n\n" * 60
    tests.write_text(
        f'[[test]]\nname = "x"\nsource = "s"\n{lines}input = ["1,2", "3,4"]  # two\nwait = "1s" # a # b\n\n# the end\n'
    )
    assert edged_test(config, "--accept") == 0
    assert 'wait = "1s" # a # b\nexpect = [' in tests.read_text()
    assert tests.read_text().endswith("]\n\n# the end\n")
    assert edged_test(config) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: test[0].source: required"),
        ('source = "s"\nexpects = []', 'unknown key; did you mean "expect"?'),
        ('source = "q"', '1: test "x": expected a source of the configuration, found "q"'),
        ('source = "m"\ninput = "1"', '4: test "x": the source m is of the type mqtt'),
        ('source = "m"\ntopic = "a/b"\ninput = "1"', "gets nothing from the topic a/b; it subscribes to in/{pump}"),
        ('source = "s"\ninput = { file = "gone" }', "gone: no such file or directory"),
        ('source = "s"\ninput = { file = "a", data = "1" }', "expected one of data, file and recording"),
        ('source = "s"\ninput = { recording = "edged.toml" }', "is not a recording of `edged record`"),
        ("[[test]", "edged.test.toml:3:"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_file(text: str, said: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.with_name("edged.test.toml").write_text(f'[[test]]\nname = "x"\n{text}\n')
    assert edged_test(config) == 78
    assert said in capsys.readouterr().err


def test_no_tests_yet(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.with_name("edged.test.toml").unlink()
    assert edged_test(config) == 78
    assert "there are no tests yet; a first one, to be written there:\n\n[[test]]" in capsys.readouterr().err


def test_a_made_up_source_runs_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edged.toml"
    path.write_text(
        """
[broker.main]
url = "mqtt://localhost"
[source.a]
type = "simulate"
signal = "sine"
rate = 100
[pipeline.p]
source = "a"
window = { size = 100 }
publish = { topic = "out/p" }
"""
    )
    tests = path.with_name("edged.test.toml")
    tests.write_text('[[test]]\nname = "a minute"\nsource = "a"\nwait = "1min"\nexpect = { topic = "out/p", count = 59 }\n')
    assert edged_test(path) == 1
    assert "out/p: 59 to be published, 60 were; the next is" in capsys.readouterr().out


REMOTE = """
[broker.main]
url = "mqtt://localhost"
[source.m]
type = "mqtt"
topic = "in/{pump}"
decode = { format = "json", fields = ["a", "b", "c"] }
[model.far]
url = "http://127.0.0.1:9/v2/models/m"
protocol = "kserve"
fallback = "near"
[model.near]
path = "near.onnx"
[pipeline.far]
source = "m"
model = "far"
output = { type = "regress", fields = ["x", "y"] }
publish = { topic = "out/{pump}" }
"""
REMOTE_TEST = """
[[test]]
name = "the fallback"
source = "m"
topic = "in/p1"
input = '{"a": 1, "b": 2, "c": 3}'
expect = { topic = "out/p1", result = { by = "near" } }
"""


def test_a_test_asks_no_remote_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.linear(tmp_path / "near.onnx")
    (tmp_path / "edged.toml").write_text(REMOTE)
    (tmp_path / "edged.test.toml").write_text(REMOTE_TEST)
    assert main(["test", "-c", str(tmp_path / "edged.toml")]) == 0, capsys.readouterr()
    (tmp_path / "edged.toml").write_text(REMOTE.replace('fallback = "near"\n', ""))
    assert main(["test", "-c", str(tmp_path / "edged.toml")]) != 0
    assert "unanswered" in capsys.readouterr().out
