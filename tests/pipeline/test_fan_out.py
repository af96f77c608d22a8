from __future__ import annotations

from edged.pipeline.fan_out import fan_out


def test_who_fails_costs_nobody_else_anything() -> None:
    taken: list[tuple[str, int]] = []
    lost: list[Exception] = []

    def fail(*_: int) -> None:
        raise ZeroDivisionError("13")

    takers = [fail, lambda *what: taken.append(("a", *what)), fail, lambda *what: taken.append(("b", *what))]
    fan_out(takers, lost.append, 7)
    assert taken == [("a", 7), ("b", 7)]
    assert [str(error) for error in lost] == ["13", "13"]


def test_a_stop_of_the_process_is_no_fault_of_a_taker() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    lost: list[Exception] = []
    try:
        fan_out([stop], lost.append)
    except KeyboardInterrupt:
        lost.append(ValueError("passed on"))
    assert [str(error) for error in lost] == ["passed on"]
