from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.decode.times import BadTime, ns_of_array, ns_of_number, ns_of_text

S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "format", "ns"),
    [
        ("1970-01-01T00:00:00Z", "rfc3339", 0),
        ("2026-11-20T10:00:00Z", "rfc3339", 1795168800 * S),
        ("2026-11-20t10:00:00.5z", "rfc3339", 1795168800 * S + 500_000_000),
        ("2026-11-20 10:00:00.123456789Z", "rfc3339", 1795168800 * S + 123_456_789),
        ("2026-11-20T10:00:00.1234567899Z", "rfc3339", 1795168800 * S + 123_456_789),
        ("2026-11-20T12:30:00+02:30", "rfc3339", 1795168800 * S),
        ("2026-11-20T09:00:00-01:00", "rfc3339", 1795168800 * S),
        ("1969-12-31T23:59:59.999999999Z", "rfc3339", -1),
        ("2016-12-31T23:59:60Z", "rfc3339", 1483228800 * S),
        ("1795214931.123456789", "unix_s", 1795214931123456789),
        ("1795214931.1234567899", "unix_s", 1795214931123456789),
        (" 1795214931 ", "unix_s", 1795214931 * S),
        ("1795214931123", "unix_ms", 1795214931123 * 1_000_000),
        ("1795214931123456789", "unix_ns", 1795214931123456789),
        ("1.5e3", "elapsed_ms", 1_500_000_000),
        ("-1.5", "elapsed_s", -1_500_000_000),
        ("4294967295", "elapsed_us", 4294967295000),
        (".5", "elapsed_s", 500_000_000),
        ("2026-11-20T10:00:00", "iso8601 utc", 1795168800 * S),
        ("2026-11-20 12:00:00,5", "iso8601 +02:00", 1795168800 * S + 500_000_000),
        ("2026-11-20T11:00:00+0100", "iso8601 utc", 1795168800 * S),
        ("20261120T100000Z", "iso8601 utc", 1795168800 * S),
        ("2026/11/20T10:00:00z", "iso8601 +02:00", 1795168800 * S),
        ("2026.11.20 10:00 GMT", "iso8601 +02:00", 1795168800 * S),
    ],
)
def test_texts(text: str, format: str, ns: int) -> None:
    assert ns_of_text(text, format) == ns


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("", "unix_s"),
        ("abc", "unix_s"),
        ("nan", "unix_s"),
        ("1_000", "unix_s"),
        ("0x10", "unix_ms"),
        ("1e", "unix_s"),
        ("9" * 5000, "unix_s"),
        ("٣", "unix_s"),
        ("2026-11-20", "rfc3339"),
        ("2026-11-20T10:00:00", "rfc3339"),
        ("2026-02-30T10:00:00Z", "rfc3339"),
        ("2026-11-20T24:00:00Z", "rfc3339"),
        ("2026-11-20T10:60:00Z", "rfc3339"),
        ("2026-11-20T10:00:61Z", "rfc3339"),
        ("2026-11-20T10:00:00+24:00", "rfc3339"),
        ("0000-01-01T00:00:00Z", "rfc3339"),
        ("1400-01-01T00:00:00Z", "rfc3339"),
        ("٢٠٢٦-11-20T10:00:00Z", "rfc3339"),
        ("20/11/2026 10:00:00", "iso8601 utc"),  # or the 11th month of the 20th day: nobody knows
        ("2026/11-20T10:00:00", "iso8601 utc"),
        ("1e99", "unix_s"),
    ],
)
def test_refused(text: str, format: str) -> None:
    with pytest.raises(BadTime):
        ns_of_text(text, format)


def test_a_time_in_the_wrong_unit_says_the_right_one() -> None:
    with pytest.raises(BadTime) as error:
        ns_of_text("1795214931000", "unix_s")
    assert error.value.reason == "future"
    assert "1795214931000 read as unix_s is in the year 58858" in error.value.detail
    assert 'decode.time.format = "unix_ms"' in error.value.detail


@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), st.integers(-1439, 1439))
def test_rfc3339_agrees_with_the_library(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    since = zoned - datetime(1970, 1, 1, tzinfo=timezone.utc)
    ns = (since.days * 86400 + since.seconds) * S + since.microseconds * 1000
    assert ns_of_text(zoned.isoformat(), "rfc3339") == ns


@given(st.integers(-(2**63), 2**63 - 1))
def test_nanoseconds_survive_any_unit(ns: int) -> None:
    assert ns_of_text(str(ns), "unix_ns") == ns
    sign, (whole, part) = ("-" if ns < 0 else ""), divmod(abs(ns), S)
    assert ns_of_text(f"{sign}{whole}.{part:09d}", "unix_s") == ns


def test_numbers_without_text() -> None:
    assert ns_of_number(1795214931123456789, "unix_ns") == 1795214931123456789
    assert ns_of_number(1.25, "elapsed_s") == 1_250_000_000
    for bad in (float("nan"), float("inf"), 1e300):
        with pytest.raises(BadTime):
            ns_of_number(bad, "unix_s")


def test_arrays() -> None:
    times = ns_of_array(np.array([1795214931123.0, 0.0]), "unix_ms")
    assert times is not None
    assert times.tolist() == [1795214931123 * 1_000_000, 0]
    assert ns_of_array(np.array([0.5]), "unix_ms") is None
    assert ns_of_array(np.array([np.nan]), "unix_ms") is None
    assert ns_of_array(np.array([1795214931123.0]), "unix_s") is None
    assert ns_of_array(np.array([2**64 - 1], np.uint64), "unix_ns") is None
    assert ns_of_array(np.array([-(2**63)], np.int64), "unix_ns") is None
    assert ns_of_array(np.empty(0), "unix_s") is not None
