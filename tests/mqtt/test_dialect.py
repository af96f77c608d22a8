"""Which version a broker is spoken to in, by what became of the connections before."""

from __future__ import annotations

import pytest

from edged.errors import Retryable
from edged.mqtt.dialect import Dialect
from edged.mqtt.retry import NoRetain, OtherVersion
from tests.support.mqtt_peer import settings

REFUSED = (OtherVersion("refused", "no MQTT 5"), True)
SILENT = (Retryable("lost", "it hung up"), False)
SERVED = (Retryable("lost", "the network is gone"), True)


@pytest.mark.parametrize(
    ("ends", "spoken"),
    [
        ([SERVED, SILENT, SILENT], "5 5 5 5"),  # it has spoken 5: a restart of it is no sign
        ([REFUSED, SERVED, SERVED, SILENT], "5 3.1.1 3.1.1 3.1.1 3.1.1"),  # it said so: remembered
        ([SILENT, SILENT, SILENT], "5 3.1.1 5 3.1.1"),  # nobody there speaks MQTT yet
        ([SILENT, SERVED, SILENT, SERVED, SERVED], "5 3.1.1 5 3.1.1 3.1.1 3.1.1"),  # believed at the second time
        ([SILENT, SERVED, SERVED, SILENT], "5 3.1.1 5 5 5"),  # it was starting
        ([REFUSED, SERVED, REFUSED, SERVED], "5 3.1.1 3.1.1 5 5"),  # it was replaced
    ],
)
def test_the_version_that_is_spoken(ends: list[tuple[Retryable, bool]], spoken: str) -> None:
    dialect = Dialect(settings(1))
    said = [dialect.settings.version]
    for error, was_answered in ends:
        before = dialect.settings.version
        is_at_once = dialect.ended(error, was_answered)
        said.append(dialect.settings.version)
        assert is_at_once is ((before, said[-1]) == ("5", "3.1.1"))
    assert " ".join(said) == spoken


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_version_that_is_asked_for_stays(version: str) -> None:
    dialect = Dialect(settings(1, version=version))
    assert not dialect.ended(*REFUSED)
    assert not dialect.ended(*SILENT)
    assert dialect.settings.version == version


def test_a_broker_that_refuses_a_retained_will_is_asked_without_at_once() -> None:
    dialect = Dialect(settings(1))
    assert dialect.ended(NoRetain("refused", "no retain"), True)
    assert (dialect.settings.may_retain, dialect.settings.version) == (False, "5")
    dialect.follow(settings(1, outbox_items=7))
    assert (dialect.settings.may_retain, dialect.settings.version, dialect.settings.outbox_items) == (False, "5", 7)
