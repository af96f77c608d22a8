from edged.clock.clock import ASK_EVERY_NS, Clock


class Set(Clock):
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        super().__init__()
        self.now = lambda: 5_000
        self.utc = lambda: 1_000_000_005_000


def test_the_offset_leads_from_monotonic_to_utc() -> None:
    clock = Clock()
    assert abs(clock.now() + clock.offset() - clock.utc()) < 10**9
    assert Set().offset() == 1_000_000_000_000


def test_monotonic_time_does_not_go_back() -> None:
    clock = Clock()
    times = [clock.now() for _ in range(1000)]
    assert times == sorted(times)


def test_the_kernel_is_asked_now_and_then_and_always_answers() -> None:
    clock = Clock()
    assert clock.is_synced() in (True, False)
    assert clock.is_synced() == clock.is_synced()
    now = clock.now()
    clock.now = lambda: now + 2 * ASK_EVERY_NS
    assert clock.is_synced() in (True, False)
