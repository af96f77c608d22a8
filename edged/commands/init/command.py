"""The flow of `edged init`: at most five questions, each with a default, each of them a flag too."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from edged.commands.ask import listen_to_daemon
from edged.commands.check import check
from edged.commands.init.draft import BROKER, SCHEMA, Found, Use, fitted, text
from edged.commands.init.find import hear_one_port, hear_topics, source_of
from edged.commands.init.topics import Stream
from edged.commands.loop import on_loop
from edged.commands.tap import text as tap_text
from edged.config.external import broker_url
from edged.config.json_schema import json_schema
from edged.config.parsers.value import Surroundings
from edged.errors import EX_CONFIG, EX_OK, EX_USAGE, ConfigError, Fatal
from edged.model.manifest import Manifest, read_manifest
from edged.serialport.discovery import usb_ports
from edged.system import log
from edged.system.process import complain, say

LISTEN_S = 10.0
RUN_S = 10.0
START_S = 30.0


class Asked(msgspec.Struct, frozen=True):
    """What the flags say; None: to be asked. `ports` are agreed to be opened."""

    output: Path
    ports: tuple[str, ...] = ()
    baudrate: int | None = None
    broker: str | None = None
    topic: str = "#"
    seconds: float = LISTEN_S
    model: str | None = None
    results: str | None = None
    runs: bool | None = None
    is_silent: bool = False
    """No questions: what no flag says is the default."""


T = TypeVar("T")


class Questions:
    """Asks on the terminal, again where the answer will not do; `answer` reads a line. Silent, every answer is the default."""

    def __init__(self, answer: Callable[[], str] | None) -> None:
        self._answer = answer

    @property
    def is_silent(self) -> bool:
        return self._answer is None

    def ask(self, question: str, default: str, meaning: Callable[[str], T]) -> T:
        """What the answer means. Where `meaning` raises Fatal it is asked again; who ends the input (Ctrl-D) leaves."""
        while self._answer is not None:
            sys.stderr.write(f"{question} [{default}] ")
            sys.stderr.flush()
            if not (line := self._answer()):
                raise Fatal("no answer: the input has ended", EX_USAGE)
            try:
                return meaning(line.strip() or default)
            except Fatal as error:
                complain(f"{error}")
        return meaning(default)

    def pick(self, question: str, choices: Sequence[str], default: str = "1") -> list[int]:
        """The numbers that were chosen, from 0."""
        if self._answer is not None:
            complain("\n".join(f"  {i}  {one}" for i, one in enumerate(choices, 1)))
        return self.ask(question, default, partial(_chosen, len(choices)))


def _chosen(most: int, said: str) -> list[int]:
    try:
        chosen = [int(part) - 1 for part in said.replace(",", " ").split()]
    except ValueError:
        chosen = []
    if not chosen or not all(0 <= i < most for i in chosen):
        raise Fatal(f"expected a number from 1 to {most}, or several, found {said!r}", EX_USAGE)
    return chosen


def init(asked: Asked) -> int:
    """Raises Fatal where there is nothing to read, or a configuration already."""
    if asked.output.exists():
        raise Fatal(f"{asked.output} exists already, so edged does not change it; -o FILE writes another file", EX_USAGE)
    log.configure("error")
    is_silent = asked.is_silent or not sys.stdin.isatty()
    questions = Questions(None if is_silent else sys.stdin.readline)
    found, broker = _sources(asked, questions)
    if asked.model is not None:
        model = _model(asked.model)
    else:
        model = questions.ask("Which model, a folder or an .onnx file (none: results are samples)?", "none", _model)
    results = asked.results or broker or questions.ask("To which broker do results go?", BROKER, _address)
    uses = _uses(found, model, results, asked.output)
    _write(asked.output, text(uses, results, asked.output.parent))
    code = check(asked.output, False)
    runs = asked.runs
    if runs is None:
        runs = not is_silent and questions.ask(f"Run it for {RUN_S:g} seconds?", "yes", _is_yes)
    return run_for(asked.output, [use.name for use in uses], RUN_S) if runs and code == EX_OK else code


def _sources(asked: Asked, questions: Questions) -> tuple[list[Found], str | None]:
    """What is read, and the broker that it comes from, if it comes from one."""
    ports, broker = asked.ports, asked.broker
    streams: list[Stream] = []
    if not ports and broker is None:
        here = usb_ports()
        if questions.is_silent:
            listed = f"; USB ports here: {', '.join(here)}" if here else ""
            raise Fatal(f"expected --serial PORT (edged opens it, which can reset a board) or --broker URL{listed}", EX_USAGE)
        choices = [
            *(f"{port}: edged opens it, which can reset a board" for port in here),
            f"the topics of a broker, such as {BROKER}",
        ]
        chosen = questions.pick("Where do samples come from?", choices)
        ports = tuple(here[i] for i in chosen if i < len(here))
        if len(here) in chosen:
            broker, streams = questions.ask("Which broker?", BROKER, partial(_heard, asked))
    elif broker is not None:
        broker, streams = _heard(asked, broker)
    found = []
    for port in ports:
        complain(f"{port}: listening")
        one = on_loop(hear_one_port(port, asked.baudrate))
        complain(f"{port}: {one.remarks[0]}")
        found.append(one)
    if streams:
        if questions.is_silent:
            complain("\n".join(f"  {one.about}" for one in streams))
        chosen = questions.pick("Which of them?", [one.about for one in streams])
        found += [source_of(streams[i], "main") for i in chosen]
    names: set[str] = set()
    for i, one in enumerate(found):
        name = next(n for k in range(1, len(found) + 1) if (n := one.name + (str(k) if k > 1 else "")) not in names)
        names.add(name)
        found[i] = replace(one, name=name)
    return found, broker


def _address(said: str) -> str:
    """Raises Fatal where it is no broker's."""
    try:
        broker_url(said, Surroundings(Path(), os.environ))
    except ValueError as error:
        raise Fatal(str(error), EX_USAGE) from None
    return said


def _heard(asked: Asked, broker: str) -> tuple[str, list[Stream]]:
    """A broker, and what comes from it. Raises Fatal where that is nothing."""
    complain(f"{_address(broker)}: listening for {asked.seconds:g} s")
    streams = on_loop(hear_topics(broker, [asked.topic], asked.seconds))
    if not streams:
        text = (
            f"{broker}: nothing with numbers came on {asked.topic} in {asked.seconds:g} s; edged tap --broker shows all messages"
        )
        raise Fatal(text)
    return broker, streams


def _model(said: str) -> Path | None:
    """Raises Fatal where it is none. No shell has looked at what is typed here."""
    path = None if said == "none" else Path(said).expanduser()
    if path is not None:
        _manifest(path)
    return path


def _manifest(model: Path) -> Manifest:
    manifest, problems = read_manifest("it", model)
    if manifest is None:
        raise Fatal("; ".join(p.text for p in problems), EX_CONFIG)
    return manifest


def _is_yes(said: str) -> bool:
    return said.lower().startswith("y")


def _uses(found: Sequence[Found], model: Path | None, broker: str, output: Path) -> list[Use]:
    """The model on the first source that it fits. Raises ConfigError where it fits none."""
    if model is None:
        return [Use(one) for one in found]
    manifest = _manifest(model)
    why: list[str] = []
    for i, one in enumerate(found):
        use, wrong = fitted(one, model, manifest, broker, output)
        if use is not None:
            return [*map(Use, found[:i]), use, *map(Use, found[i + 1 :])]
        why = why or wrong
    raise ConfigError([f"{model} fits nothing that was heard; the most likely way to run it:", *why])


def _write(output: Path, content: str) -> None:
    """Never over anything. Raises Fatal."""
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(content)
        with contextlib.suppress(FileExistsError), (output.parent / SCHEMA).open("x", encoding="utf-8") as file:
            json.dump(json_schema(), file)
    except OSError as error:
        raise Fatal(f"{output}: {(error.strerror or str(error)).lower()}") from None
    complain(f"{output}: written")


def run_for(config: Path, pipelines: Sequence[str], seconds: float) -> int:
    """Runs the daemon for this long, and shows what comes out. 0 if anything did."""
    began = time.monotonic()
    command = [sys.executable, "-m", "edged", "run", "-c", str(config)]
    with tempfile.TemporaryFile() as errors:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True)
        watch = _Watch(config, pipelines[0], began)
        try:
            watch.wait(daemon, seconds)
        except KeyboardInterrupt:
            pass
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").splitlines()
    if watch.count == 0:
        complain("\n".join(["no result came; the daemon's log ends:", *said[-8:]]))
        return EX_CONFIG
    say(f"{watch.count} results in {seconds:g} s. Start it with: edged run -c {config}")
    return EX_OK


class _Watch:
    """Looks at the results of a daemon that is started just now."""

    def __init__(self, config: Path, pipeline: str, began: float) -> None:
        self.count = 0
        self._request: dict[str, Any] = {"command": "tap", "stream": pipeline}
        self._config = config
        self._began = began

    def wait(self, daemon: subprocess.Popen[bytes], seconds: float) -> None:
        lines = None
        while lines is None and time.monotonic() - self._began < START_S and daemon.poll() is None:
            lines = listen_to_daemon(self._config, self._request)
            try:
                next(lines)
            except Fatal:
                lines = None
                time.sleep(0.05)
        if lines is None:
            return
        signal.signal(signal.SIGALRM, lambda *_: os.kill(daemon.pid, signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        for line in lines:
            if line.get("stage") != "result":
                continue
            self.count += 1
            if self.count <= 5:
                say(tap_text(line), is_clean=True)
            if self.count == 1:
                complain(f"the first result came {time.monotonic() - self._began:.1f} s after the start")
        signal.setitimer(signal.ITIMER_REAL, 0)
