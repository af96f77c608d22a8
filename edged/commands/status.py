"""What the command `edged status` prints: how the daemon of a configuration is, part by part."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edged.commands.ask import ask_daemon
from edged.errors import EX_OK, Fatal
from edged.health.good import GOOD
from edged.notation.words import help_on, listed
from edged.results.fields import OF_THE_RUN
from edged.system.process import flush, say
from edged.system.readable import readable
from edged.system.terminal import BOLD, DIM, GREEN, RED, YELLOW, Look, look_of

DEGRADED, UNKNOWN = 1, 2
"""Exit statuses of `--check`, as Nagios and container health checks read them."""
EVERY_S = 2.0
CLEAR = "\033[H\033[J"
BAR_CHARS = 20
KINDS = ("source", "pipeline", "model", "behaviour", "broker")
WAITING = ("connecting", "waiting", "filling", "building", "blocked")
"""States that may be over soon: yellow, where all others that are not good are red."""
MAX_CHARS = 120
"""Of a result, or a payload."""


def status(config: Path, as_json: bool, with_rejects: bool) -> int:
    """Prints what the daemon of this configuration says of itself. Raises Fatal when none answers."""
    answer = ask_daemon(config, {"command": "status"})
    if as_json:
        say(json.dumps(answer["status"] | {"details": answer["details"]}, indent=2))
    else:
        say("\n".join(lines(answer, with_rejects, look_of(sys.stdout))), is_clean=True)
    return EX_OK


def watch(config: Path, with_rejects: bool) -> int:
    """Prints it again and again, until Ctrl-C or until the daemon is gone."""
    look = look_of(sys.stdout)
    try:
        while True:
            text = "\n".join(lines(ask_daemon(config, {"command": "status"}), with_rejects, look))
            say((CLEAR if look.width else "") + text, is_clean=True)
            flush()
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return EX_OK


def check_status(config: Path) -> int:
    """One line, and what it says as the exit status."""
    try:
        facts = ask_daemon(config, {"command": "status"})["status"]
    except Fatal as error:
        say(f"edged UNKNOWN - {error}")
        return UNKNOWN
    bad = [f"{kind} {name} is {part['state']}" for kind, name, part in _parts(facts) if part["state"] not in GOOD]
    bad += ["the configuration was refused"] if facts.get("config_errors") else []
    if facts["state"] == "healthy":
        say(f"edged OK - {sum(p['published'] for p in facts['pipelines'].values())} results")
        return EX_OK
    say(f"edged DEGRADED - {'; '.join(bad) or 'runs the last good configuration'}")
    return DEGRADED


def lines(answer: Mapping[str, Any], with_rejects: bool = False, look: Look | None = None) -> Iterator[str]:
    """What is printed of an answer of the daemon. What comes from outside is made readable here."""
    facts, details, look = answer["status"], answer["details"], look or Look()
    state = look.paint(facts["state"], BOLD, GREEN if facts["state"] == "healthy" else YELLOW)
    memory = facts["memory"]
    bar = _bar(memory["resident_mib"] / memory["budget_mib"], look)
    device = readable(facts["device"])
    in_use = f"{bar}{memory['resident_mib']} of {memory['budget_mib']} MiB"
    yield f"edged {facts['version']}, device {device}: {state}, up {age(facts['uptime_s'])}, {in_use}"
    rows = _parts(facts)
    width = max((len(name) for _, name, _ in rows), default=0)
    for kind, name, part in rows:
        painted = look.paint(f"{part['state']:12}", _colour(part["state"]))
        said = "; ".join(_said(kind, part, facts["cpu_s"]))
        yield f"{kind:9} {name:{width}}  {painted} {readable(said)}".rstrip()
        more = details.get(f"{kind}s", {}).get(name, {})
        yield from (f"{'':{width + 12}}{look.paint(readable(text), DIM)}" for text in _more(part, more, with_rejects))
    if "config_last_good" in facts:
        yield f"runs the last good configuration, of {facts['config_last_good']}, until the file has no errors"
    yield from (look.paint(f"configuration refused: {readable(line)}", RED) for line in facts.get("config_errors", ()))
    if word := _odd_word(part for _, _, part in rows):
        yield look.paint(f"edged help WORD says what a state or a reason means: {help_on(word)}", DIM)


def _odd_word(parts: Iterable[Mapping[str, Any]]) -> str:
    """A state that is not well, else a reason under which something was dropped; empty if there is neither."""
    states: list[str] = []
    reasons: list[str] = []
    for part in parts:
        states += [part["state"]] if part["state"] not in GOOD else []
        reasons += part.get("dropped", ())
    return next(iter(states + reasons), "")


def _parts(facts: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    rows = [(kind, name, part) for kind in KINDS for name, part in facts.get(f"{kind}s", {}).items()]
    return [*rows, *([("spool", "", facts["spool"])] if "spool" in facts else [])]


def _said(kind: str, part: Mapping[str, Any], cpu_s: float) -> Iterator[str]:
    if kind == "source":
        yield f"{part['rows']} rows"
    elif kind == "pipeline":
        yield f"{part['published']} results"
    elif kind == "model" and "asked" in part:
        yield f"{part['asked']} requests, {part['answered']} answers"
        yield from (f"{part[what]} {what}" for what in ("unanswered", "limited") if part[what])
        yield from (f"{times} x {reason}" for reason, times in part["no_answer"].items())
    elif kind == "behaviour":
        yield f"{part['heard']} heard, {part['published']} published"
        if part["restarts"]:
            yield f"restarted {part['restarts']} times"
    if part.get("rate"):
        yield a_second(part["rate"])
    if "keys_online" in part:
        yield f"{part['keys_online']} of {part['keys']} keys online"
    if part.get("reason"):
        yield part["reason"]
    shares = {stage: 100 * s / cpu_s for stage, s in part.get("spent_s", {}).items() if cpu_s}
    yield from (f"{stage} {share:.0f} %" for stage, share in shares.items() if share >= 1)


def _more(part: Mapping[str, Any], more: Mapping[str, Any], with_rejects: bool) -> Iterator[str]:
    for last in more.get("last", ()):
        when = f", {age(last['age_s'])} ago" if last["age_s"] is not None else ""
        yield f"last: {last['topic']}{when}: {result_text(last)}"
    if keys := more.get("unwell_keys"):
        named = ", ".join(f"{one['key']} ({one['state']}, {age(one['age_s'])})" for one in keys)
        left = more["unwell"] - len(keys)
        yield f"not well: {named}" + (f", and {left} more" if left else "")
    if more.get("latched"):
        named = ", ".join(filter(None, more["latched_keys"]))
        yield f"alarms to be acknowledged (edged ack): {named or 'one'}" + (
            f", and {left} more" if (left := more["latched"] - len(more["latched_keys"])) else ""
        )
    if samples := more.get("samples"):
        done = ", ".join(f"{samples[word]} {word}" for word in ("kept", "labelled", "published") if word in samples)
        lost = "".join(f", {times} lost as {reason}" for reason, times in samples["dropped"].items())
        beyond = f", {samples['left_out']} beyond limit" if samples["left_out"] else ""
        yield f"hard samples: {done}{beyond}{lost}"
    if "waiting" in more:
        hurried = (
            f"; {more['hurried']} found no room and went on early: set rate, or a shorter lateness" if more["hurried"] else ""
        )
        yield f"{more['waiting']} samples wait to be put in order{hurried}"
    if table := more.get("table"):
        without = f"; {table['without']} arrived without a row: {listed(table['such_as'])}" if table["without"] else ""
        yield f"{table['name']}: {table['keys']} keys{without}"
    for reason, times in part.get("dropped", {}).items():
        why = more.get("why", {}).get(reason, "")
        yield f"dropped: {times} as {reason}" + (f", the last: {why[:MAX_CHARS]}" if why else "")
    for one in reversed(more.get("rejects", ())) if with_rejects else ():
        times = f" {one['times']} times" if one["times"] > 1 else ""
        yield f"{age(one['age_s'])} ago{times} {one['reason']}: {one['detail']}: {_payload(one['data'])}"


def result_text(last: Mapping[str, Any]) -> str:
    """A newest result of `details`, without what every result says, in a line."""
    result = last.get("result")
    if isinstance(result, dict):
        told = OF_THE_RUN | {"seq", "time"}  # its age is told beside it
        result = {name: value for name, value in result.items() if name not in told}
    text = json.dumps(result, ensure_ascii=False) if "result" in last else f"{last['bytes']} bytes of {last['format']}"
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS] + "..."


def _payload(data: str) -> str:
    """As text, where it is; else in hex."""
    raw = base64.b64decode(data)
    text = raw.decode("utf-8", "replace")
    return repr(text) if text.rstrip("\r\n").isprintable() and "\ufffd" not in text else raw.hex(" ")


def _colour(state: str) -> str:
    return GREEN if state in GOOD else YELLOW if state in WAITING else RED


def _bar(share: float, look: Look) -> str:
    """Of memory; only where somebody looks."""
    if not look.width:
        return ""
    full = min(BAR_CHARS, round(share * BAR_CHARS))
    colour = GREEN if share < 0.8 else YELLOW if share < 1 else RED
    return look.paint("#" * full, colour) + look.paint("-" * (BAR_CHARS - full), DIM) + " "


def a_second(rate: float) -> str:
    """A rate, for a person."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def age(seconds: float) -> str:
    """A time that has passed, for a person."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
