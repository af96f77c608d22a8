from __future__ import annotations

import pytest

from edged.config.lines import shown_line


@pytest.mark.parametrize(
    "line",
    [
        'password = "hunter2"',
        'pasword = "hunter2"',
        'passwort = "hunter2"',
        "password: hunter2",
        "password hunter2",
        'main = { url = "mqtt://h", password = "hunter2" }',
        'url = "mqtt://user:hunter2@host"',
        'token = "hunter2"',
        'headers = { Authorization = "Bearer hunter2" }',
        "-----BEGIN PRIVATE KEY-----",
        'MQTT_PWD = "hunter2"',
        'api_key = "hunter2"',
        'key = "hunter2"',
    ],
)
def test_a_line_that_may_hold_a_secret_is_not_shown(line: str) -> None:
    assert shown_line(f"[broker.main]\n{line}\n", 2) == ""
    assert shown_line(f"[broker.main]\n{line}\n", 2, "broker") == ""


def test_a_secret_of_several_lines() -> None:
    text = '[broker.main]\nkey = """\nhunter2\n"""\nqos = 1\n'
    assert shown_line(text, 3) == ""
    assert shown_line(text, 5) == "qos = 1"


@pytest.mark.parametrize("line", ['port = "/dev/ttyUSB0"', "rate = 100", 'topic = "plant/{pump}"', "[pipeline.keyword]"])
def test_others_are(line: str) -> None:
    assert shown_line(f"\n{line}\r\n", 2) == line


def test_the_key_of_a_source_is_no_secret() -> None:
    assert shown_line('key = "pump"', 1, "source") == 'key = "pump"'
    assert shown_line('key = "pump"', 1, "broker") == ""
