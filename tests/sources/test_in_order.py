"""`lateness`, from a file of settings to windows of samples in their order, in virtual time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli import main
from edged.daemon.prepare import prepare
from edged.errors import ConfigError

CONFIG = """
[broker.main]
url = "mqtt://localhost"
[source.s]
type = "mqtt"
topic = "in/{pump}"
rate = 1
stale_after = "10s"
lateness = "2s"
decode = { format = "json", time = { field = "t", format = "unix_s" }, fields = ["v"] }
[pipeline.p]
source = "s"
window = { size = 3, hop = 1 }
publish = { topic = "out/{pump}" }
"""
T = 1767225600  # 2026-01-01, when tests begin
TESTS = f"""
[[test]]
name = "out of order"
source = "s"
topic = "in/a"
every = "500ms"
input = [
  '{{"t": {T}, "v": 0}}', '{{"t": {T + 2}, "v": 2}}', '{{"t": {T + 1}, "v": 1}}',
  '{{"t": {T + 3}, "v": 3}}', {{ data = '{{"t": {T + 1}, "v": 9}}', at = "4s" }},
]
wait = "5s"
expect = [
  {{ topic = "out/a", result = {{ outputs = {{ v = [0, 1, 2] }} }} }},
  {{ topic = "out/a", result = {{ outputs = {{ v = [1, 2, 3] }} }} }},
]
dropped = {{ late = 1 }}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "edged.toml"
    path.write_text(CONFIG)
    path.with_name("edged.test.toml").write_text(TESTS)
    return path


def test_windows_of_what_came_out_of_order(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "-c", str(config)]) == 0, str(capsys.readouterr())
    config.write_text(CONFIG.replace('lateness = "2s"\n', ""))
    assert main(["test", "-c", str(config)]) == 1
    assert "1 to be dropped as late, 2 were" in capsys.readouterr().out


def test_a_recording_is_put_in_order_up_to_its_end(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same from a file without a broker: its clock is its own, and at its end nothing waits any more."""
    lines = [f"{T + t},{t}" for t in (0, 2, 1, 3, 5, 4)]
    config.with_name("late.csv").write_text("\n".join(lines) + "\n")
    head, tail = CONFIG.split("[source.s]")[0], CONFIG.split("[pipeline.p]")[1]
    source = 'type = "replay"\npath = "late.csv"\nspeed = 0\nstale_after = "10s"\nlateness = "2s"\n'
    decode = 'decode = { format = "csv", time = { field = "t", format = "unix_s" }, fields = ["t", "v"] }\n'
    config.write_text(f"{head}[source.s]\n{source}{decode}[pipeline.p]{tail.replace('out/{pump}', 'out')}")
    bench = f'[[test]]\nname = "a"\nsource = "s"\nwait = "5s"\ninput = {json.dumps([line + chr(10) for line in lines])}\n'
    wanted = [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    expect = ", ".join(f'{{ topic = "out", result = {{ outputs = {{ v = {v} }} }} }}' for v in wanted)
    config.with_name("edged.test.toml").write_text(f"{bench}expect = [{expect}]\n")
    main(["test", "-c", str(config)])
    assert "1 passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('time = { field = "t", format = "unix_s" }, ', "", "lateness: has no effect without decode.time: by arrival"),
        ('"unix_s"', '"elapsed_ms"', 'lateness: "elapsed_ms" is counted by the sensor from its own start'),
        ('"10s"', '"2s"', "lateness: expected less than stale_after, 2s, found 2s; a sensor would be stale before"),
        ("rate = 1", 'reply = "answers/#"', "reply: a request is answered at once, and lateness makes its sample wait"),
    ],
)
def test_where_it_has_no_effect(config: Path, before: str, after: str, said: str) -> None:
    config.write_text(CONFIG.replace(before, after))
    with pytest.raises(ConfigError) as caught:
        prepare(config)
    assert f"source.s.{said}" in "\n".join(caught.value.lines)


def test_it_is_planned(config: Path) -> None:
    plan = prepare(config).plan
    assert plan.sources["s"].most_waiting == 2 * 1 * 256 * 2
    assert any(line.what == "source.s: lateness" and line.how.startswith("up to 1024 samples") for line in plan.memory)
