"""The daemon as a process, sensors on real pseudo-terminals, and a client at its broker: what the live tests are made of.

Nothing here sleeps for a fixed time: everything waits for something to be seen, with a deadline that only a failure meets.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.pause import pause

T = TypeVar("T")

DEADLINE_S = 20.0
LOOK_S = 0.01
EX_CONFIG = 78
ROOT = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], T], limit_s: float = DEADLINE_S, what: str = "it") -> T:
    """Waits for something to become true and returns it; fails the test when it does not."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {limit_s} s in vain for {what}"
        pause(LOOK_S, "between two looks")
    return value


def edged(
    *arguments: str,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    module: str = "edged.cli",
    python: str = sys.executable,
) -> subprocess.Popen[bytes]:
    """A command of edged, its output caught; `python -P`-like: only what is installed is imported."""
    return subprocess.Popen(
        [python, "-m", module, *arguments],
        cwd=cwd or ROOT,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def said(process: subprocess.Popen[bytes], limit_s: float = DEADLINE_S) -> tuple[int, str, str]:
    """Waits for a command's end: exit status, output, errors."""
    out, err = process.communicate(timeout=limit_s)
    return process.returncode, out.decode(), err.decode()


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether the kernel has yet to hand a signal over to a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


class Systemd:
    """The socket in $NOTIFY_SOCKET; `notices` are the lines that came in, in order."""

    def __init__(self) -> None:
        self.name = f"@edged-test-{uuid.uuid4().hex}"
        self.notices: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.name[1:])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            self.notices += data.decode().splitlines()

    def close(self) -> None:
        self._socket.sendto(b"", "\0" + self.name[1:])
        self._thread.join()
        self._socket.close()


class Daemon:
    """`with Daemon(folder, text) as daemon:` runs `edged run` on a configuration and waits until it is READY.

    At the end of the block it is told to stop, must do so with status 0, and must not have logged a bug.
    """

    def __init__(
        self,
        folder: Path,
        text: str,
        *,
        name: str = "edged.toml",
        watchdog_s: float | None = None,
        environ: Mapping[str, str] | None = None,
        stderr: int | None = None,
        within: Sequence[str] = (),
        module: str = "edged.cli",
        python: str = sys.executable,
    ) -> None:
        """`stderr`: a file descriptor for the log, instead of a file beside the configuration. `within`: a command that runs
        the one given to it, in its own process. `module`: what is run in the place of edged. `python`: by whom."""
        self._python = python
        self._stderr = stderr
        self._within = tuple(within)
        self._module = module
        self.more: tuple[str, ...] = ()
        """Further arguments of `edged run`."""
        self.config = folder / name
        self.config.write_text(text, encoding="utf-8")
        self._log = folder / f"{name}.log"
        self._watchdog_s = watchdog_s
        self._environ = dict(environ or {})
        self.process: subprocess.Popen[bytes]
        self.systemd: Systemd

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            sys.stderr.write(f"\n--- {self._log}\n{self.log[-8000:]}\n")
            self.kill()
            return
        if self.process.poll() is None:
            assert self.stop() == 0, self.log[-4000:]
        self.assert_no_bug()

    def start(self, limit_s: float = DEADLINE_S) -> None:
        self.spawn()
        until(lambda: "READY=1" in self.notices or self.process.poll() is not None, limit_s, "READY")
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"

    def spawn(self) -> None:
        self.systemd = Systemd()
        state = str(self.config.parent / "state")
        environ = {**os.environ, "NOTIFY_SOCKET": self.systemd.name, "STATE_DIRECTORY": state, **self._environ}
        if self._watchdog_s is not None:
            environ["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._within, self._python, "-m", self._module, "run", "-c", str(self.config), *self.more],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if self._stderr is None else self._stderr,
                start_new_session=True,
            )

    @property
    def notices(self) -> list[str]:
        return self.systemd.notices

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_log(self, text: str, limit_s: float = DEADLINE_S) -> None:
        until(lambda: text in self.log, limit_s, f"{text!r} in the log:\n{self.log[-4000:]}")

    def assert_no_bug(self) -> None:
        for word in ("Traceback", "internal error", "messages_failed"):
            assert word not in self.log, self.log[-6000:]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It does nothing meanwhile: time for a witness to subscribe at a broker that comes late, before any result does."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def wait(self, limit_s: float = DEADLINE_S) -> int:
        """The exit status, once it has ended by itself."""
        code = self.process.wait(limit_s)
        self.systemd.close()
        return code

    def stop(self, limit_s: float = DEADLINE_S) -> int:
        self.signal(signal.SIGTERM)
        return self.wait(limit_s)

    def kill(self) -> None:
        """Without a word, as a power cut would."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.wait()

    # What the kernel says of it.

    @property
    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def threads(self) -> list[str]:
        tasks = Path(f"/proc/{self.process.pid}/task")
        return [(task / "comm").read_text().strip() for task in tasks.iterdir()]

    @property
    def resident_kib(self) -> int:
        return self._status("VmRSS")

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, key: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(key)).split()[1])


class Seen(NamedTuple):
    topic: str
    payload: bytes
    is_retained: bool
    correlation: bytes | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


def leave(client: mqtt.Client) -> None:
    """Ends a client with its thread and its sockets: paho closes the pair that wakes its thread only when it is collected, which
    the next test would be told."""
    client.disconnect()
    client.loop_stop()
    client._reset_sockets()


class Client:
    """A client at the broker that keeps everything it is sent, `edged/#` and `out/#` unless told otherwise.

    With `session_s` the broker keeps for so long what the client may miss. `user` is name and password.
    """

    def __init__(self, port: int, *filters: str, name: str = "", session_s: int = 0, user: tuple[str, str] | None = None) -> None:
        self.port = port
        self._session_s = session_s
        self.messages: list[Seen] = []
        self._filters = filters or ("edged/#", "out/#")
        self._news = threading.Condition()
        self._is_subscribed = False
        self._mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        if user is not None:
            self._mqtt.username_pw_set(*user)
        self._mqtt.max_queued_messages_set(0)
        self._mqtt.max_inflight_messages_set(1000)
        self._mqtt.reconnect_delay_set(0.02, 0.02)  # type: ignore[arg-type]
        self._mqtt.on_connect = self._on_connect
        self._mqtt.on_subscribe = self._on_subscribe
        self._mqtt.on_disconnect = self._on_disconnect
        self._mqtt.on_message = self._on_message

    def __enter__(self) -> Client:
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = self._session_s
        self._mqtt.connect("127.0.0.1", self.port, clean_start=not self._session_s, properties=kept)
        self._mqtt.loop_start()
        self.wait_subscribed()
        return self

    def wait_subscribed(self) -> None:
        """Until it gets what is published from now on, again after a broker's restart."""
        with self._news:
            assert self._news.wait_for(lambda: self._is_subscribed, DEADLINE_S)

    def __exit__(self, *_: object) -> None:
        leave(self._mqtt)

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe([(f, 1) for f in self._filters])

    def _on_subscribe(self, *_: Any) -> None:
        with self._news:
            self._is_subscribed = True
            self._news.notify_all()

    def _on_disconnect(self, *_: Any) -> None:
        with self._news:
            self._is_subscribed = False

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        with self._news:
            correlation = getattr(message.properties, "CorrelationData", None)
            self.messages.append(Seen(message.topic, bytes(message.payload), message.retain, correlation))
            self._news.notify_all()

    def publish(self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False) -> None:
        """Returns at QoS 1 when the broker has it."""
        info = self._mqtt.publish(topic, payload, qos, retain)
        info.wait_for_publish(DEADLINE_S)
        assert info.is_published()

    def publish_all(self, topic: str, payloads: Iterable[bytes | str], qos: int = 1) -> None:
        """All of them in one go; returns when the broker has them."""
        for info in [self._mqtt.publish(topic, payload, qos) for payload in payloads]:
            info.wait_for_publish(DEADLINE_S)

    def ask(
        self, topic: str, payload: bytes | str, answers: str, correlation: bytes | None, qos: int = 1, expiry_s: int | None = None
    ) -> None:
        """A request whose answer is wanted on the topic `answers`; does not wait for anything."""
        wanted = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        wanted.ResponseTopic = answers
        if correlation is not None:
            wanted.CorrelationData = correlation
        if expiry_s is not None:
            wanted.MessageExpiryInterval = expiry_s
        self._mqtt.publish(topic, payload, qos, properties=wanted)

    def of(self, topic: str) -> list[Seen]:
        """What came in on one topic so far."""
        with self._news:
            return [m for m in self.messages if m.topic == topic]

    def wait(self, topic: str, count: int = 1, limit_s: float = DEADLINE_S) -> list[Seen]:
        """The messages of a topic, once there are so many of them."""
        return self.until(lambda: found if len(found := self.of(topic)) >= count else None, limit_s, f"{count} on {topic}")

    def until(self, condition: Callable[[], T | None], limit_s: float = DEADLINE_S, what: str = "it") -> T:
        """Looks again after each message until the condition holds."""
        deadline = time.monotonic() + limit_s
        with self._news:
            while not (value := condition()):
                left = deadline - time.monotonic()
                assert left > 0, f"waited {limit_s} s in vain for {what}; the last: {self.messages[-3:]}"
                self._news.wait(left)
        return value

    def forget(self) -> None:
        with self._news:
            self.messages.clear()

    def health(self, condition: Callable[[Any], object] = lambda h: True, device: str = "t", limit_s: float = DEADLINE_S) -> Any:
        """The next health message, counted from now, for which the condition holds."""
        topic = f"edged/{device}/health"
        start = len(self.messages)
        last: list[Any] = [None]

        def look() -> Any:
            for seen in self.messages[start:]:
                if seen.topic == topic and not seen.is_retained:
                    last[0] = seen.json
                    if condition(last[0]):
                        return last[0]
            return None

        try:
            return self.until(look, limit_s, "health")
        except AssertionError as error:
            raise AssertionError(f"{error}\nthe last health: {json.dumps(last[0], indent=1)}") from None


OPENED_S = 0.3


class Sensor:
    """A serial device: a pseudo-terminal behind a symlink, to be unplugged and plugged in again under another number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._master = -1
        self._is_opened = False
        self._spares: list[int] = []

    def __enter__(self) -> Sensor:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()
        for fd in self._spares:
            os.close(fd)

    @property
    def tty(self) -> str:
        return os.path.realpath(self.path)

    @property
    def master(self) -> int:
        """The device's own end, for whoever sends without waiting for anybody to listen."""
        return self._master

    def plug(self) -> None:
        self._master, slave = os.openpty()
        self._is_opened = False
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path.symlink_to(os.ttyname(slave))
        os.close(slave)

    def unplug(self) -> None:
        if self._master >= 0:
            self.path.unlink()
            os.close(self._master)
            self._master = -1

    def take_number(self) -> None:
        """Another device takes the lowest free number, so that the next `plug` has to get another."""
        master, slave = os.openpty()
        self._spares += [master, slave]

    def wait_until_opened(self) -> None:
        """A device that speaks as soon as somebody listens was in the middle of something: this one begins a little later."""
        poll = select.poll()
        poll.register(self._master, 0)
        until(lambda: not any(event & select.POLLHUP for _, event in poll.poll(0)), what="the port to be opened")
        pause(OPENED_S, "what comes within 20 ms of opening may be the end of a line")
        self._is_opened = True

    def write(self, data: bytes | str, waits: bool = True) -> None:
        """All of it, as fast as it is read. It `waits` until the port has been opened, as a device does that is asked nothing."""
        if waits and not self._is_opened:
            self.wait_until_opened()
        view = memoryview(data.encode() if isinstance(data, str) else data)
        deadline = time.monotonic() + DEADLINE_S
        while view:
            _, ready, _ = select.select([], [self._master], [], 1.0)
            if ready:
                view = view[os.write(self._master, view) :]
            assert time.monotonic() < deadline, "nobody reads the port"


def balanced(health: Any) -> bool:
    """Whether every ledger in a health message adds up."""
    for name, s in health["sources"].items():
        assert s["rows"] + s["rejected"] == s["read"], (name, s)
        assert sum(s["dropped"].values()) == s["rejected"], (name, s)
        if (r := s.get("requests")) is not None:
            assert r["asked"] == r["answered"] + sum(r["failed"].values()) + r["superseded"] + r["waiting"], (name, r)
            assert_messages_balance(name, r["answers"])
    for name, p in health["pipelines"].items():
        rest = p["due"] - p["published"] - p["filtered"] - p.get("gated", 0) - sum(p["dropped"].values()) - p["waiting"]
        assert 0 <= rest <= p["slots"], (name, p)  # what is left is in the run in progress
        for entry in p["publish"]:
            assert_messages_balance(name, entry)
    for name, log in health.get("spool", {}).get("brokers", {}).items():
        assert log["stored"] == log["replayed_acked"] + log["waiting"] + sum(log["dropped"].values()), (name, log)
    return True


def assert_messages_balance(name: str, entry: Any) -> None:
    kept = entry["spooled"] + entry["queued"] + entry["in_flight"]
    assert entry["made"] == entry["acked"] + sum(entry["dropped"].values()) + kept, (name, entry)
