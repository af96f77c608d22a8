"""Tables of sensors as files: cells, quotes, separators, and how much of them is taken. What columns mean is in `tests/plan`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.key_file import MAX_COLUMNS, MAX_ROWS, KeyFile, parse_key_file


def parsed(text: str) -> KeyFile:
    return parse_key_file(Path("/etc/edged/k.csv"), "k.csv", text.encode())


def cells(text: str) -> list[list[str | None]]:
    return [[row.key.text, *(None if cell is None else cell.text for cell in row.cells)] for row in parsed(text).rows]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_cells(separator: str) -> None:
    text = 'label,key,t.scale\n# a remark, no row\n\n "a ""b"" | c" , k1 ,2\n,k2,\nd e,"k3",3\n'.replace(",", separator)
    text = text.replace("|", separator)
    assert cells(text) == [["k1", f'a "b" {separator} c', "2"], ["k2", None, None], ["k3", "d e", "3"]]
    table = parsed(text)
    assert [table.at(cell) for row in table.rows for cell in (row.key, *row.cells) if cell is not None][:3] == [
        "k.csv:4:18",
        "k.csv:4:2",
        "k.csv:4:22",
    ]


def test_numbers_have_a_comma_where_cells_are_separated_by_semicolons() -> None:
    for text, number in (("key;a.scale\nk;1,5\n", 1.5), ("key,a.scale\nk,1.5\n", 1.5), ("key,a.scale\nk,-2e3\n", -2000)):
        table = parsed(text)
        (cell,) = table.rows[0].cells
        assert cell is not None
        assert table.number(cell) == number
    for text in ("nan", "inf", "1,5", "x"):
        (cell,) = parsed(f'key,a.scale\nk,"{text}"\n').rows[0].cells
        assert cell is not None
        with pytest.raises(ValueError):  # noqa: PT011 (who asks has the words)
            parsed("key,a\n").number(cell)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "k.csv: expected a first line with the names of the columns, key among them, found an empty file"),
        (b"key\nf\xfcr\n", "k.csv:2: expected UTF-8"),
        (b"key,\nk,1\n", "k.csv:1:5: a column without a name"),
        (b"key,a\n,1\n", "k.csv:2:1: expected a key, found an empty cell"),
        (b"key,a\nk,%s\n" % (b"x" * 257), "k.csv:2:3: expected at most 256 characters, found 257"),
        (
            b",".join(b"c%d" % i for i in range(MAX_COLUMNS)) + b",key\n",
            "expected at most 100 columns and 10000 rows, found 101 and 0",
        ),
        (b"key\n" + b"".join(b"k%d\n" % i for i in range(MAX_ROWS + 1)), "found 1 and 10001"),
    ],
)
def test_what_is_no_table(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=r"^k\.csv") as caught:
        parse_key_file(Path("k.csv"), "k.csv", content)
    assert said in str(caught.value)
