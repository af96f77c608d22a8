"""An HTTP peer of our own, as well or as badly behaved as a test wants: a function that has the socket answers each request."""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[socket.socket, Asked], bool]
"""Answers one request; whether the connection is kept."""


class HttpPeer:
    """`with HttpPeer(behaviour) as peer:` listens. `behaviour` may be changed at any time; `asked` has all requests."""

    def __init__(self, behaviour: Behaviour, tls: tuple[Path, Path] | None = None) -> None:
        self.behaviour = behaviour
        self.asked: list[Asked] = []
        self._tls = tls
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._is_open = True

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> HttpPeer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while self._is_open:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.add(one)
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with suppress(OSError, ValueError):
            if self._tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*self._tls)
                one = context.wrap_socket(one, server_side=True)
                self._sockets.add(one)
            stream = one.makefile("rb")
            while (asked := _read(stream)) is not None:
                self.asked.append(asked)
                if not self.behaviour(one, asked):
                    break
        self._sockets.discard(one)
        one.close()


def _read(stream: Any) -> Asked | None:
    line = stream.readline().decode()
    if not line:
        return None
    method, path, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while (line := stream.readline().decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Asked(method, path, headers, stream.read(int(headers.get("content-length", 0))))


def answer(
    one: socket.socket, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, kind: str = "application/json"
) -> bool:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    one.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return True


def says(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """JSON, always the same."""
    return lambda one, asked: answer(one, json.dumps(value).encode(), status, headers)


def completes(text: str) -> Behaviour:
    """A chat completion."""
    return says({"choices": [{"message": {"role": "assistant", "content": text}}]})


def streams(*parts: str, pause_s: float = 0.0) -> Behaviour:
    """A chat completion in parts, as server-sent events; the connection ends it."""

    def behave(one: socket.socket, asked: Asked) -> bool:
        one.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for part in parts:
            one.sendall(b"data: " + json.dumps({"choices": [{"delta": {"content": part}}]}).encode() + b"\n\n")
            linger(one, pause_s)
        one.sendall(b"data: [DONE]\n\n")
        return False

    return behave


def infers(
    function: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], name: str = "y", shape: tuple[int, ...] = (-1, 2)
) -> Behaviour:
    """The V2 protocol with binary tensors: one input `x` of float32."""

    def behave(one: socket.socket, asked: Asked) -> bool:
        if asked.method == "GET":
            metadata = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": list(shape)}], "outputs": []}
            return answer(one, json.dumps(metadata).encode())
        size = int(asked.headers["inference-header-content-length"])
        [tensor] = json.loads(asked.body[:size])["inputs"]
        y = function(np.frombuffer(asked.body[size:], "<f4").reshape(tensor["shape"])).astype("<f4")
        said = {"name": name, "datatype": "FP32", "shape": list(y.shape), "parameters": {"binary_data_size": y.nbytes}}
        head = json.dumps({"model_name": "m", "outputs": [said]}).encode()
        return answer(one, head + y.tobytes(), headers={"Inference-Header-Content-Length": str(len(head))})

    return behave


def linger(one: socket.socket, seconds: float) -> None:
    """So long, or until the other side is gone."""
    select.select([one], [], [], seconds)


def hangs(one: socket.socket, asked: Asked) -> bool:
    linger(one, 60)
    return False


def slow(behaviour: Behaviour, seconds: float) -> Behaviour:
    def behave(one: socket.socket, asked: Asked) -> bool:
        linger(one, seconds)
        return behaviour(one, asked)

    return behave


def drips(one: socket.socket, asked: Asked) -> bool:
    """One byte per second."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100:
        one.sendall(bytes([byte]))  # raises when the other side is gone
        linger(one, 1.0)
    return False


def resets(one: socket.socket, asked: Asked) -> bool:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def babbles(one: socket.socket, asked: Asked) -> bool:
    one.sendall(b"\x00\xff garbage \r\n\r\n" * 100)
    return False


def floods(one: socket.socket, asked: Asked) -> bool:
    """A body without an end, each byte a chunk of its own."""
    one.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        one.sendall(b"1\r\nx\r\n" * 10_000)


def is_huge(one: socket.socket, asked: Asked) -> bool:
    one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        one.sendall(b"x" * 65536)


def redirects(one: socket.socket, asked: Asked) -> bool:
    return answer(one, b"", 302, {"Location": "http://127.0.0.1:1/"})


HOSTILE: dict[str, Behaviour] = {
    "hangs": hangs,
    "drips": drips,
    "resets": resets,
    "babbles": babbles,
    "floods": floods,
    "is_huge": is_huge,
    "redirects": redirects,
    "fails": says({"error": "no"}, 500),
    "says_something_else": says({"what": None}),
}
