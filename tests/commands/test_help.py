from __future__ import annotations

import pytest

from edged.commands.help import entries, show, topics
from edged.errors import EX_OK, EX_USAGE
from edged.system.terminal import Look


def said(asked: str | None, capsys: pytest.CaptureFixture[str]) -> str:
    assert show(asked, Look()) == EX_OK
    return capsys.readouterr().out


@pytest.mark.parametrize("asked", ["baudrate", "source.baudrate", "source.NAME.baudrate", "source.accel.baudrate"])
def test_a_key_by_any_of_its_names(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(asked, capsys) == "source.NAME.baudrate\n  int; default: 115200\n  ignored by USB-native boards\n"


def test_of_one_type_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("source.frame.tail", capsys).splitlines()[:2] == [
        "source.NAME.frame.tail (of fixed, length)",
        "  bytes; default: none",
    ]


def test_a_table_with_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    text = said("[pipeline.press.window]", capsys)
    assert text.startswith("[pipeline.NAME.window]\n")
    assert "keys: size hop gap" in text


def test_a_page_of_the_manual_and_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"code", "reference"} <= set(topics())
    assert said("code", capsys).startswith("# ")
    assert said("reference", capsys).startswith("# Configuration reference")


def test_nothing_asked(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(None, capsys)
    assert "[broker.NAME]" in text
    assert "reference" in text


def test_a_slip(capsys: pytest.CaptureFixture[str]) -> None:
    assert show("baudrat", Look()) == EX_USAGE
    assert 'did you mean "baudrate"?' in capsys.readouterr().err


def test_every_key_has_an_entry(capsys: pytest.CaptureFixture[str]) -> None:
    for entry in entries():
        assert entry.attribute.name in said(entry.name, capsys)
