"""The user's file: what of it a behaviour uses, and where in it something went wrong. Pure but for `load`."""

from __future__ import annotations

import ast
import hashlib
import inspect
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from edged.notation.values import Function
from edged.pipeline.preprocess import load_function

MAX_CHARS = 500
"""Characters of what an error says."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def load(function: Function) -> Callable[[Any], Awaitable[None]]:
    """The coroutine function. Raises ValueError, with a text for a person."""
    found: Any = load_function(f"{function.path.name}:{function.name}", function.path.parent)
    if not inspect.iscoroutinefunction(found):
        raise ValueError(f"{function.path}: {function.name} is not a coroutine; write async def {function.name}(me):")
    try:
        inspect.signature(found).bind(None)
    except TypeError as error:
        raise ValueError(
            f"{function.path}: {function.name} takes one argument: async def {function.name}(me): ({error})"
        ) from None
    return found  # type: ignore[no-any-return]


def digest(text: str, name: str) -> str:
    """Of all that the function `name` uses of its file: itself, what it calls there, and whatever is no function and no class.
    Neither comments nor the behaviours beside it count."""
    tree = ast.parse(text)
    definitions = {node.name: node for node in tree.body if isinstance(node, _DEFINITIONS)}
    rest = [node for node in tree.body if not isinstance(node, _DEFINITIONS)]
    used: dict[str, ast.AST] = {}
    todo = [name, *(found for node in rest for found in _names(node))]
    while todo:
        one = todo.pop()
        if one in definitions and one not in used:
            used[one] = definitions[one]
            todo += _names(definitions[one])
    parts = [ast.dump(node) for node in (*rest, *(used[one] for one in sorted(used)))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _names(tree: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]


def said(error: BaseException, path: Path) -> str:
    """What went wrong, and in which line of the user's file."""
    while isinstance(inner := getattr(error, "exceptions", None), tuple) and inner:  # of a task group
        error = inner[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"{path.name}:{lines[-1]}" if lines else path.name
    try:
        text = str(error)[:MAX_CHARS]
    except Exception:  # of the user's own class
        text = ""
    is_ours = type(error).__module__ == "edged.behaviours.face"
    return f"{where}: {text}" if is_ours else f"{where}: {type(error).__name__}{f': {text}' if text else ''}"
