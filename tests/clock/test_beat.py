import pytest

from edged.clock.beat import until_beat


@pytest.mark.parametrize("period_s", [0.02, 0.25, 0.5, 1.0])
def test_timers_whose_periods_divide_each_other_fire_in_the_same_millisecond(period_s: float) -> None:
    for now_ms in (0, 1, 999, 12_345_678, 10**9 - 1):
        wait_ms = round(until_beat(period_s, now_ms * 10**6 + 999_999) * 1000)
        assert 0 < wait_ms <= round(period_s * 1000)
        assert (now_ms + wait_ms) % round(period_s * 1000) == 0
