"""What values of the configuration are in the program, where Python has no type of its own for them."""

from __future__ import annotations

from pathlib import Path

import msgspec

NEVER = 0
"""What "never" is as a duration; no other is 0."""


class Secret(str):
    """A text that no log line and no message shows; `reveal()` gives the plain string."""

    __slots__ = ()

    def reveal(self) -> str:
        return self.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return "Secret(...)"

    def __str__(self) -> str:
        return "(secret)"

    def __format__(self, spec: str) -> str:
        return format("(secret)", spec)


class HttpUrl(msgspec.Struct, frozen=True):
    """Where a remote model answers. `path` has its query, which no message shows."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """As the Host header wants it: without the usual port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path.partition('?')[0]}"


class BrokerUrl(msgspec.Struct, frozen=True):
    """Where a broker listens: a host and port over TCP (`mqtt`) or TLS (`mqtts`), the same with the path of a websocket (`ws`,
    `wss`), or the path of a unix socket."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_tls(self) -> bool:
        return self.scheme in ("mqtts", "wss")

    @property
    def is_websocket(self) -> bool:
        return self.scheme in ("ws", "wss")

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.path}"
        shown_path = self.path.partition("?")[0]  # what is asked for there may be a secret
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}{shown_path}"


class Span(msgspec.Struct, frozen=True):
    """The length of a window: so many samples, or so many ns. Exactly one of the two is set."""

    samples: int | None = None
    duration: int | None = None


class Function(msgspec.Struct, frozen=True):
    """A function of the user's, in a Python file beside the configuration."""

    path: Path
    name: str
