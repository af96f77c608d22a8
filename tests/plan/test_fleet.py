"""The plan of a fleet: its topic with tags, its own connection, its bounds; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fleet import Signer
from tests.support.planning import planned

CONFIG = """
[device]
id = "press7"
tags = { group = "presses" }
[broker.main]
url = "mqtt://localhost"
[fleet]
topic = "fleet/{tags.group}"
signed_by = "fleet.pub"
from = "https://models.plant/x"
max_bytes = "64MiB"
[source.s]
type = "mqtt"
topic = "in/{tags.group}/{sensor}"
decode = { format = "json", fields = ["v"] }
[pipeline.p]
source = "s"
publish = { topic = "out/{tags.group}/{sensor}" }
"""


@pytest.fixture
def folder(tmp_path: Path, signer: Signer) -> Path:
    (tmp_path / "fleet.pub").write_bytes(signer.public)
    (tmp_path / "fleet.key").write_bytes(signer.private)
    return tmp_path


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


def test_topics_are_filled_in(folder: Path) -> None:
    plan = planned(folder, CONFIG).whole
    assert plan.fleet is not None
    assert plan.fleet.topic == "fleet/presses"
    assert plan.fleet.link.client_id == "edged-press7-fleet"
    assert [s.filter for s in plan.fleet.link.subscriptions] == ["fleet/presses/model/+"]
    assert plan.fleet.sources == ("https://models.plant/x/",)
    assert plan.fleet.max_bytes == 64 << 20
    assert [s.filter for s in plan.links["main"].subscriptions] == ["in/presses/+"]
    assert plan.pipelines["p"].publishes[0].topic.text == "out/presses/{sensor}"
    assert any(line.what == "fleet" for line in plan.memory)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('{tags.group}"\nsigned', '{tags.grup}"\nsigned', "fleet.topic: {tags.grup} is not known here"),
        ("fleet.pub", "fleet.key", "it is a private key"),
        ("fleet.pub", "edged.toml", "expected public Ed25519 keys"),
        ("https://models", "http://models", "fleet.from"),
        ("https://models", "https://me:secret@models", "fleet.from"),
        ('group = "presses"', 'group = "a/b"', "since topics may hold it"),
    ],
)
def test_refuses(folder: Path, old: str, new: str, said: str) -> None:
    lines = planned(folder, CONFIG.replace(old, new)).lines
    assert any(said in line for line in lines), lines
