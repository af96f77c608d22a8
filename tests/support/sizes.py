"""Places to look, printed by `make check`: long files, long functions, the median function. No limits to dodge."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONG_FILE, LONG_FUNCTION = 300, 60


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Name and lines of every function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def main() -> None:
    lengths = []
    for file in sorted(ROOT.glob("edged/**/*.py")):
        text, place = file.read_text("utf-8"), file.relative_to(ROOT)
        if (lines := text.count("\n")) > LONG_FILE:
            print(f"{place}: {lines} lines")
        for name, length in functions(ast.parse(text)):
            lengths.append(length)
            if length > LONG_FUNCTION:
                print(f"{place}: {name} has {length} lines")
    print(f"{len(lengths)} functions, {statistics.median(lengths):g} lines the median one")


if __name__ == "__main__":
    main()
