from __future__ import annotations

from pathlib import Path

from edged.health.homeassistant.ledger import MAX_GONE, NAME, Place, Told, decoded, encoded, read, write

PLACE = Place("main", "homeassistant/device/edged_t_pump_a/config")
TOLD = Told({"p.score": "sensor"}, {"q.label": "sensor"}, "pump", ("a",))


def test_what_was_told_comes_back(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    write(tmp_path, encoded({PLACE: TOLD}))
    assert read(tmp_path) == {PLACE: TOLD}
    (tmp_path / NAME).write_text("{")
    assert read(tmp_path) == {}  # moved aside, and said
    assert (tmp_path / f"{NAME}.aside").read_text() == "{"
    assert decoded(encoded({})) == {}


def test_what_a_device_no_longer_has_is_gone_until_it_is_back() -> None:
    later = TOLD.now({"r.count": "sensor"}, ("pump",))
    assert later.judged == ("pump",)
    assert later.gone == {"q.label": "sensor", "p.score": "sensor"}
    assert later.now({"p.score": "sensor"}, ()).gone == {"q.label": "sensor", "r.count": "sensor"}


def test_what_is_gone_is_bounded() -> None:
    told = Told({f"p{i}.score": "sensor" for i in range(100)}).now({"q.score": "sensor"}, ())
    assert [*told.gone] == [f"p{i}.score" for i in range(100 - MAX_GONE, 100)]
