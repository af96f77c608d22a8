"""`edged record` of a simulated source; of ports and brokers: tests/live/test_main_job.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.cli import main
from edged.errors import EX_OK, EX_SOFTWARE
from edged.sources.recording import read_header, read_records

TEXT = """[broker.main]
url = "mqtt://localhost"
[source.made]
type = "simulate"
signal = "sine"
rate = 200
[source.played]
type = "replay"
path = "old.rec"
rate = 10
decode = { format = "csv", fields = ["x"] }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "edged.toml"
    path.write_text(TEXT)
    return path


def test_what_is_made_up_is_recorded_as_lines(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "made.rec"
    assert main(["record", "made", "-c", str(config), "-o", str(output), "--seconds", "0.5"]) == EX_OK
    assert 'decode = { format = "csv", fields = ["ax", "ay", "az"] }' in capsys.readouterr().err
    with output.open("rb") as file:
        header = read_header(file)
        assert header is not None
        assert (header.kind, header.source) == ("serial", "made")
        lines = b"".join(record.data for record in read_records(file, "serial")).splitlines()
    assert len(lines) >= 10
    assert all(len([float(cell) for cell in line.split(b",")]) == 3 for line in lines)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("played", "source.played plays {folder}/old.rec, which is a recording already"),
        ("mad", 'no source is called mad; did you mean "made"?; in {folder}/edged.toml: made'),
    ],
)
def test_what_cannot_be_recorded(name: str, said: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", name, "-c", str(config), "-o", str(config.with_suffix(".rec"))]) == EX_SOFTWARE
    assert capsys.readouterr().err == f"edged: {said.format(folder=config.parent)}\n"


def test_a_disk_that_is_full_is_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "made", "-c", str(config), "-o", "/dev/full", "--seconds", "0.2"]) == EX_SOFTWARE
    assert capsys.readouterr().err == "edged: /dev/full: No space left on device\n"


def test_a_full_disk_ends_the_recording_of_a_slow_source(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(TEXT.replace("rate = 200", "rate = 2"))
    assert main(["record", "made", "-c", str(config), "-o", "/dev/full", "--seconds", "60"]) == EX_SOFTWARE
    assert capsys.readouterr().err == "edged: /dev/full: No space left on device\n"


def test_a_warning_keeps_nobody_from_recording(config: Path) -> None:
    config.write_text(
        '[broker.main]\nurl = "mqtt://192.0.2.1"\nusername = "u"\npassword = "p"\n'
        '[source.in]\ntype = "mqtt"\ntopic = "in"\ndecode = { format = "json", fields = ["v"] }\n'
    )
    assert main(["record", "in", "-c", str(config), "-o", str(config.with_suffix(".rec")), "--seconds", "0.1"]) == EX_OK
