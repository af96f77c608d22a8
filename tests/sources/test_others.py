from edged.records import Reject
from edged.sources.others import NO_MATCH_NS, Others

S = 10**9
WHERE = {"kind": ("GPRMC",)}


def other(kind: str, times: int = 1) -> list[Reject]:
    return [Reject("other", f'kind = "{kind}"', f"{kind},1,2".encode(), times=times)]


def test_a_minute_of_others_is_told_with_what_is_there() -> None:
    others = Others()
    others.take(other("GNRMC", 3), False, S)
    assert others.complaint(WHERE) == ""
    others.take(other("GNGSV", 2), False, S + NO_MATCH_NS)
    assert others.complaint(WHERE) == (
        '5 messages in 60 s, all other than where = { kind = "GPRMC" }; seen: kind = "GNRMC", kind = "GNGSV"; '
        'write where = { kind = "GNRMC" }'
    )


def test_where_nothing_is_near_an_example_is_shown() -> None:
    others = Others()
    for now in (S, S + NO_MATCH_NS):
        others.take([Reject("other", "none of T in it", b"caf\xe9\r\n")], False, now)
    assert others.complaint({}) == r"2 messages in 60 s, all other: none of T in it; for example 'caf\\xe9'"


def test_one_good_row_or_one_bad_one_ends_it() -> None:
    for rejects, has_rows in (([], True), ([Reject("short", "")], False)):
        others = Others()
        others.take(other("GNRMC"), False, S)
        others.take(rejects, has_rows, 2 * S)
        others.take(other("GNRMC"), False, S + NO_MATCH_NS)
        assert others.complaint(WHERE) == ""
