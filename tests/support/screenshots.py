"""The pictures of the README, of real runs: `make pictures` writes them. A run takes half a minute.

The demo and `edged top` run on a pseudo-terminal, and what they wrote there becomes an SVG; the page is what Chromium shows.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from rich.console import Console
from rich.text import Text

from tests.support.broker import Broker, free_port
from tests.support.browser import Browser
from tests.support.daemon import Client, Daemon, until
from tests.support.pause import pause

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "edged" / "manual" / "pictures"
ALIKE = 3
"""Results with the same label that are shown one after the other; of more the rest is left out."""
LIMIT_S = 60.0
COLUMNS = 104
COLORS = 128
CTRL_C = b"\x03"
PAUSE_S = 1.0
"""What is written later than this is shown no later: a machine may be busy."""
PAGE = """
[device]
id = "hall-b"
[memory]
budget = "200MiB"
[http]
listen = "127.0.0.1:{http}"
[broker.plant]
url = "mqtt://127.0.0.1:{broker}"

[source.accel]
type = "simulate"
signal = "vibration"
rate = 1000

[source.pumps]
type = "mqtt"
topic = "plant/{{pump}}/telemetry"
stale_after = "5s"
decode = {{ format = "json", fields = [{{ name = "temp", unit = "°C", valid = [-20, 150] }}] }}

[model.vibration]
path = "{model}"

[pipeline.vibration]
source = "accel"
window = {{ size = 512, hop = 256 }}
model = "vibration"
output = "classify"

[pipeline.temperature]
source = "pumps"
"""


class Written(NamedTuple):
    """What a program wrote to its terminal, and when."""

    after_s: float
    text: bytes


def own() -> None:
    """Makes the terminal that of the program: Ctrl-C on it is for the program."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A program on a pseudo-terminal of `COLUMNS` columns."""

    def __init__(self, home: str, *command: str) -> None:
        self.said: list[Written] = []
        self._begun = time.monotonic()
        self._screen, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "HOME": home}
        self._program = subprocess.Popen(
            command, stdin=there, stdout=there, stderr=there, cwd=ROOT, env=environment, preexec_fn=own
        )
        os.close(there)

    def follow(self, word: bytes | None = None) -> bool:
        """Reads until the program ends, or says `word`; whether it ended."""
        while (left := self._begun + LIMIT_S - time.monotonic()) > 0:
            if word is not None and any(word in one.text for one in self.said[-2:]):
                return False
            if not select.select([self._screen], [], [], left)[0]:
                continue
            try:
                text = os.read(self._screen, 1 << 16)
            except OSError:  # Linux says EIO when nobody has the other side open any more
                text = b""
            if not text:
                os.close(self._screen)
                if self._program.wait(LIMIT_S):
                    raise SystemExit(f"it ended with status {self._program.returncode}: {self.lines()}")
                return True
            self.said.append(Written(time.monotonic() - self._begun, text))
        raise SystemExit(f"it goes on after {LIMIT_S:g} s: {self.lines()}")

    def press(self, key: bytes) -> None:
        os.write(self._screen, key)

    def lines(self) -> list[tuple[float, Text]]:
        """Its lines, and when each was written."""
        found, rest = [], b""
        for after_s, text in self.said:
            *whole, rest = (rest + text).split(b"\n")
            found += [(after_s, Text.from_ansi(line.decode().rstrip())) for line in whole]
        return found


def drawn(title: str, lines: list[tuple[float, Text]], moves: bool) -> str:
    """The lines as an SVG. `moves`: each appears when it was written; a viewer without animations shows all."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for _, line in lines:
        console.print(line, no_wrap=True, crop=True)
    svg = console.export_svg(title=title, unique_id="edged")
    if not moves:
        return svg
    rules, at_s, before_s = "", 0.0, lines[0][0]
    for i, (after_s, _) in enumerate(lines):
        at_s, before_s = at_s + min(after_s - before_s, PAUSE_S), after_s
        rules += f'[clip-path="url(#edged-line-{i})"]{{animation:edged-in 1ms {at_s:.2f}s both}}'
    return svg.replace("</style>", f"@keyframes edged-in{{from{{opacity:0}}to{{opacity:1}}}}{rules}</style>", 1)


def shortened(lines: list[tuple[float, Text]]) -> list[tuple[float, Text]]:
    """Without results that are like those before them."""
    kept: list[tuple[float, Text]] = []
    label, count = "", 0
    for after_s, line in lines:
        result = re.match(r"\d\d:\d\d:\d\d +(\w+)", line.plain)
        name = result[1] if result else ""
        label, count = name, count + 1 if name == label else 1
        if not name or count <= ALIKE:
            kept.append((after_s, line))
        elif count == ALIKE + 1:
            kept.append((after_s, Text("...", "dim")))
    return kept


def of_the_demo() -> None:
    """`make run`, as who runs it first sees it, and `edged top` beside it."""
    with tempfile.TemporaryDirectory() as home:
        demo = Terminal(home, sys.executable, "-m", "edged.demo")
        if demo.follow(b"imbalance"):
            raise SystemExit("the demo ended early")
        top = Terminal(home, sys.executable, "-m", "edged", "top", "-c", "models/demo.toml", "--once")
        top.follow()
        if not demo.follow(b"bearing   "):
            demo.press(CTRL_C)
        demo.follow()
    (PICTURES / "run.svg").write_text(drawn("make run", shortened(demo.lines()), moves=True))
    (PICTURES / "top.svg").write_text(drawn("edged top", top.lines(), moves=False))


def of_the_page() -> None:
    """The page of `[http]`, of a daemon with two sensors that are well and one that went silent."""
    http = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Broker(folder) as broker, Client(broker.port) as client:
            text = PAGE.format(http=http, broker=broker.port, model=ROOT / "models" / "vibration")
            with Daemon(folder, text), Browser() as browser:
                browser.open(f"http://127.0.0.1:{http}/")
                until(lambda: re.search(r"broker plant.*connected", browser.page, re.DOTALL) is not None, what="it is connected")
                client.publish("plant/p3/telemetry", '{"temp": 61.5}')
                for i in range(10):
                    client.publish("plant/p1/telemetry", f'{{"temp": {48 + i % 3}}}')
                    client.publish("plant/p2/telemetry", f'{{"temp": {52 - i % 2}}}' if i != 4 else '{"temp": "hot"}')
                    pause(1.0, "the next message is a second later, as those of a sensor are")
                until(lambda: re.search(r"p3.*silent|silent.*p3", browser.page, re.DOTALL) is not None, what="p3 is silent")
                picture = Image.open(io.BytesIO(browser.picture)).convert("RGB")
    picture.quantize(COLORS).save(PICTURES / "page.png", optimize=True)


MAKE = {"terminal": of_the_demo, "page": of_the_page}
"""What the arguments may name; all without any."""

if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or MAKE:
        MAKE[name]()
