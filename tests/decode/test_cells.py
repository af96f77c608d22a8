import pytest

from edged.decode.cells import HELD, closed_signs, one_blank, unquoted


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"1 2\n", b"1 2\n"),
        (b"  1.50   -2.00\n 11.60\t \t3.00  \n", b"1.50 -2.00\n11.60 3.00\n"),
        (b"\n \n\t1\n", b"\n\n1\n"),
    ],
)
def test_a_run_of_blanks_is_one(before: bytes, after: bytes) -> None:
    assert one_blank(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"1,2\n", b"1,2\n"),
        (b'"12","13.5"\n', b"12,13.5\n"),
        (b'"12",13.5\n1,"2"\n', b"12,13.5\n1,2\n"),
        (b'"",1\n', b",1\n"),
        (b'"a,b",1\n', b"a" + HELD + b"b,1\n"),
        (b'"say ""hi""",1\n', b'say "hi",1\n'),
        (b'"1,2\n', b'"1,2\n'),
        (b'1"2",3\n', b'1"2",3\n'),
        (b'"1,2\n1",2\n', b'"1,2\n1",2\n'),
        (b'"1"2,3\n', b'"1"2,3\n'),
    ],
)
def test_quotes_around_cells(before: bytes, after: bytes) -> None:
    assert unquoted(before, b",") == after


def test_blanks_in_quotes_separate_nothing() -> None:
    assert one_blank(unquoted(b'"a b"  1\t"2"\n', b" ")) == b"a" + HELD + b"b 1 2\n"


def test_a_sign_belongs_to_its_digits() -> None:
    assert closed_signs(b"+  4.876,-\t2,- 3") == b"+4.876,-2,-3"
