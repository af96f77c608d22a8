import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from edged.records import Reject
from edged.telemetry import LOG_EVERY_S, Drops, Histogram, PublishCounts, Rate


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_are_right_to_within_a_bucket(values: list[int], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    true_ms = sorted(values)[min(len(values) - 1, int(-(-q * len(values) // 1)) - 1)] / 1e6
    found = histogram.quantile_ms(q)
    assert found is not None
    assert true_ms * 0.999 - 0.001 <= found <= max(true_ms * 1.4143, 0.001) + 0.001
    assert histogram.total == len(values)


def test_an_empty_histogram_says_nothing() -> None:
    histogram = Histogram()
    assert histogram.summary() == {"p50_ms": None, "p99_ms": None, "max_ms": None}
    histogram.add(2_000_000, times=3)
    histogram.add(10**15)
    assert histogram.summary() == {"p50_ms": pytest.approx(2.0, rel=0.42), "p99_ms": 10**9, "max_ms": 10**9}
    histogram.clear()
    assert histogram.quantile_ms(0.5) is None


def test_a_rate_looks_back_over_ten_readings() -> None:
    rate = Rate()
    assert rate.read(0, 0) == 0.0
    assert rate.read(50, 10**9) == 50.0
    assert rate.read(50, 2 * 10**9) == 25.0
    for i in range(3, 20):
        last = rate.read(50, i * 10**9)
    assert last == 0.0


def test_drops_are_counted_all_and_said_now_and_then() -> None:
    now = [100.0]
    with capture_logs() as logs:
        drops = Drops("source.a", lambda: now[0])
        for _ in range(5):
            drops.add("short", detail="2 columns")
        drops.add("long", times=3)
        now[0] += LOG_EVERY_S
        drops.add("short", detail="1 column")
    assert drops.by_reason == {"short": 6, "long": 3}
    assert drops.total == 9
    said = [(e["reason"], e["count"], e.get("more_since")) for e in logs]
    assert said == [("short", 1, None), ("long", 3, None), ("short", 1, 4)]
    assert all(e["where"] == "source.a" and e["log_level"] == "warning" for e in logs)


def lost(*drops: tuple[float, str], came: int = 0, at: float = 0.0) -> str:
    """What is said at `at` of these drops, before which so much had come through."""
    now = [0.0]
    counted = Drops("x", lambda: now[0], lambda: came)
    for now[0], reason in drops:
        counted.add(reason, detail="why")
    assert counted.losses is not None
    return counted.losses.verdict(at)


def test_where_nothing_comes_through_it_is_said_why() -> None:
    assert lost((1, "preprocess"), at=2.9) == ""
    assert lost((1, "preprocess"), at=3) == "the last one was lost, as preprocess: why"
    assert lost((1, "preprocess"), (2, "preprocess"), came=1, at=9) == ""  # may be chance
    found = lost((1, "preprocess"), (2, "postprocess"), (3, "not_finite"), came=1, at=3)
    assert found == "the last 3 were lost, the newest as not_finite: why"


def test_what_is_dropped_as_it_should_be_is_said_when_it_goes_on() -> None:
    again = [(float(second), "duplicate") for second in range(11)]
    assert lost(*again[:10], at=100) == ""
    assert lost(*again, at=10) == "the last 11 were lost, the newest as duplicate: why"


def test_losses_end_with_what_comes_through() -> None:
    came = [0]
    drops = Drops("x", lambda: 0.0, lambda: came[0])
    drops.add("overflow", 5)  # another took its place
    assert drops.losses is None
    drops.note("stale_join", 5, "too old")
    assert drops.losses is not None
    assert (drops.losses.rows, drops.total) == (5, 5)
    came[0] = 1
    assert drops.losses is None
    drops.add("not_finite", 3)
    drops.forgive()
    assert drops.losses is None


def test_rejects_are_shown_with_their_place() -> None:
    with capture_logs() as logs:
        drops = Drops("source.a")
        drops.add_rejects([Reject("short", "2 columns, expected 3", b"x" * 100, 17), Reject("short", "", b"", 99)])
    assert drops.by_reason == {"short": 2}
    assert [(e["detail"], e["offset"], len(e["data"])) for e in logs] == [("2 columns, expected 3", 17, 64)]


def test_the_publish_ledger() -> None:
    counts = PublishCounts("p")
    counts.made, counts.acked, counts.queued, counts.in_flight = 10, 5, 2, 1
    assert counts.balance() == 2
    counts.drops.add("overflow", 2)
    assert counts.balance() == 0


def test_what_is_not_meant_is_counted_and_not_logged() -> None:
    drops = Drops("source.gps", lambda: 0.0, lambda: 0)
    with capture_logs() as logs:
        drops.add_rejects([Reject("other", 'kind = "GPGSV"', times=6), Reject("partial", "the end of a line")])
    assert drops.by_reason == {"other": 6, "partial": 1}
    assert {one["log_level"] for one in logs} == {"debug"}
    assert drops.losses is None
