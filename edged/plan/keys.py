"""What a table of sensors (`keys = "pumps.csv"`) says of each key, checked against the fields, pipelines and limits.

It is split by who needs it: corrections of values go to the decoder, limits to the output of a pipeline, names for people into
the envelope of results. So an edit of the table changes only those parts; a new label moves no window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import msgspec
from msgspec.structs import replace

from edged.config.key_file import Cell, KeyFile, KeyRow
from edged.config.schema import Config, Pipeline
from edged.decode.formats import FORMATS
from edged.decode.plan import Correction, Corrections, DecodePlan, FieldPlan
from edged.errors import Problem
from edged.notation.words import found_among, listed, nearest
from edged.plan.records import KeyTablePlan, PipelinePlan
from edged.results.fields import About

CORRECTIONS = ("scale", "offset", "valid.low", "valid.high")
LIMITS = ("above", "below", "release")
LABEL, TAGS = "label", "tags."
MAX_TEXT = 64
"""Characters of a label or a tag: every result has them."""
MAX_TAGS = 8
MAX_PROBLEMS = 10


class _Complaints(msgspec.Struct):
    """Of the table of one source, each with its place in it; of many only the first."""

    source: str
    file: KeyFile
    problems: list[Problem]
    count: int = 0

    def wrong(self, cell: Cell, text: str) -> None:
        self.count += 1
        if self.count <= MAX_PROBLEMS:
            self.problems.append(Problem(f"source.{self.source}.keys[{self.count - 1}]", f"{self.file.at(cell)}: {text}"))

    def number(self, column: Cell, cell: Cell) -> float | None:
        try:
            return self.file.number(cell)
        except ValueError:
            self.wrong(cell, f'{column.text}: expected a number, found "{cell.text}"')
            return None


def plan_corrections(
    name: str, file: KeyFile, decode: DecodePlan, parts: tuple[tuple[str, int], ...], problems: list[Problem]
) -> Corrections | None:
    """Scale, offset and range of fields by key; None where the table has none."""
    said = _Complaints(name, file, problems)
    fields = {field.name: field for field in decode.value_fields}
    columns = [(i, column, *found) for i, column in enumerate(file.columns) if (found := _split(column.text, CORRECTIONS))]
    for _, column, field, what in columns:
        if FORMATS[decode.format].numbers is None:
            said.wrong(column, f'"{column.text}" has no effect with format = "{decode.format}"; remove the column')
        elif field not in fields:
            said.wrong(column, f"expected {what} of a field of decode.fields, {found_among(field, list(fields))}")
        elif decode.inside is not None and any(kind != "capture" for kind, _ in parts):
            said.wrong(column, f'"{column.text}" needs a key of the topic alone, since decode.payload is read by itself')
    if said.count:
        return None
    cells: list[Correction] = []
    for at, row in enumerate(file.rows):
        mine = [
            Correction(at, what, fields[field].start, fields[field].stop, number)
            for i, column, field, what in columns
            if (cell := row.cells[i]) is not None and (number := said.number(column, cell)) is not None
        ]
        _check_corrections(said, row, columns, mine, fields)
        cells += mine
    places = count()  # among what topics say of a sensor
    of_key = tuple([(kind, next(places)) if kind == "capture" else (kind, i) for kind, i in parts])
    return Corrections(tuple(row.key.text for row in file.rows), tuple(cells), of_key) if columns and not said.count else None


def with_corrections(decode: DecodePlan, by_key: Corrections | None) -> DecodePlan:
    """Where a member of a message is decoded by itself, each part has those of its own fields."""
    if by_key is None:
        return decode
    around, inside = (None if p is None else replace(p, by_key=_only(by_key, decode, p)) for p in (decode.around, decode.inside))
    return replace(decode, by_key=by_key, around=around, inside=inside)


def _only(by_key: Corrections, whole: DecodePlan, part: DecodePlan) -> Corrections:
    names = {field.start: field.name for field in whole.value_fields}
    mine = {field.name: field for field in part.value_fields}
    cells = [(one, mine[names[one.start]]) for one in by_key.cells if names[one.start] in mine]
    return replace(by_key, cells=tuple(one._replace(start=field.start, stop=field.stop) for one, field in cells))


def _check_corrections(
    said: _Complaints,
    row: KeyRow,
    columns: Sequence[tuple[int, Cell, str, str]],
    mine: Sequence[Correction],
    fields: Mapping[str, FieldPlan],
) -> None:
    for i, column, field, what in columns:
        cell, one = row.cells[i], fields[field]
        number = next((c.number for c in mine if c.start == one.start and c.what == what), None)
        if cell is None or number is None:
            continue
        if what == "scale" and number == 0:
            said.wrong(cell, f"{column.text}: expected a number other than 0, which would make every value the same")
        if what.startswith("valid"):
            bounds = {c.what: c.number for c in mine if c.start == one.start}
            low, high = (bounds.get(end, None if one.valid is None else one.valid[n]) for n, end in enumerate(CORRECTIONS[2:]))
            if low is not None and high is not None and low >= high:
                said.wrong(cell, f"{column.text}: expected low below high, found {low:g} and {high:g}")


def plan_key_tables(
    config: Config, pipelines: Mapping[str, PipelinePlan], key_names: Mapping[str, int], problems: list[Problem]
) -> tuple[dict[str, PipelinePlan], dict[str, KeyTablePlan]]:
    """The pipelines with limits and names by key, and the tables. `key_names`: how many keys each source may have; 0: it has
    none."""
    planned = dict(pipelines)
    tables: dict[str, KeyTablePlan] = {}
    for name, source in config.source.items():
        file = source.keys
        if file is None or name not in key_names:
            continue
        if not key_names[name]:
            text = "has no effect without a key; capture a level of topic, such as plant/{pump}, or name a field with key"
            problems.append(Problem(f"source.{name}.keys", text, "key"))
            continue
        if len(file.rows) > key_names[name]:
            text = f"{file.name} has {len(file.rows)} keys, and max_keys is {key_names[name]}; set max_keys = {len(file.rows)}"
            problems.append(Problem(f"source.{name}.keys", text))
        tables[name] = KeyTablePlan(file.name, frozenset(row.key.text for row in file.rows))
        said = _Complaints(name, file, problems)
        _check_columns(said, name, config)
        about = _about(said)
        for pipeline, plan in planned.items():
            if name in plan.roots:
                planned[pipeline] = _with_limits(said, replace(plan, about=_merged(plan.about, about)))
    return planned, tables


def _check_columns(said: _Complaints, source: str, config: Config) -> None:
    """That every column says something."""
    decode = config.source[source].decode
    fields = [] if decode is None else [field.name for field in decode.fields]
    for column in said.file.columns:
        text = column.text
        if _split(text, CORRECTIONS) or text == LABEL or (text.startswith(TAGS) and text != TAGS):
            continue
        found = _split(text, LIMITS)
        if found is None:
            known = [LABEL, "tags.NAME", *(f"{field}.{what}" for field in fields for what in CORRECTIONS)]
            known += [f"{pipeline}.{what}" for pipeline in config.pipeline for what in LIMITS]
            meant = nearest(text, known)
            fix = f'did you mean "{meant}"?' if meant else f"there are: {listed(known)}"
            said.wrong(column, f'unknown column "{text}"; {fix}')
        elif found[0] not in config.pipeline:
            said.wrong(column, f"expected {found[1]} of a pipeline, {found_among(found[0], list(config.pipeline))}")
        elif not _reads(source, found[0], config.pipeline):
            said.wrong(column, f"pipeline.{found[0]} does not read source.{source}; remove the column")


def _reads(source: str, pipeline: str, pipelines: Mapping[str, Pipeline]) -> bool:
    return any(s == source or (s in pipelines and _reads(source, s, pipelines)) for s in pipelines[pipeline].source)


def _about(said: _Complaints) -> dict[str, About]:
    """A name for people, and tags, by key."""
    file, found = said.file, {}
    places = [(i, column) for i, column in enumerate(file.columns) if column.text == LABEL or column.text.startswith(TAGS)]
    if len([1 for _, column in places if column.text != LABEL]) > MAX_TAGS:
        said.wrong(places[-1][1], f"expected at most {MAX_TAGS} tags")
    for row in file.rows:
        texts = {column.text: cell for i, column in places if (cell := row.cells[i]) is not None}
        for name, cell in texts.items():
            if len(cell.text) > MAX_TEXT or not cell.text.isprintable():
                said.wrong(cell, f"{name}: expected at most {MAX_TEXT} characters that can be printed, found {len(cell.text)}")
        label = texts.pop(LABEL, None)
        tags = tuple((name.removeprefix(TAGS), cell.text) for name, cell in texts.items())
        if label is not None or tags:
            found[row.key.text] = About(label.text if label is not None else None, tags)
    return found


def _merged(known: Sequence[tuple[str, About]], more: Mapping[str, About]) -> tuple[tuple[str, About], ...]:
    """What two sources of a pipeline say of their keys; the first that says something of one is right."""
    return tuple((dict(more) | dict(known)).items())


def _with_limits(said: _Complaints, plan: PipelinePlan) -> PipelinePlan:
    file, output = said.file, plan.output
    columns = [
        (i, column, found[1])
        for i, column in enumerate(file.columns)
        if (found := _split(column.text, LIMITS)) and found[0] == plan.name
    ]
    if not columns:
        return plan
    from edged.results.heads.anomaly import AnomalyPlan, Limits

    if not isinstance(output, AnomalyPlan) or not output.has_threshold:
        text = f'"{columns[0][1].text}" is of an output of type "anomaly", and pipeline.{plan.name} has "{output.type}"'
        said.wrong(columns[0][1], f"{text}; remove the column")
        return plan
    side = "above" if output.below is None else "below"
    for _, column, what in columns:
        if what not in (side, "release"):
            said.wrong(column, f'pipeline.{plan.name} has {side}; the column is "{plan.name}.{side}"')
            return plan
    usual = output.above if output.below is None else output.below
    assert usual is not None
    limits: list[Limits] = []
    for row in file.rows:
        own = {
            what: number
            for i, column, what in columns
            if (cell := row.cells[i]) is not None and (number := said.number(column, cell)) is not None
        }
        threshold = own.get(side, usual)
        release = own.get("release", threshold if output.release is None else output.release)
        if (release > threshold) if side == "above" else (release < threshold):
            most = "at most" if side == "above" else "at least"
            text = f"{plan.name}.release: expected {most} {plan.name}.{side}, {threshold:g}, found {release:g}"
            fix = "" if "release" in own else f", as pipeline.{plan.name} says; add a column {plan.name}.release"
            said.wrong(row.key, f"{text}{fix}")
        if own:
            limits.append(Limits(row.key.text, threshold, release))
    return replace(plan, output=replace(output, by_key=(*output.by_key, *limits)))


def _split(column: str, ends: Sequence[str]) -> tuple[str, str] | None:
    """`temp.valid.low` as `temp` and `valid.low`, where it ends so."""
    if column.startswith(TAGS):
        return None
    return next(((column[: -len(end) - 1], end) for end in ends if column.endswith(f".{end}")), None)
