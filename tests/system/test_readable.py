from __future__ import annotations

from edged.system.readable import readable, readable_lines


def test_nothing_steers_a_terminal() -> None:
    for said, shown in (
        ("plain text, 21 °C, 温度", "plain text, 21 °C, 温度"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),  # the same in one character
        ("one\r\ntwo\ttabs", "one\\r\\ntwo\\ttabs"),
        ("\u202eabc\u2028", "\\u202eabc\\u2028"),  # text that runs backwards
    ):
        assert readable(said) == shown


def test_lines_stay_lines() -> None:
    assert readable_lines("a\tb\r\n\x1b[0mc\n") == "a\tb\\r\n\\x1b[0mc\n"
