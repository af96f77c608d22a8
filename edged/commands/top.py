"""What the command `edged top` does: a live screen of one daemon, or of all that publish to a broker, the worst part first.

One daemon is asked over its socket; of a fleet the retained health topics are read. `rich` draws, and is imported here alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from edged.clock.clock import Clock
from edged.commands.ask import ask_daemon
from edged.commands.listen import observer
from edged.commands.loop import on_loop, stop_asked
from edged.commands.status import KINDS, WAITING, a_second, age, result_text
from edged.errors import EX_OK, Fatal
from edged.health.good import GOOD
from edged.mqtt.frames import Inbound
from edged.mqtt.link import Link
from edged.mqtt.settings import LinkSettings
from edged.system import log
from edged.system.readable import readable

EVERY_S = 1.0
TOPIC = "edged/+/health"
MAX_DEVICES = 5000
GONE_S = 60.0
"""A device that has said nothing for this long is shown as gone."""


def top(config: Path, broker: str | None, topic: str, seconds: float | None, once: bool) -> int:
    """Until Ctrl-C or `seconds`; `once`: one picture. Raises Fatal when there is nobody to ask, or no `rich`."""
    rich = _rich()
    if broker is None:
        return _local(rich, config, seconds, once)
    log.configure("error")
    return on_loop(_fleet(rich, observer(config, broker, [topic], "top"), seconds, once))


class _Rich:
    """What is used of `rich`."""

    def __init__(self) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.table import Table
        from rich.text import Text

        self.Console, self.Group, self.Live, self.Table, self.Text = Console, Group, Live, Table, Text


def _rich() -> _Rich:
    if sys.modules.get("rich", 1) is None:  # `process.set_up` keeps it away from those who have no use for it
        del sys.modules["rich"]
    try:
        return _Rich()
    except ImportError:
        raise Fatal('edged top needs rich, which is not installed; pip install "edged[top]"') from None


def _local(rich: _Rich, config: Path, seconds: float | None, once: bool) -> int:
    def picture() -> Any:
        return _of_daemon(rich, ask_daemon(config, {"command": "status"}))

    console = rich.Console()
    if once:
        console.print(picture())
        return EX_OK
    end = time.monotonic() + seconds if seconds is not None else float("inf")
    try:
        with rich.Live(picture(), console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while time.monotonic() < end:
                time.sleep(EVERY_S)
                live.update(picture(), refresh=True)
    except KeyboardInterrupt:
        pass
    return EX_OK


def _of_daemon(rich: _Rich, answer: Mapping[str, Any]) -> Any:
    facts, details = answer["status"], answer["details"]
    memory = facts["memory"]
    head = rich.Text.assemble(
        (f"edged {readable(facts['device'])}  ", "bold"),
        (facts["state"], "green" if facts["state"] == "healthy" else "yellow"),
        f"  up {age(facts['uptime_s'])}  memory {memory['resident_mib']} of {memory['budget_mib']} MiB"
        f" (planned {memory['planned_mib']})  processor {facts['cpu_s']} s",
        f"  loop late by {facts['loop_lag']['highest_ms']} ms at most",
    )
    parts = rich.Table(box=None, expand=True, header_style="dim")
    for title, side in (("part", "left"), ("state", "left"), ("rate", "right"), ("p50 ms", "right"), ("p99 ms", "right")):
        parts.add_column(title, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for title in ("dropped", "processor"):
        parts.add_column(title, justify="right")
    parts.add_column("why", ratio=1)
    for kind, name, part in sorted(_parts(facts), key=lambda row: (_rank(row[2]["state"]), -_lost(row[2]), KINDS.index(row[0]))):
        times = part.get("age") or part.get("time") or {}
        spent = sum(part.get("spent_s", {}).values())
        parts.add_row(
            f"{kind} {name}",
            rich.Text(part["state"], _colour(part["state"])),
            a_second(part["rate"]) if part.get("rate") else "",
            *("" if times.get(q) is None else f"{times[q]:.3g}" for q in ("p50_ms", "p99_ms")),
            str(_lost(part) or ""),
            f"{100 * spent / facts['cpu_s']:.0f} %" if facts["cpu_s"] else "",
            rich.Text(readable(_why(kind, name, part, details)), overflow="ellipsis", no_wrap=True),
        )
    return rich.Group(head, "", parts, *_keys(rich, details))


def _parts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for kind in KINDS:
        yield from ((kind, name, part) for name, part in facts.get(f"{kind}s", {}).items())


def _why(kind: str, name: str, part: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    more = details.get(f"{kind}s", {}).get(name, {})
    said = [part["reason"]] if part.get("reason") else []
    said += [f"{times} {reason}" + (f" ({more['why'][reason]})" if reason in more.get("why", {}) else "") for reason, times in
             {**part.get("dropped", {}), **part.get("no_answer", {})}.items()]  # fmt: skip
    if not said and more.get("last"):
        said = [result_text(more["last"][0])]
    return "; ".join(said)


def _keys(rich: _Rich, details: Mapping[str, Any]) -> Iterator[Any]:
    unwell = [(name, one) for name, source in details["sources"].items() for one in source.get("unwell_keys", ())]
    if not unwell:
        return
    table = rich.Table(box=None, header_style="dim")
    for title in ("sensor that is not well", "state", "for"):
        table.add_column(title)
    for name, one in sorted(unwell, key=lambda row: -float(row[1]["age_s"])):
        table.add_row(readable(f"{name} {one['key']}"), rich.Text(one["state"], "red"), age(one["age_s"]))
    yield ""
    yield table


def _rank(state: str) -> int:
    return 2 if state in GOOD else 1 if state in WAITING else 0


def _colour(state: str) -> str:
    return ("red", "yellow", "green")[_rank(state)]


def _lost(part: Mapping[str, Any]) -> int:
    """What was dropped, or, of a model that runs elsewhere, rows that it did not answer."""
    return int(sum(part.get("dropped", {}).values()) + part.get("unanswered", 0) + part.get("limited", 0))


# A fleet


async def _fleet(rich: _Rich, settings: LinkSettings, seconds: float | None, once: bool) -> int:
    devices: dict[str, tuple[float, Any]] = {}

    def take(batch: list[Inbound]) -> None:
        for topic, payload, *_, receipt, _properties in batch:
            receipt.done()
            _take(devices, topic.decode(errors="replace"), payload)

    link = Link(settings, take, Clock(), structlog.get_logger("edged"))
    running = asyncio.get_running_loop().create_task(link.run())
    stop = stop_asked(2 * EVERY_S if once and seconds is None else seconds)
    console = rich.Console()
    picture: Callable[[], Any] = lambda: _of_fleet(rich, link, devices)  # noqa: E731
    try:
        if once:
            await stop.wait()
            console.print(picture())
            return EX_OK
        with rich.Live(picture(), console=console, screen=console.is_terminal, auto_refresh=False) as live:
            stopped = asyncio.ensure_future(stop.wait())
            while not stopped.done():
                await asyncio.wait({stopped}, timeout=EVERY_S)
                live.update(picture(), refresh=True)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return EX_OK


def _take(devices: dict[str, tuple[float, Any]], topic: str, payload: bytes) -> None:
    """The health of one device; what is none is passed over."""
    try:
        facts = json.loads(payload)
        device = str(facts["device"])
        facts["state"], facts["memory"]["resident_mib"], facts["pipelines"].values()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    if device in devices or len(devices) < MAX_DEVICES:
        devices[device] = (time.monotonic(), facts)


def _of_fleet(rich: _Rich, link: Link, devices: Mapping[str, tuple[float, Any]]) -> Any:
    now = time.monotonic()
    rows = [(name, now - heard, facts) for name, (heard, facts) in devices.items()]
    ill = sum(facts["state"] != "healthy" for _, _, facts in rows)
    said = link.state + (f": {link.reason}" if link.reason else "")
    head = rich.Text.assemble((f"{len(rows)} devices", "bold"), f", {ill} degraded; {link.settings.url} is {readable(said)}")
    table = rich.Table(box=None, expand=True, header_style="dim")
    for title in ("device", "state", "version", "up", "memory", "results", "dropped"):
        table.add_column(title, no_wrap=True)
    table.add_column("problem", ratio=1)
    for name, quiet, facts in sorted(rows, key=lambda row: (row[2]["state"] == "healthy" and row[1] < GONE_S, row[0])):
        is_gone = quiet >= GONE_S
        state = f"silent for {age(quiet)}" if is_gone else facts["state"]
        rate = sum(p.get("rate") or 0 for p in facts["pipelines"].values())
        bad = [(kind, n, part) for kind, n, part in _parts(facts) if part["state"] not in GOOD]
        table.add_row(
            readable(name),
            rich.Text(readable(state), "red" if is_gone else "green" if state == "healthy" else "yellow"),
            readable(str(facts.get("version", ""))),
            age(float(facts.get("uptime_s", 0))),
            f"{facts['memory']['resident_mib']}/{facts['memory']['budget_mib']} MiB",
            a_second(rate),
            str(sum(_lost(p) for _, _, p in _parts(facts)) or ""),
            rich.Text(readable("; ".join(_problem(*one) for one in bad)), overflow="ellipsis", no_wrap=True),
        )
    return rich.Group(head, "", table)


def _problem(kind: str, name: str, part: Mapping[str, Any]) -> str:
    return f"{kind} {name} is {part['state']}" + (f": {part['reason']}" if part.get("reason") else "")
