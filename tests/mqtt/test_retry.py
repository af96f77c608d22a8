from __future__ import annotations

import random

import pytest

from edged.errors import Retryable
from edged.mqtt.channel import Dismissed, HungUp
from edged.mqtt.connect import Refusal
from edged.mqtt.retry import RetryPolicy, Unacknowledged, Unanswered
from tests.support.mqtt_peer import settings


def test_the_waits_for_a_broker_that_acknowledges_nothing() -> None:
    """1 to 60 s, however long each connection lived; anew once something was acknowledged."""
    policy = RetryPolicy(settings(1, refused_retry_s=(1.0, 60.0)))
    silent, late = Unacknowledged("", False), Unacknowledged("", True)
    waits = [policy.next_s(silent, 61.0) for _ in range(300)]
    assert waits[0] == 1.0
    assert all(1.0 <= wait <= 60.0 for wait in waits)
    assert max(waits) > 50.0
    assert policy.next_s(late, 61.0) == 1.0


def test_waits() -> None:
    """Quick retries while the broker is away; slow ones when it says no or ends us again and again; quick again after good
    service."""
    policy = RetryPolicy(settings(1, retry_s=2.0, refused_retry_s=(1.0, 60.0)))
    away = Retryable("refused", "")
    assert max(policy.next_s(away, 0.0) for _ in range(200)) <= 2.0
    assert max(policy.next_s(Refusal("auth", ""), 0.0) for _ in range(200)) > 10.0
    assert all(policy.next_s(away, 1.0) <= 2.0 for _ in range(2))
    assert all(policy.next_s(away, 1.0) >= 1.0 for _ in range(20))
    assert max(policy.next_s(away, 30.0) for _ in range(200)) > 10.0
    assert max(policy.next_s(away, 61.0) for _ in range(200)) <= 2.0


def test_takeovers_of_two_clients_calm_down() -> None:
    """Two clients of one name: at most 10 reconnects each in the first minute, about one a minute later."""
    for seed in range(20):
        policies = [RetryPolicy(settings(1, retry_s=2.0, refused_retry_s=(1.0, 60.0))) for _ in range(2)]
        for i, policy in enumerate(policies):
            policy._refused.rng = random.Random(2 * seed + i)
        connects: list[list[float]] = [[0.0], []]
        now, served, other, since = 0.0, 0, 1, 0.0
        while now < 600.0:
            back = now + policies[other].next_s(Refusal("taken_over", ""), max(now - since, 1e-9) if connects[other] else 0.0)
            connects[other].append(back)
            since, now = now, back
            served, other = other, served
        for mine in connects:
            assert sum(t < 60.0 for t in mine) <= 11
            assert sum(t > 300.0 for t in mine) <= 10


def test_what_is_said_of_a_broker_that_ends_connections() -> None:
    policy = RetryPolicy(settings(1, client_id="pi4"))
    lost = HungUp("lost", "it ended")
    said = []
    for _ in range(3):
        policy.next_s(lost, 1.0)
        said.append(policy.explain(lost, 1.0, None, False))
    another = (
        "it ended, 3 times soon after connecting: does another client have the name pi4? "
        "Then give each client its own device.id or client_id"
    )
    assert said == ["it ended", "it ended", another]
    assert policy.explain(Unanswered("lost", "hangs"), 1.0, None, False) == "hangs"
    assert policy.explain(lost, 1.0, None, True).startswith("it ended, again with messages in flight")
    assert (
        policy.explain(lost, 1.0, "out/a", True)
        == "it ended, as it does whenever it gets a message to out/a: edged drops that message"
    )
    assert policy.short_lives == 0  # the message was to blame


@pytest.mark.parametrize(
    ("error", "lives", "said"),
    [
        (
            HungUp("lost", "it ended"),
            (0.05, 0.04, 0.05),
            "it ended, 3 times right after connecting: does it allow what edged sub",
        ),
        (HungUp("lost", "it ended"), (0.05, 2.0, 0.05), "it ended, 3 times soon after connecting: does another client have the"),
        (Retryable("lost", "the broker says: quota"), (0.5, 2.0, 0.5), "the broker says: quota"),
        (Dismissed("lost", "not authorised"), (0.5, 2.0, 0.5), "not authorised"),
    ],
)
def test_another_client_is_suspected_only_where_that_is_likely(error: Retryable, lives: tuple[float, ...], said: str) -> None:
    policy = RetryPolicy(settings(1, retry_s=2.0))
    for lived_s in lives:
        policy.next_s(error, lived_s)
    assert policy.explain(error, lives[-1], None, False).startswith(said)


def test_takeovers_are_counted_by_the_minute() -> None:
    policy = RetryPolicy(settings(1, client_id="pi4"))
    said = [policy.taken_over(now).reason for now in (0.0, 30.0, 61.0, 200.0)]
    counts = [reason.removeprefix("another client took the name pi4 ").partition(":")[0] for reason in said]
    assert counts == ["once", "2 times in 1 min", "2 times in 1 min", "once"]
