"""What is at each path: /metrics for Prometheus, /healthz and /readyz for whoever watches services, / for people."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Callable, Mapping

import msgspec

from edged.health.good import GOOD
from edged.health.http.metrics import CONTENT_TYPES, OPEN_METRICS, exposition
from edged.health.http.server import Answer, Page
from edged.health.schedule import Health


def pages(health: Health) -> Mapping[str, Page]:
    """By path."""
    return {
        "/": lambda _: Answer(_html(), "text/html; charset=utf-8"),
        "/metrics": lambda accept: _metrics(health, OPEN_METRICS in accept),
        "/healthz": lambda _: Answer(b"ok\n"),  # the loop turns, else nobody would answer
        "/readyz": lambda _: _ready(health),
    }


def events(health: Health) -> Callable[[], bytes]:
    """What the page shows, as one line of JSON."""
    encode = msgspec.json.Encoder().encode
    return lambda: encode(
        {"status": health.snapshot(), "details": health.details(), "graph": health.graph(), "events": health.events}
        | {"good": sorted(GOOD)}
    )


def _ready(health: Health) -> Answer:
    bad = [f"{one.kind} {one.name} is {one.state}: {one.reason}" for one in health.seen().states if one.state not in GOOD]
    return Answer("\n".join([*bad, ""]).encode(), status=503) if bad else Answer(b"ok\n")


def _metrics(health: Health, is_open: bool) -> Answer:
    return Answer(exposition(health.seen(), is_open).encode(), CONTENT_TYPES[is_open])


@functools.cache
def _html() -> bytes:
    return importlib.resources.files("edged.health.http").joinpath("page.html").read_bytes()
