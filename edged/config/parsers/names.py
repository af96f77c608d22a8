"""Texts, names, topics, and the paths of fields in a payload."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from edged.config.parsers.value import Surroundings, Value
from edged.notation.field_paths import Path, parse_field_path
from edged.notation.patterns import checked_pattern
from edged.notation.words import shown
from edged.topics import parse_filter, parse_template, unfit

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
TAGS = "tags."
"""How the name of a tag begins in a topic: `{tags.hall}`."""


class _StandIns(dict[str, str]):
    """With any tag: which there are is known where the device is."""

    def get(self, name: str, default: Any = None) -> Any:
        return "tag" if name.startswith(TAGS) else super().get(name, default)


STAND_INS = _StandIns(device="device", base_topic="base/topic")
"""For names that are filled in once the device is known: enough to tell whether the rest of a topic is well formed."""


def text(raw: object, _: Surroundings) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"expected a string, found {shown(raw)}")
    if not raw:
        raise ValueError("expected a string, found an empty one")
    if "\0" in raw:
        raise ValueError(f"expected a string without NUL, found {shown(raw)}")
    return raw


def label(raw: object, _: Surroundings) -> str:
    if not isinstance(raw, str) or "\n" in raw:
        raise ValueError(f'expected the text before a value, such as "T" or "Humidity", found {shown(raw)}')
    return raw


def pattern(raw: object, around: Surroundings) -> str:
    return checked_pattern(text(raw, around))


def name(raw: object, _: Surroundings) -> str:
    if not isinstance(raw, str) or not NAME.fullmatch(raw):
        raise ValueError(f"expected a name (letters, digits, _ and -, at most 64), found {shown(raw)}")
    return raw


def field_name(raw: object, _: Surroundings) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"expected the name of a field, found {shown(raw)}")
    if not raw or not raw.isprintable():
        raise ValueError(f"expected the name of a field (not empty, without control characters), found {shown(raw)}")
    if re.fullmatch(r"\{[^{}]+\}", raw):
        raise ValueError(f"expected a name, found {shown(raw)}; braces belong into topics: write {shown(raw[1:-1])}")
    return raw


def latch(raw: object, around: Surroundings) -> bool | str:
    """Whether, or the topic where it is ended."""
    return raw if isinstance(raw, bool) else topic_filter(raw, around)


def topic_filter(raw: object, around: Surroundings) -> str:
    plain = text(raw, around)
    parse_filter(plain, STAND_INS)
    return plain


def listen(raw: object, _: Surroundings) -> tuple[str, int]:
    """Where to listen: a host and a port."""
    wanted = 'an address and a port such as "127.0.0.1:9464"'
    if isinstance(raw, int) and not isinstance(raw, bool):
        raise ValueError(f'expected {wanted}, found {raw}; write "127.0.0.1:{raw}"')
    host, colon, port = raw.rpartition(":") if isinstance(raw, str) else ("", "", "")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65535 or (":" in host and not host.startswith("[")):
        raise ValueError(f"expected {wanted}, found {shown(raw)}")
    return host.strip("[]"), int(port)


def base_topic(raw: object, around: Surroundings) -> str:
    plain = text(raw, around)
    parse_template(plain, {"device": "device"}, ())
    return plain


def field_path(raw: object, _: Surroundings) -> Path:
    if not isinstance(raw, str):
        raise ValueError(f"expected a path such as pressure.in, found {shown(raw)}")
    if (plain := _other_notation(raw)) != raw:
        raise ValueError(f"expected a path such as pressure.in or rows.0.v, found {shown(raw)}; write {plain}")
    return parse_field_path(raw)


def _other_notation(raw: str) -> str:
    """A path of JSONPath, JavaScript or JSON Pointer as it is written here; any other as it is."""
    plain = re.sub(r"^\$(?=[.\[])\.?", "", raw)
    if plain.startswith("/"):
        plain = plain[1:].replace("/", ".")
    plain = re.sub(r"""\[(?:'([^'\]]+)'|"([^"\]]+)"|(\w+))\]""", lambda m: "." + (m[1] or m[2] or m[3]), plain)
    return plain if plain == raw else plain.lstrip(".")


def tag(raw: object, around: Surroundings) -> str:
    """It may become a level of a topic."""
    plain = text(raw, around)
    if unfit(plain) or any(c in plain for c in "/+#{}"):
        raise ValueError(
            f"expected a string without /, +, #, braces and control characters, since topics may hold it, found {shown(raw)}"
        )
    return plain


def https_folder(raw: object, _: Surroundings) -> str:
    """Where files may come from. Always with the slash at its end, so that `/models` is not the start of `/models-of-others`."""
    found = urlsplit(raw) if isinstance(raw, str) else None
    if found is None or found.scheme != "https" or not found.hostname or found.query or found.fragment or "@" in found.netloc:
        raise ValueError(f'expected an address such as "https://models.plant/", without user and query, found {shown(raw)}')
    return str(raw) if str(raw).endswith("/") else f"{raw}/"


Tag = Annotated[str, Value("string", tag)]
HttpsFolder = Annotated[str, Value("https URL", https_folder)]
Listen = Annotated[tuple[str, int], Value("host:port", listen)]
Text = Annotated[str, Value("string", text)]
Label = Annotated[str, Value("string", label)]
Pattern = Annotated[str, Value("pattern", pattern)]
Name = Annotated[str, Value("name", name)]
FieldName = Annotated[str, Value("name", field_name)]
Topic = Annotated[str, Value("topic", text)]
Filter = Annotated[str, Value("topic", topic_filter)]
Latch = Annotated[bool | str, Value("bool or topic", latch)]
BaseTopic = Annotated[str, Value("topic", base_topic)]
FieldPath = Annotated[Path, Value("field path", field_path)]
