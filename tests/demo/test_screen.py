from __future__ import annotations

import io
import json

import pytest

from edged.demo.screen import Screen

RESULT = json.dumps({"label": "imbalance", "score": 0.97, "time": "2026-01-31T12:34:56.789Z", "age_ms": 0.876})
HEALTH = json.dumps({"memory": {"resident_mib": 80.4, "budget_mib": 160.0}, "cpu_s": 0.5, "uptime_s": 10.0})
LOG = 'timestamp=2026-01-31T12:34:56Z level={} event={} source=accel reason="it says \\"no\\", twice"'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_result_is_a_line() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.health(HEALTH)
    screen.truth("imbalance")
    screen.result(RESULT)
    screen.summary()
    head, truth, line, summary = shown(stream)
    assert head.split() == ["time", "result", "score", "latency", "memory"]
    assert truth == "-- the simulated machine: imbalance --"
    assert line.split() == ["12:34:56", "imbalance", "0.97", "#" * 19, "0.88", "ms", "80", "of", "160", "MiB"]
    assert line.index("0.97") == head.index("score")
    assert line.index("0.88") == head.index("latency")
    assert line.index("80 of") == head.index("memory")
    assert summary == "1 results, 1 as the machine was; 80 of 160 MiB; 5.0 % of a core over 10 s, start included"


@pytest.mark.parametrize("columns", [100, 79, 60, 50, 40, 30, 20])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_lines_fit_the_terminal(columns: int, term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    screen = Screen(stream)
    screen.health(HEALTH)
    screen.truth("healthy")
    screen.result(RESULT)
    screen.log(LOG.format("warning", "dropped"))
    text = stream.getvalue()
    assert ("\033" in text) == (term == "xterm")
    for code in ("\033[0m", "\033[2m", "\033[32m", "\033[33m"):
        text = text.replace(code, "")
    assert all(len(line) <= columns for line in text.splitlines())
    assert "imbalance" in text


def test_the_log_is_shown_sparsely() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    for event in ("starting", "model", "ready", "state", "broker", "stopping", "stopped"):
        screen.log(LOG.format("info", event))
    assert [line.split()[1] for line in shown(stream)] == ["ready", "stopped"]
    screen.log(LOG.format("warning", "broker"))
    screen.log("Traceback (most recent call last):")
    assert shown(stream)[2:] == [
        'edged: warning: broker source=accel reason="it says \\"no\\", twice"',
        "edged: Traceback (most recent call last):",
    ]
