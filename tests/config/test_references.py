from __future__ import annotations

from typing import Any

from edged.config.references import references, unused

BROKER = {"main": {"url": "mqtt://localhost"}}


def said(file: dict[str, Any], doubtful: tuple[str, ...] = ()) -> dict[str, str]:
    return {p.path: p.text for p in references(file, doubtful, lambda _: 1)}


def test_a_chain_of_pipelines_is_no_circle() -> None:
    file = {
        "broker": BROKER,
        "source": {"a": {}},
        "pipeline": {"p": {"source": "a"}, "q": {"source": ["p", "a"]}, "r": {"source": "q"}},
    }
    assert said(file) == {}


def test_a_circle_is_told_once() -> None:
    file = {"broker": BROKER, "source": {"a": {}}, "pipeline": {"p": {"source": "q"}, "q": {"source": ["a", "p"]}}}
    assert list(said(file)) == ["pipeline.p.source"]


def test_nothing_is_missing_from_a_table_that_was_misspelt() -> None:
    file = {"brokers": BROKER, "source": {"a": {"type": "mqtt"}}, "pipeline": {"p": {"source": "a"}}}
    assert said(file, ("broker",)) == {}
    assert sorted(said(file)) == ["pipeline.p.publish.broker", "source.a.broker"]


def test_a_reserved_name_is_refused_where_it_would_collide() -> None:
    def pipeline(**keys: Any) -> dict[str, str]:
        return said({"broker": BROKER, "source": {"a": {}}, "pipeline": {"health": {"source": "a", **keys}}})

    assert list(pipeline()) == list(pipeline(publish={"qos": 0})) == ["pipeline.health"]
    assert list(pipeline(publish=["plant/a", "x/{pipeline}"])) == ["pipeline.health"]
    assert pipeline(publish="plant/a") == pipeline(publish=[]) == {}
    assert "source.status" in said({"broker": BROKER, "source": {"status": {}}})


def test_shapes_that_are_wrong_are_left_to_the_conversion() -> None:
    for odd in (5, "x", [], [5], {"a": 5}, {"a": [5]}, {"a": {"source": 5, "publish": 5, "align": 5, "model": 5}}):
        for kind in ("broker", "source", "model", "pipeline", "health"):
            references({kind: odd}, (), lambda _: 1)
            unused({kind: odd})


def test_what_nobody_uses_is_a_warning() -> None:
    file = {"source": {"a": {}, "b": {}}, "model": {"m": {}, "n": {}}, "pipeline": {"p": {"source": "a", "model": "m"}}}
    assert [(p.path, p.is_warning) for p in unused(file)] == [("source.b", True), ("model.n", True)]


def test_who_answers_requests_need_not_publish() -> None:
    file: dict[str, Any] = {"source": {"a": {"reply": "x"}, "b": {}}, "pipeline": {"p": {"source": "a", "publish": []}}}
    assert [p.path for p in unused(file)] == ["source.b"]
    file["source"]["a"] = {}
    assert [p.path for p in unused(file)] == ["source.b", "pipeline.p.publish"]
