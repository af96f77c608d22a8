"""What `edged help` prints: the entry of a key as the reference has it, or a page of the manual. A device may have no network."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from pathlib import Path
from typing import NamedTuple

from edged.config import reference
from edged.config.introspection import Attribute, attributes, tables_with_places
from edged.config.schema import Config, Table
from edged.config.toml.positions import parse_path
from edged.errors import EX_OK, EX_USAGE
from edged.notation.words import listed, nearest
from edged.system.process import complain, say
from edged.system.terminal import BOLD, DIM, Look

MANUAL = Path(__file__).parents[1] / "manual"
ORDER = (
    *("start", "concepts", "recipes", "devices", "sensors", "pipelines", "models", "results", "behaviours", "remote"),
    *("homeassistant", "testing", "operate", "fleet", "topics", "commands", "reference", "troubleshooting"),
    *("guarantees", "security", "compatibility", "figures", "code"),
)
TROUBLES = "troubleshooting"
"""The page with a section for every state and every reason of a drop."""
LINK = re.compile(r"\[([^\]\n]+)\]\(([^)\s]+)\)")
HEADING = re.compile(r"(#+) +(.+)")
MANY = 20
"""Entries that are printed whole; of more only their names."""


class Entry(NamedTuple):
    """One key, the tables it stands in, and its types, where it is only of some."""

    where: tuple[str, ...]
    attribute: Attribute

    @property
    def name(self) -> str:
        return ".".join((*self.where, self.attribute.name))


def topics() -> dict[str, Path]:
    """The pages that are readable here, by name, in the order in which one would read them."""
    pages = {page.relative_to(MANUAL).with_suffix("").as_posix(): page for page in sorted(MANUAL.rglob("*.md"))}
    pages["reference"] = reference.PAGE
    return {name: pages[name] for name in sorted(pages, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))}


def sections(text: str) -> dict[str, list[str]]:
    """The sections of a page by what a link calls them: the words of a heading in small letters, with hyphens between.

    A section ends where one of its level or of a higher one begins."""
    found: dict[str, list[str]] = {}
    levels: dict[str, int] = {}
    is_code = False
    for line in text.splitlines():
        is_code ^= line.lstrip().startswith("```")
        heading = None if is_code else HEADING.fullmatch(line)
        if heading:
            level = len(heading[1])
            levels = {name: other for name, other in levels.items() if other < level}
            name = re.sub(r"[^\w -]", "", heading[2].lower()).replace(" ", "-")
            levels[name], found[name] = level, []
        for name in levels:
            found[name].append(line)
    return found


def show(asked: str | None, look: Look) -> int:
    """Prints the entry of a key or table, or a page; 64 for what is neither."""
    if asked is None:
        say("\n".join(overview()))
        return EX_OK
    page, _, anchor = asked.removesuffix(".md").replace(".md#", "#").partition("#")
    if page in topics():
        text = topics()[page].read_text("utf-8")
        if not anchor or anchor in (of := sections(text)):
            say(shown("\n".join(of[anchor]) if anchor else text, look))
            return EX_OK
    path = tuple(str(part) for part in parse_path(asked.strip("[]").removeprefix("edged.toml.")) if isinstance(part, str))
    of_keys = keys(path, look)
    found = [*word(asked, look), *(tables(path, look, is_of_file=not of_keys)), *of_keys]
    if found:
        say("\n\n".join(found))
        return EX_OK
    words = [line.strip("#` ") for line in topics()[TROUBLES].read_text("utf-8").splitlines() if line.startswith("### ")]
    known = sorted({*topics(), *words, *(one.attribute.name for one in entries())})
    meant = nearest(path[-1] if path else asked, known)
    fix = f'did you mean "{meant}"?' if meant else f"the pages are {listed(topics())}; edged help reference lists all keys"
    complain(f'edged help: no key, table or page is called "{asked}"; {fix}')
    return EX_USAGE


def overview() -> list[str]:
    """What one can ask for."""
    tops = [f"[{'.'.join(where)}]" for _, where in tables_with_places() if len(where) == 1 or where[1:] == ("NAME",)]
    return [
        "edged help KEY     what a key means: edged help baudrate, edged help pipeline.window.size",
        "edged help TABLE   what a table holds: edged help broker",
        "edged help WORD    what a state or the reason of a drop means: edged help silent, edged help too_large",
        "edged help PAGE    a page of the manual; edged help PAGE#SECTION a part of it",
        "",
        *(f"  {name:15}  {gist_of(path)}" for name, path in topics().items() if "/" not in name),
        f"  {'devices/NAME':15}  One device or publisher; the page devices lists them.",
        "",
        *textwrap.wrap(f"tables: {' '.join(dict.fromkeys(tops))}", 100, break_on_hyphens=False, subsequent_indent="        "),
    ]


def gist_of(page: Path) -> str:
    """What a page is about: its first sentence."""
    text = LINK.sub(r"\1", page.read_text("utf-8")).split("\n\n")[1]
    return re.split(r"(?<=[.]) ", " ".join(text.split()))[0].replace("`", "")


@cache
def entries() -> tuple[Entry, ...]:
    """Every key of the schema; one that several types of source have in the same way stands once."""
    seen: dict[tuple[str, int], Entry] = {}
    for table, where in tables_with_places():
        for attribute in attributes(table).values():
            entry = Entry(where, attribute)
            seen.setdefault((entry.name, hash((str(attribute.type), attribute.key))), entry)
    return tuple(seen.values())


def word(asked: str, look: Look) -> list[str]:
    """What the manual says of a state, or of the reason of a drop."""
    of = sections(topics()[TROUBLES].read_text("utf-8"))
    section = of.get(asked.replace(" ", "-"), [])
    return [shown("\n".join(section), look)] if section and section[0] == f"### `{asked}`" else []


def shown(text: str, look: Look) -> str:
    """A page for a terminal: links as their words, headings in bold. What is in a fence stays as it is."""
    lines = []
    is_code = False
    for line in text.rstrip().splitlines():
        is_fence = line.lstrip().startswith("```")
        is_code ^= is_fence
        if not is_code and not is_fence:
            line = LINK.sub(_words_of_link, line)
            line = look.paint(line, BOLD) if HEADING.fullmatch(line) and look.width else line
        lines.append(line)
    return "\n".join(lines)


def _words_of_link(link: re.Match[str]) -> str:
    words, page = link[1].strip("*"), link[2].partition("#")[0].removesuffix(".md")
    return f"{words} (edged help {page})" if page in topics() and page != words else words


def keys(path: tuple[str, ...], look: Look) -> list[str]:
    """The entries of the keys whose path ends so."""
    found = _without_twins([one for one in entries() if _fits(path, (*one.where, one.attribute.name))])
    if len(found) > MANY:
        return ["\n".join(one.name for one in found)]
    return [_entry(one, look) for one in found]


def _without_twins(found: list[Entry]) -> list[Entry]:
    """A key of `[port.NAME]` that a source has in the same way need not be said twice."""
    others = [(one.where[1:], one.attribute) for one in found if one.where[:1] != ("port",)]
    return [one for one in found if one.where[:1] != ("port",) or (one.where[1:], one.attribute) not in others]


def tables(path: tuple[str, ...], look: Look, is_of_file: bool) -> list[str]:
    """The tables whose path ends so, with the names of their keys. `is_of_file`: names may be those of a file."""
    found: dict[str, str] = {}
    for table, where in tables_with_places():
        if table is not Config and _fits(path, where, is_of_file or where[-1] != "NAME"):
            header = f"[{'.'.join(where)}]" + _type_of(table)
            said = [look.paint(header, BOLD), *_wrapped(" ".join((table.__doc__ or "").split()), look)]
            found[header] = "\n".join([*said, *_wrapped(f"keys: {' '.join(attributes(table))}", look)])
    return list(found.values())


def _type_of(table: type[Table]) -> str:
    hint = attributes(table).get("type")
    said = reference.type_of(hint.type) if hint is not None else ""
    return f" type = {said}" if said.count("`") == 2 else ""


def _fits(asked: tuple[str, ...], where: tuple[str, ...], is_of_file: bool = True) -> bool:
    """Whether a path that was asked for is this one: its names of tables may be left out, or be those of a file."""
    bare = tuple(part for part in where if part != "NAME")
    if asked == bare[-len(asked) :]:
        return True
    return is_of_file and len(asked) == len(where) and all(a == w or w == "NAME" for a, w in zip(asked, where, strict=True))


def _entry(one: Entry, look: Look) -> str:
    attribute = one.attribute
    only = f" (of {', '.join(attribute.key.only)})" if attribute.key.only else ""
    kind, default = (text.replace("`", "") for text in (reference.type_of(attribute.type), reference.default_of(attribute)))
    said = default if default.startswith("required") else f"default: {default}"
    lines = [look.paint(one.name, BOLD) + only, "  " + look.paint(f"{kind}; {said}", DIM)]
    return "\n".join([*lines, *_wrapped(attribute.key.meaning.replace("`", ""), look)])


def _wrapped(text: str, look: Look) -> list[str]:
    return textwrap.wrap(text, (look.width or 100) - 2, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
