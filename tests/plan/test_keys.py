"""A table of sensors: what it changes, through the door of `edged test`, and what is said of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.cli import main
from edged.config.load import read
from edged.daemon.prepare import prepare
from edged.errors import ConfigError
from edged.plan.change import compare
from tests.support import models

CONFIG = """
[broker.main]
url = "mqtt://localhost"
[source.pumps]
type = "mqtt"
topic = "plant/{hall}/{pump}"
keys = "pumps.csv"
on_bad = "drop"
decode = { format = "json", fields = [{ name = "temp", scale = 2, valid = [0, 200] }, "flow"] }
[model.sum]
path = "sum.onnx"
[pipeline.watch]
source = "pumps"
model = "sum"
output = { type = "anomaly", above = 100, release = 90 }
publish = { topic = "out/{hall}/{pump}" }
"""
TABLE = """\
# halls and pumps
key,label,temp.offset,temp.valid.high,watch.above,watch.release,tags.line,temp.scale
north/p1,"Feed pump, old",-10,,50,40,A,
north/p2,,,500,,,B,1
"""
TESTS = """
[[test]]
name = "each as its row says"
source = "pumps"
topic = "plant/north/p1"
every = "1s"
input = [
  '{"temp": 30, "flow": 0.5}', '{"temp": 25, "flow": 0.5}', '{"temp": 22, "flow": 0.5}',
  { topic = "plant/north/p2", data = '{"temp": 450, "flow": 0}' },
  { topic = "plant/north/p3", data = '{"temp": 30, "flow": 0.5}' },
  { topic = "plant/north/p3", data = '{"temp": 101, "flow": 0.5}' },
  '{"temp": 106, "flow": 0.5}',
]
expect = [
  { topic = "out/north/p1", result = { key_label = "Feed pump, old", key_tags = { line = "A" }, score = 51 } },
  { topic = "out/north/p1", result = { score = 41, anomaly = true } },
  { topic = "out/north/p1", result = { score = 35, anomaly = false } },
  { topic = "out/north/p2", result = { key_tags = { line = "B" }, score = 450, anomaly = true } },
  { topic = "out/north/p3", result = { score = 61, anomaly = false } },
]
dropped = { out_of_range = 2 }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    models.linear(tmp_path / "sum.onnx", width=2, out=1)
    (tmp_path / "pumps.csv").write_text(TABLE)
    (tmp_path / "edged.test.toml").write_text(TESTS)
    path = tmp_path / "edged.toml"
    path.write_text(CONFIG)
    return path


def test_each_key_as_its_row_says(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "-c", str(config)]) == 0, str(capsys.readouterr())


def test_a_table_of_a_spreadsheet(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A byte order mark, semicolons, decimal commas, ends of lines as Windows has them."""
    table = TABLE.replace('"Feed pump, old"', '"Feed pump; old"').replace(",", ";").replace("-10;", "-10,0;")
    config.with_name("pumps.csv").write_bytes(b"\xef\xbb\xbf" + table.split("\n", 1)[1].replace("\n", "\r\n").encode())
    tests = config.with_name("edged.test.toml")
    tests.write_text(TESTS.replace("Feed pump, old", "Feed pump; old"))
    assert main(["test", "-c", str(config)]) == 0, str(capsys.readouterr())


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "temp.offset",
            "tmp.offset",
            'pumps.csv:2:11: expected offset of a field of decode.fields, found "tmp"; did you mean "temp"?',
        ),
        ("temp.offset", "temp.ofset", 'pumps.csv:2:11: unknown column "temp.ofset"; did you mean "temp.offset"?'),
        ("watch.above", "wach.above", 'pumps.csv:2:39: expected above of a pipeline, found "wach"; did you mean "watch"?'),
        ("watch.above", "watch.below", 'pumps.csv:2:39: pipeline.watch has above; the column is "watch.above"'),
        ("-10,", "ten,", 'pumps.csv:3:27: temp.offset: expected a number, found "ten"'),
        ("A,\n", "A,0\n", "pumps.csv:3:40: temp.scale: expected a number other than 0"),
        ("-10,,", "-10,-1,", "pumps.csv:3:31: temp.valid.high: expected low below high, found 0 and -1"),
        ("50,40", "50,", "pumps.csv:3:1: watch.release: expected at most watch.above, 50, found 90, as pipeline.watch says; add"),
        ("north/p2", "north/p1", 'pumps.csv:4:1: the key "north/p1" has a row already, in line 3; each key has one'),
        ("key,label", "pump,label", "pumps.csv:2:1: expected a column key in the first line, found"),
        ("B,1", "B", "pumps.csv:4:1: expected 8 cells, as the first line has, found 7"),
        ('old"', "old", 'pumps.csv:3:10: expected the " that ends this cell'),
        ("temp.scale", "label", 'pumps.csv:2:75: the column "label" stands here twice; each has a name of its own'),
    ],
)
def test_what_is_wrong_is_said_with_its_place(config: Path, before: str, after: str, said: str) -> None:
    config.with_name("pumps.csv").write_text(TABLE.replace(before, after, 1))
    with pytest.raises(ConfigError) as caught:
        prepare(config)
    (line,) = caught.value.lines
    assert line.startswith(f"{config}:7:8: source.pumps.keys")
    assert said in line


def test_more_rows_than_keys_and_no_key(config: Path) -> None:
    config.write_text(CONFIG.replace("on_bad", "max_keys = 1\non_bad"))
    with pytest.raises(ConfigError, match=r"source.pumps.keys: pumps.csv has 2 keys, and max_keys is 1; set max_keys = 2"):
        prepare(config)
    config.write_text(CONFIG.replace("{hall}/{pump}", "one").replace("out/{hall}/{pump}", "out"))
    with pytest.raises(ConfigError, match=r"source.pumps.keys: has no effect without a key"):
        prepare(config)


def test_an_edit_changes_what_it_is_about(config: Path) -> None:
    before = prepare(config).plan
    table = config.with_name("pumps.csv")
    table.write_text(TABLE.replace("Feed pump, old", "Feed pump"))
    renamed = prepare(config).plan
    assert compare(before, renamed).changed == ("pipeline.watch: names of keys",)
    table.write_text(TABLE.replace(",50,40", ",60,40"))
    assert compare(before, prepare(config).plan).changed == ("pipeline.watch: output",)
    table.write_text(TABLE.replace("-10", "-11"))
    assert compare(before, prepare(config).plan).changed == ("source.pumps: settings",)
    assert read(config).files[table]


def test_memory_has_a_line_for_it(config: Path) -> None:
    lines = {line.what: line for line in prepare(config).plan.memory}
    assert lines["pipeline.watch: keys"].how == "2 labels and tags, 1 limits"
