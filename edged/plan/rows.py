"""What one row of a pipeline holds: the fields of its streams side by side, found by name."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edged.notation.words import did_you_mean, listed
from edged.plan.records import Stream
from edged.records import Field


class Row(msgspec.Struct, frozen=True):
    """`fields` are those of the first stream, then those of the next. A name that occurs twice has its stream in front."""

    fields: tuple[Field, ...]
    streams: tuple[str, ...]
    """The stream of each field."""
    dtype: str

    @property
    def width(self) -> int:
        return self.fields[-1].stop

    def find(self, name: str) -> Field:
        """The field called `name` or `stream.field`. Raises ValueError, saying what there is."""
        for field, stream in zip(self.fields, self.streams, strict=True):
            if name in (field.name, f"{stream}.{field.name}"):
                return field
        owners = [s for f, s in zip(self.fields, self.streams, strict=True) if f.name == f"{s}.{name}"]
        if owners:
            raise ValueError(f'"{name}" is in {" and in ".join(owners)}: write {owners[0]}.{name}')
        names = [f.name for f in self.fields]
        raise ValueError(f'no field "{name}"; the fields are {listed(names)}{did_you_mean(name, names)}')


def plan_row(streams: Sequence[Stream]) -> Row:
    names = [f.name for s in streams for f in s.fields]
    fields, owners, start = [], [], 0
    for stream in streams:
        for f in stream.fields:
            name = f.name if names.count(f.name) == 1 else f"{stream.name}.{f.name}"
            fields.append(f._replace(name=name, start=start + f.start, stop=start + f.stop))
            owners.append(stream.name)
        start += stream.width
    dtypes = {s.dtype for s in streams}
    dtype = "uint8" if dtypes == {"uint8"} else "float64" if "float64" in dtypes else "float32"
    return Row(tuple(fields), tuple(owners), dtype)
