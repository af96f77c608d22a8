"""What the command `edged tap` does: shows samples, windows or results as they pass, of a daemon that runs; or what comes on a
port or a topic that no configuration names yet. It takes what it can get: nothing waits for it."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edged.commands.ask import listen_to_daemon
from edged.commands.listen import hear_broker, hear_port, observer
from edged.commands.loop import on_loop
from edged.decode.propose import propose, shown
from edged.errors import EX_OK, EX_USAGE, Fatal
from edged.results.fields import OF_THE_RUN
from edged.system import log
from edged.system.process import complain, say
from edged.system.readable import readable

PROPOSED_OF = 16
"""Refused payloads: enough to see what they have in common."""
LOOK_BYTES, LOOK_S = 1024, 2.0
"""A port is listened to for so much, or so long, before anything is proposed."""
MAX_BYTES = 4096
NO_LINE_BYTES = 256
"""Bytes without a line's end that are shown as they are."""


def tap(config: Path, stream: str, stage: str | None, key: str | None, count: int | None, as_json: bool) -> int:
    """What passes in the daemon of this configuration, until Ctrl-C or `count` lines. Raises Fatal when none answers."""
    asked = {"command": "tap", "stream": stream, "stage": stage, "key": key}
    with contextlib.suppress(KeyboardInterrupt):
        lines = listen_to_daemon(config, asked)
        head = next(lines, None)
        if head is None or not head["ok"]:
            raise Fatal("; ".join(head["errors"]) if head else "the daemon ended before it answered", EX_USAGE)
        _show(lines, count, as_json)
    return EX_OK


def _show(lines: Iterator[dict[str, Any]], count: int | None, as_json: bool) -> None:
    proposals, left = Proposals(), count
    for line in lines:
        say(json.dumps(line) if as_json else text(line), is_clean=True)
        if line.get("stage") == "rejected" and (fix := proposals.of(line)):
            complain(f"what would read these: {fix}")
        if left is not None and "stage" in line:
            left -= 1
            if left <= 0:
                return


class Proposals:
    """What would read the payloads that were refused; each thing once."""

    def __init__(self) -> None:
        self._payloads: deque[bytes] = deque(maxlen=PROPOSED_OF)
        self._said = ""

    def of(self, line: dict[str, Any]) -> str:
        self._payloads.append(base64.b64decode(line["data"]).strip(b"\r\n"))
        found = "; ".join(propose(b"\n".join([b"", *self._payloads, b""])))
        if not found or found == self._said:
            return ""
        self._said = found
        return found


def text(line: dict[str, Any]) -> str:
    """One line for a person."""
    if "left_out" in line:
        return f"... {line['left_out']} more passed meanwhile"
    if "end" in line:
        return f"end: {line['end']}"
    stage = line["stage"]
    at = _time(line["time"]) if "time" in line else _time(time.time())
    key = f" {readable(line['key'])}" if line.get("key") else ""
    if stage == "raw":
        return f"{at}{key} {_bytes(line)}"
    if stage == "rejected":
        times = f" ({line['times']} times)" if line["times"] > 1 else ""
        return f"{at} rejected as {line['reason']}{times}: {readable(line['detail'])}: {_bytes(line)}"
    if stage == "decoded":
        degraded = "  degraded" if line.get("degraded") else ""
        return f"{at}{key} {_pairs(line['values'])}{degraded}"
    if stage == "window":
        return f"{at}{key} {_pairs(line['inputs'])} -> {_pairs(line['outputs'])}"
    shown_before = OF_THE_RUN | {"time", "key"}
    result = {name: value for name, value in line["result"].items() if name not in shown_before}
    return f"{at}{key} {readable(json.dumps(result, ensure_ascii=False))}"


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{int(seconds % 1 * 1000):03}"


def _pairs(values: dict[str, Any]) -> str:
    return readable("  ".join(f"{name}={_value(value)}" for name, value in values.items()))


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        shape = " x ".join(map(str, value["shape"]))
        rest = ", ".join(f"{name} {_value(value[name])}" for name in ("min", "mean", "max", "not_finite") if name in value)
        return f"({shape}: {rest})"
    return str(value)


def _bytes(line: dict[str, Any]) -> str:
    data = base64.b64decode(line["data"])
    more = f" ... {line['bytes']} bytes" if line["bytes"] > len(data) else ""
    return payload_text(data) + more


def payload_text(data: bytes) -> str:
    """As text where it is, else in hex."""
    try:
        decoded = data.decode()
    except UnicodeDecodeError:
        decoded = "\0"
    return repr(decoded) if decoded.rstrip("\r\n").replace("\t", " ").replace("\r\n", "").isprintable() else data.hex(" ")


def tap_port(port: str, baudrate: int, count: int | None, seconds: float | None, as_json: bool) -> int:
    """Lines of a serial port as they come, and what would read them. Raises Fatal where it cannot be opened."""
    log.configure("error")
    taken = Lines(count, as_json)
    with contextlib.suppress(KeyboardInterrupt):
        on_loop(hear_port(port, baudrate, seconds, taken.take))
    taken.end()
    return EX_OK


class Lines:
    """Cuts what a port sends into lines for whoever looks."""

    def __init__(self, count: int | None, as_json: bool) -> None:
        self._left = float("inf") if count is None else count
        self._as_json = as_json
        self._rest = b""
        self._looked = b""
        self._since = time.monotonic()
        self._is_proposed = False

    def take(self, data: bytes) -> bool:
        """Whether it was enough."""
        if not self._is_proposed:
            self._looked = (self._looked + data)[:MAX_BYTES]
            if len(self._looked) >= LOOK_BYTES or time.monotonic() - self._since >= LOOK_S:
                self._propose()
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) >= NO_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._say(line)
            if self._left <= 0:
                return True
        return False

    def end(self) -> None:
        if self._rest and self._left > 0:
            self._say(self._rest)
        if not self._is_proposed:
            self._propose()

    def _say(self, line: bytes) -> None:
        if self._left <= 0:
            return
        self._left -= 1
        now = time.time()
        data = base64.b64encode(line[:MAX_BYTES]).decode()
        say(json.dumps({"stage": "raw", "time": now, "bytes": len(line), "data": data}) if self._as_json else
            f"{_time(now)} {payload_text(line[:MAX_BYTES])}")  # fmt: skip

    def _propose(self) -> None:
        self._is_proposed = True
        if found := propose(self._looked):
            complain(f"what would read this: {'; '.join(found)}")
        elif self._looked:
            complain(f"edged does not recognize this: it begins {shown(self._looked)}")


def tap_topic(config: Path, broker: str, topic: str, count: int | None, seconds: float | None, as_json: bool) -> int:
    """Messages of a topic filter as they come. Raises Fatal where the broker lets nobody in."""
    log.configure("error")
    left = [float("inf") if count is None else count]

    def take(name: str, payload: bytes, is_kept: bool) -> bool:
        now, data = time.time(), payload[:MAX_BYTES]
        if as_json:
            shown_data = base64.b64encode(data).decode()
            said = {"stage": "raw", "time": now, "topic": name, "retained": is_kept, "bytes": len(payload), "data": shown_data}
            say(json.dumps(said))
        else:
            kept = " (retained)" if is_kept else ""
            more = f" ... {len(payload)} bytes" if len(payload) > len(data) else ""
            say(f"{_time(now)} {readable(name)}{kept} {payload_text(data)}{more}")
        left[0] -= 1
        return left[0] <= 0

    with contextlib.suppress(KeyboardInterrupt):
        on_loop(hear_broker(observer(config, broker, [topic], "tap"), seconds, take))
    return EX_OK
