"""A daemon's parts, assembled from a real configuration, opening nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from edged.clock.clock import Clock
from edged.daemon.assembly import Assembly
from edged.daemon.build import assemble
from edged.daemon.connect import connect
from edged.daemon.prepare import load, prepare


class Hands(Clock):
    """A clock whose hands are moved by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 10**12
        self.now = lambda: self.time
        self.utc = lambda: self.time + 10**18

    def pass_s(self, seconds: float) -> None:
        self.time += int(seconds * 1e9)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def make(tmp_path: Path, clock: Hands) -> Callable[[str], Assembly]:
    """Assembles a configuration; its broker is nowhere. To be called on the loop."""

    def build(text: str, real_clock: Clock | None = None) -> Assembly:
        path = tmp_path / "edged.toml"
        path.write_text('[device]\nid = "t"\n[broker.main]\nurl = "mqtt://127.0.0.1:1"\n[spool]\nmode = "off"\n' + text)
        plan, loaded = load(prepare(path))
        assembly = assemble(plan, loaded, real_clock or clock, structlog.get_logger("edged"))
        connect(assembly)
        return assembly

    return build
