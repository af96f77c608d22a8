import contextlib
import io
import json
import os
import re
import select
from collections.abc import Iterator

import pytest
import structlog

from edged.system import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """As it was: a module keeps the logger that it had at its first line, and only what it shares with the others is captured."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def written(form: str, level: str = "info", stream: io.StringIO | None = None, **facts: object) -> str:
    stream = stream if stream is not None else io.StringIO()
    log.configure(level, form, stream)
    structlog.get_logger("edged").warning("dropped", **facts)
    return stream.getvalue()


def test_forms() -> None:
    assert re.fullmatch(
        r'timestamp=\S+Z level=warning event=dropped where="a b" count=1\n', written("logfmt", where="a b", count=1)
    )
    facts = json.loads(written("json", where="a", count=1))
    assert {k: v for k, v in facts.items() if k != "timestamp"} == {
        "where": "a",
        "count": 1,
        "event": "dropped",
        "level": "warning",
    }
    assert re.fullmatch(r'\d\d:\d\d:\d\d warning: dropped where="a b"\n', written("console", where="a b"))


def test_auto_is_for_a_person_on_a_terminal_and_logfmt_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert written("auto").startswith("timestamp=")
    assert "\x1b[" in written("auto", stream=Terminal())


def test_levels() -> None:
    assert written("logfmt", level="error") == ""
    assert written("logfmt", level="warning") != ""


@pytest.mark.parametrize("form", ["logfmt", "json", "console"])
def test_nothing_from_outside_fakes_a_line_or_a_colour(form: str) -> None:
    text = written(form, data=b"\x1b[31mred\nlevel=error event=fake\xff", topic="a\r\nb\u2028c", detail="x" * 5000)
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\u2028" not in text
    assert len(text) < 3000
    assert "red" in text


def test_an_error_keeps_its_trace() -> None:
    stream = io.StringIO()
    log.configure("info", "json", stream)
    try:
        raise ValueError("so it goes")
    except ValueError as error:
        structlog.get_logger("edged").error("internal error", exc_info=error)
    assert "so it goes" in json.loads(stream.getvalue())["exception"]


@pytest.mark.parametrize("form", ["logfmt", "json", "console"])
def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(form: str) -> None:
    with open("/dev/full", "w", buffering=1) as stream:
        log.configure("info", form, stream)
        structlog.get_logger("edged").warning("dropped")
        with contextlib.suppress(OSError):
            stream.close()
    structlog.get_logger("edged").warning("a closed one as well")


def test_a_log_that_nobody_reads_costs_lines_and_no_time() -> None:
    """A pipe holds 64 KiB and the writer as much; the rest is counted, and told when somebody reads again."""
    reader, end = os.pipe()
    with open(end, "w") as stream:
        log.configure("info", "logfmt", stream)
        logger = structlog.get_logger("edged")
        for number in range(5000):
            logger.info("line", number=number)  # would wait forever
        text = b""
        for _ in range(3):  # the pipe, what waited, and what has been said since
            while select.select([reader], [], [], 0)[0]:
                text += os.read(reader, 65536)
            logger.info("again")
        logger.info("last")
        text += os.read(reader, 65536)
    os.close(reader)
    lines = text.decode().splitlines()
    numbers = [int(line.rpartition("number=")[2]) for line in lines if "event=line" in line]
    assert numbers == list(range(len(numbers)))  # whole lines, none in between missing
    assert 500 < len(numbers) < 5000
    (told,) = [line for line in lines if "lines_lost" in line]
    assert told.endswith(f"event=again lines_lost={5000 - len(numbers)}")
    assert lines[-1].endswith("event=last")


@pytest.mark.parametrize("form", ["logfmt", "json", "console"])
def test_the_text_of_an_exception_cannot_steer_the_terminal_either(form: str) -> None:
    try:
        raise ValueError("\x1b[2J\x9b31mred\r\x07 and plain")
    except ValueError as error:
        text = written(form, exc_info=error)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "and plain" in text
    assert "x1b[2J" in text
