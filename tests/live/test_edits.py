"""A walk of random edits, a third of them wrong: what runs is what the last good file says, and nobody else noticed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from edged.daemon.control import ask
from tests.support.broker import Broker
from tests.support.daemon import Client, Daemon, balanced, until
from tests.support.oracle import SOURCE, Witness
from tests.support.scale import scale

HEAD = """
[device]
id = "t"
[health]
interval = "{interval}ms"
[memory]
budget = "{budget}MiB"
[spool]
max_bytes = "{spool}MiB"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
"""
WRONG = (
    lambda text: text.replace("[health]", "[helth]"),
    lambda text: text + '[pipeline.wrong]\nsource = "nobody"\n',
    lambda text: text + '[source.wrong]\ntype = "mqtt"\ntopic = "in/wrong"\n',
    lambda text: text[: len(text) // 2] + "[[",
    lambda text: text.replace('budget = "', 'budget = "1'[:-1] + "x"),
    lambda text: text + '[model.wrong]\npath = "nowhere.onnx"\n[pipeline.with_wrong]\nsource = "in"\nmodel = "wrong"\n',
    lambda text: text.replace("[memory]", '[memory]\nbudget = "1MiB"\n[log]', 1),
)


@dataclass
class Walk:
    """A configuration that can be changed at random, around a stream that never is."""

    rng: random.Random
    sources: dict[str, str] = field(default_factory=dict)
    pipelines: dict[str, str] = field(default_factory=dict)
    interval: int = 100
    budget: int = 256
    spool: int = 8

    def step(self) -> None:
        rng = self.rng
        match rng.randrange(7):
            case 0:
                self.interval = rng.choice((100, 150, 200))
            case 1:
                self.budget = rng.choice((200, 256, 300))
            case 2:
                self.spool = rng.choice((4, 8, 16))
            case 3 | 4:
                name = f"s{rng.randrange(4)}"
                if self.sources.pop(name, None) is None:
                    stale = rng.choice(("", '\nstale_after = "5s"', "\nrate = 5"))
                    topic = rng.choice((f"other/{name}", f"other/{name}/{{pump}}"))
                    self.sources[name] = f'type = "mqtt"\ntopic = "{topic}"\ndecode = {{ format = "csv", fields = ["v"] }}{stale}'
                else:
                    self.pipelines = {n: p for n, p in self.pipelines.items() if f'"{name}"' not in p}
            case _:
                name = f"p{rng.randrange(6)}"
                if self.pipelines.pop(name, None) is None:
                    source = rng.choice(("in", *self.sources))
                    key = "/{pump}" if "{pump}" in self.sources.get(source, "") else ""
                    more = rng.choice(("", "window = { size = 3 }", "window = { size = 5, hop = 1 }", 'deadline = "3s"'))
                    self.pipelines[name] = f'source = "{source}"\n{more}\npublish = {{ topic = "results/{name}{key}" }}'

    def text(self, port: int, zoo: Path) -> str:
        parts = [HEAD.format(interval=self.interval, budget=self.budget, spool=self.spool, port=port)]
        parts.append(SOURCE.replace("ZOO", str(zoo)))
        parts += [f"[source.{name}]\n{body}\n" for name, body in self.sources.items()]
        parts += [f"[pipeline.{name}]\n{body}\n" for name, body in self.pipelines.items()]
        self.rng.shuffle(parts)
        return "\n".join(parts)


def test_s08_a_walk_of_edits(tmp_path: Path, zoo: Path) -> None:
    rng = random.Random(17)
    walk, edits, refused = Walk(rng), scale("edits"), 0
    with (
        Broker(tmp_path, "max_queued_messages 0") as broker,
        Client(broker.port, "edged/#") as client,
        Daemon(tmp_path, walk.text(broker.port, zoo)) as daemon,
    ):
        client.health(lambda h: h["brokers"]["main"]["state"] == "connected")
        path = daemon.config
        with Witness(broker.port, 200.0) as witness:
            for _ in range(edits):
                walk.step()
                good = walk.text(broker.port, zoo)
                is_wrong = rng.random() < 1 / 3
                path.write_text(rng.choice(WRONG)(good) if is_wrong else good)
                answer = ask(path, {"command": "reload", "wait": True})
                assert answer["ok"] is not is_wrong, (answer, path.read_text())
                refused += is_wrong
            walk.interval = 100
            path.write_text(walk.text(broker.port, zoo))
            assert ask(path, {"command": "reload", "wait": True})["ok"]
            report = witness.report()
        last = ask(path, {"command": "reload", "wait": True})
        assert [last[key] for key in ("added", "changed", "removed")] == [[], [], []]
        health = client.health(lambda h: balanced(h) and set(h["pipelines"]) == {"p", *walk.pipelines})
        assert set(health["sources"]) == {"in", *walk.sources}
        assert health["brokers"]["main"]["connects"] == 1
        assert health["brokers"]["main"]["dropped"] == {}
        topics = {f"edged/t/source/{name}" for name in health["sources"]}
        with Client(broker.port, "edged/t/source/+") as late:
            late.until(lambda: {m.topic for m in late.messages if m.payload} == topics or None, what=f"only {topics}")
        until(lambda: daemon.fds < 40)
    print(f"{edits} edits, {refused} refused, {report}")
    assert (report.lost, report.wrong, report.duplicates) == (0, 0, 0)
