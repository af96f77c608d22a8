from __future__ import annotations

from xml.etree import ElementTree

from edged.learn.judge import Answer, read_labels
from edged.learn.picture import ABNORMAL, picture

NS = "{http://www.w3.org/2000/svg}"


def test_scores_thresholds_and_what_was_abnormal() -> None:
    answers = [Answer(i * 10**9, "", {"score": i / 10, "anomaly": i > 15}) for i in range(20)]
    root = ElementTree.fromstring(picture("<a & b>", {"m": answers}, None, {"m": 1.5}))
    assert root.find(f"{NS}text").text == "<a & b>"  # type: ignore[union-attr]
    (line,) = root.iter(f"{NS}polyline")
    assert len(line.attrib["points"].split()) == 20
    assert len([*root.iter(f"{NS}line")]) == 1
    assert sum(r.get("fill") == ABNORMAL for r in root.iter(f"{NS}rect")) == 4


def test_classes_and_what_was_so() -> None:
    labels = read_labels("time,label\n0,a\n5,b\n", 0)
    answers = [Answer(i * 10**9, "", {"label": "a" if i < 6 else "b"}) for i in range(10)]
    root = ElementTree.fromstring(picture("t", {"one": answers, "two": answers}, labels, {}))
    strips = [(r.get("fill"), r.findtext(f"{NS}title")) for r in root.iter(f"{NS}rect") if r.find(f"{NS}title") is not None]
    assert [title for _, title in strips] == ["a", "b"] * 3 + ["a", "b"]
    assert len({colour for colour, _ in strips}) == 2


def test_of_nothing() -> None:
    assert picture("t", {"m": []}, None, {}).startswith("<svg")
