"""What of a user's file a behaviour uses, how it is loaded, and where in it something went wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edged.behaviours.code import digest, load, said
from edged.behaviours.face import Refused
from edged.notation.values import Function

TEXT = """
import math
LIMIT = 3

def helper(x):
    return inner(x)

def inner(x):
    return x

def other_helper():
    pass

async def guard(me):
    helper(LIMIT)

async def other(me):
    other_helper()
"""


@pytest.mark.parametrize(
    ("old", "new", "is_other"),
    [
        ("return x\n", "return x + 1\n", True),  # over another function
        ("helper(LIMIT)\n", "helper(LIMIT + 1)\n", True),
        ("LIMIT = 3", "LIMIT = 4", True),
        ("import math", "import cmath", True),
        ("other_helper()\n", "other_helper() or 1\n", False),  # of the behaviour beside it
        ("def other_helper():\n    pass", "def other_helper():\n    return 1", False),
        ("async def guard", "# a remark\nasync def guard", False),
    ],
)
def test_only_what_a_behaviour_uses_counts(old: str, new: str, is_other: bool) -> None:
    assert old in TEXT
    assert (digest(TEXT.replace(old, new), "guard") != digest(TEXT, "guard")) is is_other


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def f(me): pass", "f is not a coroutine; write async def f(me):"),
        ("async def f(): pass", "f takes one argument: async def f(me):"),
        ("async def g(me): pass", "there is no function f; there are: g"),
        ("async def f(me):\n  x = = 1", "SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, wanted: str) -> None:
    (tmp_path / "b.py").write_text(text)
    with pytest.raises(ValueError, match=re.escape(wanted)):
        load(Function(tmp_path / "b.py", "f"))


def test_the_line_is_that_of_the_users_file(tmp_path: Path) -> None:
    path = tmp_path / "b.py"
    path.write_text("import json\nasync def f(me):\n    me()\n")
    function = load(Function(path, "f"))

    def refuse() -> None:
        raise Refused("not in write")

    for me, wanted in ((refuse, "b.py:3: not in write"), (lambda: 1 / 0, "b.py:3: ZeroDivisionError: division by zero")):
        with pytest.raises((Refused, ZeroDivisionError)) as caught:
            function(me).__await__().__next__()
        assert said(caught.value, path) == wanted
