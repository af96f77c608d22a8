"""The page of troubles has a section for every state and every reason of a drop that the code knows, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import edged

EDGED = Path(edged.__file__).parent
PAGE = (EDGED / "manual" / "troubleshooting.md").read_text("utf-8")
SECTIONS = re.findall(r"^### `([^`]+)`$", PAGE, re.MULTILINE)
ROOMS = (
    "behaviours",
    "decode",
    "health",
    "model/remote",
    "model/runner.py",
    "mqtt",
    "pipeline",
    "results",
    "serialport",
    "sources",
    "spool",
    "stamp",
)
"""Where parts have states, and rows are dropped."""
REFUSE = {"Reject", "BadPayload", "BadTime", "reject", "drop_oldest", "drop_replies", "encode_error", "fail", "says"}
"""Calls whose first argument is a reason."""
PASS_ON = {"_refuse", "refuse", "_strike", "_let_go"}
"""Calls of which some argument is one."""
TURN = {"Again", "NoRetain", "OtherVersion", "Refusal", "Retryable", "Unanswered", "show", "turn", "_turn", "kind", "__init__"}
"""Calls whose first argument is a state."""
TABLES = {"EXCEPTIONS", "REASONS", "_REASONS", "INTERNAL_ERROR", "THINNED"}
"""Constants that hold reasons."""
THROUGH_A_NAME = {"finished", "framing", "hanging", "internal_error", "long", "parity", "poison", "several_rows"}
"""Words that the code keeps under a name before it says them."""
PIECE = 6
"""Characters of a text that are enough to tell that a message is made of it."""
SHOWN_ELSEWHERE = {"full"}
"""The state of a file that somebody writes to, which is told as the trouble of its source."""


def words(node: ast.AST | None) -> Iterator[str]:
    """The texts that an expression can be."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=other):
            yield from words(body)
            yield from words(other)
        case ast.Tuple(elts=parts):
            for part in parts:
                yield from words(part)
        case ast.Dict(values=parts):
            for part in parts:
                yield from words(part)


def reasons_and_states(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]) if name in REFUSE | TURN:
                yield from words(first)
            case ast.Call(func=ast.Attribute(attr=name), args=arguments) if name in PASS_ON:
                for argument in arguments:
                    yield from words(argument)
            case ast.Call(func=ast.Attribute(attr="add", value=ast.Name(id=name) | ast.Attribute(attr=name)), args=[first, *_]):
                yield from words(first) if name in ("drops", "_drops") else ()
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in TABLES:
                yield from words(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if name in TABLES:
                yield from words(value)
            case ast.Assign(targets=[ast.Attribute(attr="state" | "_state")], value=value):
                yield from words(value)
            case ast.FunctionDef(name=name) if "state" in name:
                for inner in ast.walk(node):
                    match inner:
                        case ast.Return(value=ast.Tuple(elts=[first, _])):
                            yield from words(first)


def known() -> set[str]:
    files = [file for room in ROOMS for file in ([EDGED / room] if room.endswith(".py") else (EDGED / room).rglob("*.py"))]
    found = {word for file in files for word in reasons_and_states(file)}
    return {
        word for word in found if re.fullmatch(r"[a-z][a-z_]+|bad values|no valid frame", word)
    } - SHOWN_ELSEWHERE | THROUGH_A_NAME


def test_every_state_and_reason_has_its_section() -> None:
    assert len(known()) > 80
    assert sorted(known() - set(SECTIONS)) == []


@cache
def texts() -> set[str]:
    """Every text of the code; of one with variable parts each piece."""
    nodes = (node for file in EDGED.rglob("*.py") for node in ast.walk(ast.parse(file.read_text("utf-8"))))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_no_section_is_of_another_time() -> None:
    known = texts()
    assert [word for word in SECTIONS if word not in known] == []


def test_the_messages_among_the_symptoms_are_those_of_the_code() -> None:
    pieces = {text.strip() for text in texts() if len(text.strip()) >= PIECE}
    symptoms = re.findall(r"^\| ([^|]*`[^|]*) \|", PAGE.split("## Symptoms")[1].split("\n## ")[0], re.MULTILINE)
    messages = [message for symptom in symptoms for message in re.findall(r"`([^`]+)`", symptom) if " " in message.strip(", ")]
    assert len(messages) > 15
    assert [message for message in messages if not any(piece in message for piece in pieces)] == []


def test_the_sections_stand_in_the_order_of_the_alphabet() -> None:
    assert sorted(SECTIONS) == SECTIONS
    assert len(set(SECTIONS)) == len(SECTIONS)
