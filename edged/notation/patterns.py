"""Regular expressions of the configuration: which are refused, since a line could keep them busy for ever.

A quantifier over something that has one, alternatives within a quantifier and back-references can take a time that doubles
with each character of a line that does not match. What is left ends soon, since a line ends at `max_bytes`.
"""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any

if sys.version_info >= (3, 11):
    from re import _constants as codes
    from re import _parser as parser
else:
    import sre_constants as codes
    import sre_parse as parser

_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_REFERENCES = {"GROUPREF", "GROUPREF_EXISTS"}
_BEYOND_A_LINE = {"ANY_ALL", "NOT_LITERAL"}
_FLAGS = re.compile(r"\(\?[aiLmsux-]+[:)]")
_EDGES_OF_ALL = {codes.AT_BEGINNING_STRING, codes.AT_END_STRING}
_CATEGORIES_OF_LINE_ENDS = {codes.CATEGORY_SPACE, codes.CATEGORY_NOT_DIGIT, codes.CATEGORY_NOT_WORD}


def checked_pattern(pattern: str) -> str:
    """The pattern, if it has named groups and ends in any case.

    Raises:
        ValueError: says why not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = re.compile(pattern.encode())
    except (re.error, RecursionError, OverflowError, FutureWarning, DeprecationWarning) as error:
        raise ValueError(f"expected a regular expression, found {pattern!r}: {error}") from None
    if not compiled.groupindex:
        raise ValueError(r"expected a named group for each value, such as (?P<kg>[\d.]+), found none")
    why = _danger(_tree(pattern), 0)
    if why:
        raise ValueError(f"{why}; in {pattern}")
    return pattern


def groups_of(pattern: str) -> tuple[str, ...]:
    """The names of its groups, in order."""
    return tuple(re.compile(pattern.encode()).groupindex)


def stays_in_line(pattern: str) -> bool:
    """Whether no match of it can hold a line end or ask where the text begins or ends, so that it can search many lines at
    once."""
    return _FLAGS.search(pattern) is None and not _leaves(_tree(pattern))


def _tree(pattern: str) -> Any:
    parse: Any = parser.parse  # takes bytes too
    return parse(pattern.encode())


def _danger(tree: Any, repeats: int) -> str:
    for code, value in tree:
        name = str(code)
        if name in _REFERENCES:
            return "a back-reference can take exponential time on a line that does not match; write what it stands for"
        if repeats and name == "BRANCH":
            return "alternatives within a quantifier, as in (a|ab)*, can take exponential time on a line that does not match"
        inner = repeats
        if name in _REPEATS:
            low, high, _ = value
            if repeats and low != high:
                return (
                    "a quantifier over something that has one, as in (a+)+, can take exponential time on a line that does not "
                    "match; write a+"
                )
            inner = repeats + (high > 1)
        for child in _children(value):
            if why := _danger(child, inner):
                return why
    return ""


def _leaves(tree: Any) -> bool:
    for code, value in tree:
        name = str(code)
        if name in _BEYOND_A_LINE or (name == "AT" and value in _EDGES_OF_ALL):
            return True
        if name == "LITERAL" and value == ord("\n"):
            return True
        if name == "IN" and _takes_line_end(value):
            return True
        if any(_leaves(child) for child in _children(value)):
            return True
    return False


def _takes_line_end(members: Any) -> bool:
    for code, value in members:
        name = str(code)
        if name == "NEGATE" or (name == "LITERAL" and value == ord("\n")):
            return True
        if name == "RANGE" and value[0] <= ord("\n") <= value[1]:
            return True
        if name == "CATEGORY" and value in _CATEGORIES_OF_LINE_ENDS:
            return True
    return False


def _children(value: Any) -> list[Any]:
    """The patterns within one part of a pattern."""
    if isinstance(value, parser.SubPattern):
        return [value]
    if isinstance(value, list | tuple):
        return [child for one in value for child in _children(one)]
    return []
