"""Where planners say what is wrong: below one key path, into the one list of the whole plan."""

from __future__ import annotations

import msgspec

from edged.errors import Problem


class Scope(msgspec.Struct, frozen=True):
    """The table `path` of the file. A planner that cannot go on says why here, and returns None."""

    path: str
    problems: list[Problem]

    def wrong(self, key: str, text: str, at: str = "value") -> None:
        """`key` is below the table; "" is the table itself."""
        self.problems.append(Problem(self._at(key), text, at))

    def warn(self, key: str, text: str, at: str = "value") -> None:
        self.problems.append(Problem(self._at(key), text, at, is_warning=True))

    def below(self, key: str) -> Scope:
        return Scope(self._at(key), self.problems)

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if key and self.path else key or self.path
