from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.topics import TopicError, matches, overlaps, parse_filter, parse_template, unfit

FIXED = {"device": "pi4", "base_topic": "edged/pi4"}

# What a broker does, level by level, as MQTT says it: the yardstick for our patterns.


def broker_matches(filter_text: str, topic: str) -> bool:
    wanted, found = filter_text.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(found) or (level not in ("+", found[i])):
            return False
    return len(found) == len(wanted) or (len(found) == len(wanted) - 1 and wanted[-1] == "#")


levels = st.sampled_from(["a", "b", "ab", "", "$a"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(st.sampled_from(["a", "b", "", "+", "$a"]), min_size=1, max_size=4), st.sampled_from(["", "/#"]))
    .map(lambda parts: "/".join(parts[0]) + parts[1])
    .filter(bool)
)


@given(filters, topics)
def test_matches_what_a_broker_matches(filter_text: str, topic: str) -> None:
    ours = parse_filter(filter_text).match(topic) is not None
    parent_of_rest = filter_text.endswith("/#") and broker_matches(filter_text[:-2], topic)
    assert ours == (broker_matches(filter_text, topic) or parent_of_rest)


@given(filters, filters, topics)
def test_filters_that_share_a_topic_overlap(a: str, b: str, topic: str) -> None:
    first, second = parse_filter(a), parse_filter(b)
    assert overlaps(first, second) == overlaps(second, first)
    if first.match(topic) is not None and second.match(topic) is not None:
        assert overlaps(first, second)


def test_captures() -> None:
    pumps = parse_filter("plant/{line}/{pump}/telemetry")
    assert (pumps.mqtt, pumps.captures, pumps.has_wildcards) == ("plant/+/+/telemetry", ("line", "pump"), False)
    assert pumps.match("plant/A/17/telemetry") == ("A", "17")
    assert pumps.match("plant/A/17/health") is None
    assert pumps.match("plant/A/17/x/telemetry") is None
    assert pumps.match("plant//17/telemetry") == ("", "17")
    assert pumps.match("plant/A\nB/17/telemetry") == ("A\nB", "17")


def test_the_rest_is_captured() -> None:
    rest = parse_filter("plant/{line}/{rest...}")
    assert (rest.mqtt, rest.captures) == ("plant/+/#", ("line", "rest"))
    assert rest.match("plant/A/b/c") == ("A", "b/c")
    assert rest.match("plant/A") is None


def test_fixed_names_are_filled_in_anywhere() -> None:
    assert parse_filter("{base_topic}/in/{device}-x/{n}", FIXED).mqtt == "edged/pi4/in/pi4-x/+"


def test_wildcards_of_its_own_are_known() -> None:
    assert parse_filter("plant/+/{pump}").has_wildcards
    assert parse_filter("plant/#").has_wildcards


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a\0b", "U+0000"),
        ("a/\x85", "U+0085"),
        ("a" * 65536, "65535"),
        ("é" * 32768, "65535"),
        ("a/b+/c", '"b+": + and # stand for whole levels'),
        ("a/#/c", "# takes all levels that follow"),
        ("a/{r...}/c", "{r...} takes all levels that follow"),
        ("a/pump{n}", "write {n} alone between two slashes"),
        ("a/{x}/{x}", "{x} is captured twice"),
        ("a/{x", "a brace is not closed"),
        ("a/x}", "a brace is not closed"),
        ("a/{}", "a capture is named with"),
        ("a/{a b}", "a capture is named with"),
        ("a/{key}", "cannot be captured"),
        ("$share/group/a", 'write topic = "a" and share = "group"'),
    ],
)
def test_refuses_filters(text: str, said: str) -> None:
    with pytest.raises(TopicError) as caught:
        parse_filter(text)
    assert said in str(caught.value)


def test_a_template_is_filled() -> None:
    template = parse_template("{base_topic}/{pipeline}/{key}", {**FIXED, "pipeline": "health"}, ("line", "pump", "key"))
    assert template.names == ("key",)
    assert template.fill({"key": "A/17"}) == "edged/pi4/health/A/17"
    assert parse_template("x/{a}{b}/y", {}, ("a", "b")).fill({"a": "1", "b": "2"}) == "x/12/y"


def test_a_topic_that_is_too_long_is_refused_when_filled() -> None:
    template = parse_template("a/{key}", {}, ("key",))
    assert len(template.fill({"key": "k" * 65533})) == 65535
    with pytest.raises(TopicError):
        template.fill({"key": "é" * 32767})


def test_what_brokers_refuse_in_a_topic() -> None:
    """The classes of MQTT 5, 1.5.4, each with its neighbours. tests/transport asks mosquitto about the same."""
    refused = [*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000), *range(0xFDD0, 0xFDF0)]
    refused += [plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF)]
    assert [code for code in range(0x110000) if unfit(chr(code))] == sorted(refused)
    assert unfit("pump\x01\x02") == "U+0001"
    assert unfit("pump 7/\u2028\ufeff\ue000") == ""


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("a/{key}", "b\x01", "U+0001"),
        ("a/{key}", "b/\x9f/c", "U+009F"),
        ("{key}/a", "\ufdd0", "U+FDD0"),
        ("{key}/a", "$SYS/b", "begins with $"),
    ],
)
def test_what_no_broker_takes_is_refused_when_filled(text: str, key: str, said: str) -> None:
    with pytest.raises(TopicError, match=re.escape(said)):
        parse_template(text, {}, ("key",)).fill({"key": key})


def test_a_dollar_sign_is_the_brokers_only_at_the_front() -> None:
    assert parse_template("a/{key}", {}, ("key",)).fill({"key": "$SYS/b"}) == "a/$SYS/b"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TopicError) as caught:
        parse_template("plant/{pumps}", {"device": "d", "pipeline": "p", "base_topic": "b"}, ("line", "pump", "key"))
    assert str(caught.value) == (
        "{pumps} is not known here; known: {line} {pump} {key} {device} {pipeline} {base_topic}; did you mean {pump}?"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a/+/b", "cannot be published to"),
        ("a/#", "cannot be published to"),
        ("$SYS/a", "belong to the broker"),
        ("a/{key", "a brace is not closed"),
        ("a/key}", "a brace is not closed"),
        ("a\0", "U+0000"),
        ("a/\U0001ffff/b", "U+1FFFF"),
    ],
)
def test_refuses_templates(text: str, said: str) -> None:
    with pytest.raises(TopicError) as caught:
        parse_template(text, {}, ("key",))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("a", "b", "do"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "+/b", True),
        ("a/+/c", "a/b/+", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "+/b/c", True),
        ("#", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/{r...}", "a/b/c", True),
    ],
)
def test_overlaps(a: str, b: str, do: bool) -> None:
    assert overlaps(parse_filter(a), parse_filter(b)) is do


@pytest.mark.parametrize(
    ("source", "result", "do"),
    [
        ("plant/{line}/{pump}/telemetry", "plant/{line}/{pump}/telemetry", True),
        ("plant/{line}/{pump}/telemetry", "plant/{line}/{pump}/health", False),
        ("plant/{line}/{pump}/telemetry", "plant/{key}/telemetry", True),
        ("plant/{line}", "plant/{key}", True),
        ("plant/{line}", "plant/{line}/health", False),
        ("plant/#", "plant", True),
        ("{room}/pcm", "home-{room}/pcm", True),
        ("{room}/pcm", "home/{room}/pcm", False),
        ("#", "x/{key}", True),
    ],
)
def test_a_loop_is_seen(source: str, result: str, do: bool) -> None:
    names = ("line", "pump", "room", "key")
    filter_, template = parse_filter(source), parse_template(result, {}, names)
    assert matches(filter_, template) is do
