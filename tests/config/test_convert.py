from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.checks import FINISH, RULES
from edged.config.convert import Conversion
from edged.config.parsers.value import Surroundings
from edged.config.references import references, unused
from edged.config.schema import Config
from edged.config.toml.positions import Positions

DEPLOYMENTS = [
    tomli.loads(path.read_text("utf-8"))
    for path in sorted((Path(__file__).parent.parent / "cases" / "deployments").glob("*.toml"))
]


def convert(values: dict[str, Any]) -> tuple[Config, list[str]]:
    conversion = Conversion(Surroundings(Path("/nowhere"), {}), Positions("", {}), RULES, FINISH)
    config = conversion.file(values)
    problems = [*conversion.problems, *references(values, conversion.meant, lambda _: 1), *unused(values)]
    return config, [p.path for p in problems if not p.is_warning]


def test_every_problem_is_found_in_one_run() -> None:
    _, paths = convert(
        {
            "device": {"base_topic": "a/{b}"},
            "broker": {"main": {"url": 5, "keepalive": "1m"}},
            "source": {
                "a": {"type": "serial", "port": [], "rate": True, "decode": {"format": "csv", "fields": [{"scale": "x"}]}}
            },
            "pipeline": {"p": {"source": "b", "window": {"size": 0, "hop": -1}, "publish": [{"qos": 3}, {"retain": "no"}]}},
        }
    )
    assert sorted(paths) == [
        "broker.main.keepalive",
        "broker.main.url",
        "device.base_topic",
        "pipeline.p.publish[0].qos",
        "pipeline.p.publish[1].retain",
        "pipeline.p.source",
        "pipeline.p.window.hop",
        "pipeline.p.window.size",
        "source.a.decode.fields[0].name",
        "source.a.decode.fields[0].scale",
        "source.a.port",
        "source.a.rate",
    ]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a file with each of its keys or indices."""
    if isinstance(value, dict):
        return [(value, key) for key in value] + [one for inner in value.values() for one in places(inner)]
    if isinstance(value, list):
        return [(value, i) for i in range(len(value))] + [one for inner in value for one in places(inner)]
    return []


odd = st.one_of(
    st.none().map(lambda _: {}),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.lists(st.one_of(st.integers(), st.text(max_size=2), st.just({}), st.just([])), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
    st.sampled_from([tomli.loads("x = 2026-01-01")["x"], "mqtt", "serial", "{key}", "a/+", "\0"]),
)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_value_whatever_ends_in_a_traceback(data: st.DataObject) -> None:
    values = copy.deepcopy(data.draw(st.sampled_from(DEPLOYMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(values) or [(values, "device")]))
        if data.draw(st.booleans()) or isinstance(container, list):
            container[key] = data.draw(odd)
        else:
            container[data.draw(st.sampled_from([f"{key}x", "type", "source", "name"]))] = container.pop(key)
    convert(values)
