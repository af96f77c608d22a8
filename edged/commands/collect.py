"""What the command `edged fleet collect` does: keeps the inputs that devices publish because they are worth a look (`samples`
of a pipeline) in a folder, as the recordings that they are, and writes labels into them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edged.commands.fleet import Where
from edged.commands.listen import hear_broker, observer
from edged.commands.loop import on_loop
from edged.errors import EX_OK, Fatal
from edged.sources.recording import Header, read_header
from edged.sources.sample_files import Label, Named, Unknown, attach, keep
from edged.system import log
from edged.system.process import complain, say

MAX_PACKET = 16 << 20
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def collect(where: Where, labels: str, folder: Path, max_bytes: int, seconds: float | None, as_json: bool) -> int:
    """Until Ctrl-C, or so long. Raises Fatal."""
    log.configure("error", "auto")
    topics = [where.topic, *([labels] if labels else [])]
    settings = replace(observer(where.config, where.broker, topics, "collect"), max_packet=MAX_PACKET)

    def take(topic: str, payload: bytes, was_kept: bool) -> bool:
        try:
            facts = _keep(payload, folder, max_bytes) if payload.startswith(b"edged") else _attach(payload, folder, max_bytes)
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            complain(f"{topic}: {error}")
        except OSError as error:
            raise Fatal(f"{folder}: {error.strerror or error}") from error
        else:
            say(json.dumps(facts) if as_json else " ".join(f"{name} {value}" for name, value in facts.items()))
        return False

    on_loop(hear_broker(settings, seconds, take))
    return EX_OK


def _keep(payload: bytes, folder: Path, max_bytes: int) -> dict[str, Any]:
    """A recording becomes a file. Raises ValueError, OSError."""
    header = read_header(io.BytesIO(payload))
    if header is None or header.sample is None:
        raise ValueError("a recording, but not of a sample")
    name = named(header).file(header.source)
    removed = keep(folder, [(name, payload)], max_bytes)
    return {"kept": name, "why": header.sample.why, "key": header.sample.key, **({"removed": removed} if removed else {})}


def named(header: Header) -> Named:
    """Of which result a recording is. Raises ValueError where its names are no names."""
    assert header.sample is not None
    said = msgspec.json.decode(header.sample.result)
    run, seq = str(said.get("run")), said.get("seq")
    if not _NAME.fullmatch(run) or not _NAME.fullmatch(header.source) or not isinstance(seq, int):
        raise ValueError("a recording of a sample that does not say of which result it is")
    return Named(header.sample.time_ns, run, seq)


def _attach(payload: bytes, folder: Path, max_bytes: int) -> dict[str, Any]:
    """A label goes into the files of a result. Raises ValueError, OSError."""
    label = Label.of(payload)
    try:
        names = attach(folder, label.run, label.seq, label.label, max_bytes)
    except Unknown as error:
        raise ValueError(str(error)) from None
    return {"labelled": " ".join(names), "label": label.label}
