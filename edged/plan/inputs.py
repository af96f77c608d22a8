"""Plans what goes into a model's inputs: fields by name, the newest rows, the layout that fits, constants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.schema import Input
from edged.model.axes import as_filed
from edged.model.inputs import CHW, HWC, InputPlan, fit, fit_picture, make_constant, seen_as
from edged.model.manifest import InputHints, Manifest
from edged.model.onnx_file import TensorInfo
from edged.notation.words import did_you_mean, listed
from edged.plan.records import WindowPlan
from edged.plan.rows import Row
from edged.plan.scope import Scope
from edged.records import Field

Axes = tuple["int | str | None", ...]


def plan_inputs(
    at: Scope,
    settings: Mapping[str, Input],
    manifest: Manifest,
    row: Row,
    window: WindowPlan | None,
    given: tuple[int, ...],
    picture: tuple[int, ...] = (),
    is_made: bool = False,
) -> tuple[InputPlan, ...] | None:
    """One plan for each input of the model but its states, or None after saying what does not fit.

    `given` is the shape of one window (or sample) of `row` after the steps before the model; `picture` is height, width and
    colors of a sample that is a picture. `is_made`: there are such steps.
    """
    own = {s.input: s.output for s in manifest.states}
    known = {i.name: i for i in manifest.onnx.inputs if i.name not in own}
    known |= {i.name: i for i in manifest.onnx.defaults if i.name in settings}  # others keep the value that the file has for them
    unknown = [name for name in settings if name not in known]
    for name in [name for name in unknown if name in own]:
        text = f"it is filled from {own[name]} of the run before, as state of model.{manifest.name}; leave it out"
        at.wrong(f"inputs.{name}", text, "key")
        return None
    for name in unknown:
        inputs = ", ".join(f"{i.name}: {i}" for i in known.values())
        every = [*known, *(i.name for i in manifest.onnx.defaults)]
        at.wrong(f"inputs.{name}", f"the model has no such input; it has {inputs}{did_you_mean(name, every)}", "key")
    if unknown:
        return None
    if known and all(name in settings and settings[name].value is not None for name in known):
        at.wrong(
            "inputs",
            "every input of the model is a constant, so no sample would reach it: fill at least one from fields",
        )
        return None
    filled = [name for name in known if name not in settings or settings[name].value is None]
    planner = _Planner(at, settings, manifest, row, window, given, picture, is_made, filled)
    plans = [planner.plan(info) for info in known.values()]
    return None if None in plans else tuple(plan for plan in plans if plan is not None)


def chosen_fields(settings: Input | None, hints: InputHints | None, row: Row) -> tuple[Field, ...]:
    """The fields that one input takes: as configured, else as the manifest names them, else all. Raises ValueError."""
    wanted = (settings.fields if settings else None) or (hints.fields if hints else None)
    return row.fields if wanted is None else tuple(row.find(name) for name in wanted)


def has_batch(manifest: Manifest, axes: Axes) -> bool | None:
    """Whether the first axis counts rows: as the manifest says, else if it is open; None where it may be either."""
    if manifest.batch_axis is not None:
        return manifest.batch_axis >= 0
    return True if axes and not isinstance(axes[0], int) else None


def _is_end(output: Sequence[int | str | None] | None, given: Sequence[int | str | None] | None) -> bool:
    """Whether the axes of an output may be those of an input."""
    if output is None or given is None or len(output) != len(given):
        return False
    return all(not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in zip(output, given, strict=True))


class _Planner:
    def __init__(
        self,
        at: Scope,
        settings: Mapping[str, Input],
        manifest: Manifest,
        row: Row,
        window: WindowPlan | None,
        given: tuple[int, ...],
        picture: tuple[int, ...],
        is_made: bool,
        filled: Sequence[str],
    ) -> None:
        self.is_made = is_made
        self.filled = filled
        self.at = at
        self.settings = settings
        self.manifest = manifest
        self.row = row
        self.window = window
        self.given = given
        # Steps that change the shape of a window end the choice of its fields and rows.
        plain = picture or (row.width,)
        self.is_plain = given == ((window.size, *plain) if window else plain)
        self.picture = picture if self.is_plain else ()

    def plan(self, info: TensorInfo) -> InputPlan | None:
        settings = self.settings.get(info.name, Input())
        hints = self.manifest.inputs.get(info.name, InputHints())
        axes = self._axes(info, hints)
        if axes is None:
            return None
        if settings.value is not None:
            return self._constant(info, axes, settings)
        if info.dtype == "string":
            return self._of_texts(info, axes, settings, hints)
        if not self._is_sound(info, settings, hints):
            return None
        try:
            choices = self._choices(info, settings, hints)
        except ValueError as error:
            if settings.fields is not None:
                self.at.wrong(f"inputs.{info.name}.fields", str(error))
            else:
                why = self._otherwise_named(info, hints) or str(error)
                self.at.wrong("model", f"{self._name} takes {listed(hints.fields or ())} as {info.name}: {why}")
            return None
        if self.picture:
            self._check_units(hints, choices[0])
            return self._fitted_picture(info, axes, settings, hints)
        layout = settings.layout or hints.layout
        chosen = next((c for c in choices if self._fits(axes, settings, c, layout)), choices[-1])
        self._check_units(hints, chosen)
        return self._fitted(info, axes, settings, hints, chosen)

    def _choices(self, info: TensorInfo, settings: Input, hints: InputHints) -> list[tuple[Field, ...]]:
        """The fields that an input may take, the likeliest first: as it is said, else those of its name, else all but those that
        other inputs have by their names, else all. Raises ValueError."""
        if settings.fields or hints.fields:
            return [chosen_fields(settings, hints, self.row)]
        every, names = tuple(f for f in self.row.fields if not f.is_text), set(self.filled)
        own = tuple(f for f in every if f.name == info.name)
        if not self.is_plain or not names & {f.name for f in every}:
            return [every]
        if own:
            return [every, own] if len(names) == 1 else [own, every]
        rest = tuple(f for f in every if f.name not in names)
        return [rest, every] if rest else [every]

    def _fits(self, axes: Axes, settings: Input, chosen: Sequence[Field], layout: str | None) -> bool:
        if not self.is_plain:
            return True
        seen, shape, _ = self._seen(settings, chosen)
        return bool(fit(seen, axes, shape, layout, self._has_batch(axes)))

    def _seen(self, settings: Input, chosen: Sequence[Field]) -> tuple[tuple[int | None, int], tuple[int, ...], tuple[int, ...]]:
        """How an input sees its fields: rows and columns, the shape of the only field, and which columns those are."""
        is_all = not self.is_plain or tuple(chosen) == self.row.fields
        columns = tuple(range(self.row.width)) if is_all else tuple(c for f in chosen for c in range(f.start, f.stop))
        if not self.is_plain:
            return (*seen_as(self.given), columns)
        rows = settings.size or (self.window.size if self.window else None)
        return (rows, len(columns)), chosen[0].shape if len(chosen) == 1 else (), columns

    def _otherwise_named(self, info: TensorInfo, hints: InputHints) -> str:
        """What to do where as many fields come as the manifest names, and none under its name."""
        names, wanted = [f.name for f in self.row.fields], hints.fields or ()
        if len(names) != len(wanted) or set(names) & set(wanted):
            return ""
        given = ", ".join(f'"{name}"' for name in names)
        fix = f"rename them in decode.fields, or write inputs = {{ {info.name} = {{ fields = [{given}] }} }}"
        return f"the fields are {listed(names)}; {fix}"

    @property
    def _name(self) -> str:
        return f"model.{self.manifest.name}"

    def _axes(self, info: TensorInfo, hints: InputHints) -> Axes | None:
        """The tensor's axes, those that the file leaves open as the manifest says; None after refusing the input."""
        if info.kind != "tensor" or info.dtype is None or (info.dtype != "string" and np.dtype(info.dtype).kind == "c"):
            self.at.wrong("model", f"{self._name} takes {info.name}: {info}, which no sensor can fill")
            return None
        if info.shape is None:
            if hints.shape is None:
                fix = f"say it in model.toml: [inputs.{info.name}] shape = [...]"
                self.at.wrong("model", f"{self._name} does not say the shape of its input {info.name}; {fix}")
                return None
            return (None, *hints.shape)
        if hints.shape is None:
            return info.shape
        rows = info.shape[len(info.shape) - len(hints.shape) :]
        is_like = len(info.shape) - len(hints.shape) in (0, 1) and all(
            not isinstance(axis, int) or axis == n for axis, n in zip(rows, hints.shape, strict=True)
        )
        if not is_like:
            self.at.wrong("model", f"model.toml says that a row of {info.name} is {list(hints.shape)}, its file {info}")
            return None
        return (*info.shape[: len(info.shape) - len(hints.shape)], *hints.shape)

    def _constant(self, info: TensorInfo, axes: Axes, settings: Input) -> InputPlan | None:
        """A constant; where the first axis counts rows, it is the constant of every row."""
        is_row = bool(axes) and not isinstance(axes[0], int) and self.manifest.batch_axis != -1
        shape = tuple(a if isinstance(a, int) else 1 for a in (axes[1:] if is_row else axes))
        assert info.dtype is not None
        try:
            make_constant(settings.value, shape, info.dtype)
        except ValueError as error:
            self.at.wrong(f"inputs.{info.name}.value", f"{error}: {info.name} is {info}")
            return None
        return InputPlan(info.name, shape, info.dtype, value=settings.value, is_row=is_row)

    def _is_sound(self, info: TensorInfo, settings: Input, hints: InputHints) -> bool:
        """Whether what is said of the input has an effect where it stands."""
        at = self.at.below(f"inputs.{info.name}")
        if settings.size is not None and self.window is None:
            at.wrong("size", "has no effect without a window", "key")
            return False
        if settings.size is not None and self.window is not None and settings.size > self.window.size:
            at.wrong("size", f"expected at most the window's {self.window.size} rows, found {settings.size}")
            return False
        if not self.is_plain:
            made = f"preprocess makes {list(self.given)} of the window"
            for key in ("fields", "size"):
                if getattr(settings, key) is not None:
                    at.wrong(key, f"has no effect here: {made}, whose fields and rows have no names any more", "key")
                    return False
        elif settings.fields is not None and hints.fields is not None and settings.fields != hints.fields:
            at.warn("fields", f"wins over model.toml, which names {listed(hints.fields)}")
        if settings.layout is not None and hints.layout is not None and settings.layout != hints.layout:
            at.warn("layout", f'wins over model.toml, which says "{hints.layout}"')
        return True

    def _check_units(self, hints: InputHints, chosen: Sequence[Field]) -> None:
        others: dict[tuple[str, str], list[str]] = {}
        for f in chosen:
            unit = hints.units.get(f.name, hints.units.get(f.name.rpartition(".")[2]))
            if unit is not None and f.unit is not None and f.unit != unit:
                others.setdefault((unit, f.unit), []).append(f.name)
        for (unit, given), names in others.items():
            fix = f'scale it in decode.fields and say unit = "{unit}"'
            self.at.wrong("model", f"{self._name} takes {', '.join(names)} in {unit}, the source gives {given}; {fix}")

    def _fitted(
        self, info: TensorInfo, axes: Axes, settings: Input, hints: InputHints, chosen: Sequence[Field]
    ) -> InputPlan | None:
        is_all = not self.is_plain or tuple(chosen) == self.row.fields
        size = self.window.size if self.window else None
        rows = settings.size or size
        seen, field_shape, columns = self._seen(settings, chosen)
        if settings.layout is not None and (seen[0] in (None, 1) or seen[1] == 1):
            what = "one field" if seen[1] == 1 else "one row" if self.window is not None else "single samples, without a window"
            self.at.wrong(f"inputs.{info.name}.layout", f"has no effect on {what}: there is only one order", "key")
            return None
        has_batch = self._has_batch(axes)
        layout = settings.layout or hints.layout
        if layout in (HWC, CHW):
            at = f"inputs.{info.name}.layout" if settings.layout is not None else "model"
            self.at.wrong(at, f'"{layout}" is for pictures: a source with decode = {{ format = "image" }}')
            return None
        fits = fit(seen, axes, field_shape, layout, has_batch)
        key = f"inputs.{info.name}" if info.name in self.settings else "inputs" if self.settings else "model"
        assert info.dtype is not None
        if not fits:
            self.at.wrong(key, self._misfit(info, axes, seen, chosen))
            return None
        if self._is_doubtful(fits[0].batch, axes):
            self.at.wrong("model", self._doubt(info, axes))
            return None
        if len(fits) > 1:
            fix = f'say which axis is time: inputs = {{ {info.name} = {{ layout = "time,field" }} }}'
            self.at.wrong(key, f"{seen[0]} samples of {seen[1]} fields fit {info.name}: {info} both ways; {fix}")
            return None
        return InputPlan(
            info.name,
            fits[0].shape,
            info.dtype,
            columns=None if is_all else tuple(columns),
            rows=None if rows == size or not self.is_plain else rows,
            layout=fits[0].layout,
            is_rounded=self.is_made and np.dtype(info.dtype).kind in "iu",
        )

    def _fitted_picture(self, info: TensorInfo, axes: Axes, settings: Input, hints: InputHints) -> InputPlan | None:
        """A picture, or a window of some: height, width, colour in the one order that fits."""
        size = self.window.size if self.window else None
        rows, layout = settings.size or size, settings.layout or hints.layout
        key = f"inputs.{info.name}" if info.name in self.settings else "inputs" if self.settings else "model"
        if layout not in (None, HWC, CHW):
            at = f"inputs.{info.name}.layout" if settings.layout is not None else "model"
            self.at.wrong(at, f'{info.name} gets pictures: expected "{HWC}" or "{CHW}", found "{layout}"')
            return None
        fits = fit_picture(rows, self.picture, axes, layout, self._has_batch(axes))
        height, width, channels = self.picture
        found = f"{f'{rows} pictures' if rows else 'a picture'} of {width} x {height} pixels, {channels} colors"
        if not fits:
            fix = "; resize them as it wants" if channels in (info.shape or ()) else '; set decode.color ("gray" is one color)'
            self.at.wrong(key, f"{self._name} takes {info.name}: {info}; it gets {found}{fix}")
            return None
        if len(fits) > 1:
            fix = f'say which: inputs = {{ {info.name} = {{ layout = "{CHW}" }} }}, or layout in model.toml'
            self.at.wrong(key, f"{info.name}: {info} can take {found}, with colors first or last; {fix}")
            return None
        assert info.dtype is not None
        return InputPlan(
            info.name,
            fits[0].shape,
            info.dtype,
            rows=None if rows == size else rows,
            layout=fits[0].layout,
            picture=self.picture,
            is_rounded=self.is_made and np.dtype(info.dtype).kind in "iu",
        )

    def _of_texts(self, info: TensorInfo, axes: Axes, settings: Input, hints: InputHints) -> InputPlan | None:
        """Texts, one a field: those that are named, else the one of the input's name, else all that no other input has."""
        wanted = settings.fields or hints.fields
        here = f"inputs.{info.name}" if info.name in self.settings else "model"
        try:
            chosen = [self.row.find(name) for name in wanted or ()]
        except ValueError as error:
            self.at.wrong(f"{here}.fields" if settings.fields else "model", f"{self._name} takes {info.name}: {info}: {error}")
            return None
        every = [f for f in self.row.fields if f.is_text]
        chosen = chosen or [f for f in every if f.name == info.name] or [f for f in every if f.name not in self.filled] or every
        fix = f'such as decode = {{ format = "json", fields = [{{ name = "{info.name}", dtype = "text" }}] }}'
        if numbers := [f.name for f in chosen if not f.is_text]:
            self.at.wrong(here, f"{info.name}: {info} takes texts, and {listed(numbers)} is a number; make it a text, {fix}")
            return None
        if not chosen:
            self.at.wrong(here, f"{self._name} takes {info.name}: {info}, and the source has no field of texts, {fix}")
            return None
        if settings.layout is not None or settings.size is not None:
            key = "layout" if settings.layout is not None else "size"
            self.at.wrong(f"inputs.{info.name}.{key}", "has no effect on texts: those of the newest sample go in", "key")
            return None
        fits = fit((None, len(chosen)), axes, (), None, self._has_batch(axes))
        if not fits:
            text = f"{self._name} takes {info.name}: {info}; a sample gives {len(chosen)} texts: {listed(f.name for f in chosen)}"
            self.at.wrong(here, f"{text}; name those it takes: inputs = {{ {info.name} = {{ fields = [...] }} }}")
            return None
        longest = max(f.stop - f.start for f in chosen)
        places = tuple((f.start, f.stop) for f in chosen)
        return InputPlan(info.name, fits[0].shape, f"<U{longest}", texts=places)

    def _has_batch(self, axes: Axes) -> bool | None:
        return has_batch(self.manifest, axes)

    def _is_doubtful(self, batch: int | None, axes: Axes) -> bool:
        """Whether a fixed first axis would count rows although another one is open."""
        return self.manifest.batch_axis is None and (batch or 0) > 1 and any(not isinstance(n, int) for n in axes[1:])

    def _doubt(self, info: TensorInfo, axes: Axes) -> str:
        place = next(k for k, n in enumerate(axes) if k and not isinstance(n, int))
        text = f"{self._name} takes {info.name}: {info}, and nothing says which axis counts rows, since no output has its name; "
        text += f"say in model.toml: batch_axis = {place} if the open axis does (time first, as PyTorch's recurrent layers), "
        return text + f"batch_axis = 0 if it takes {axes[0]} rows at once"

    def _misfit(self, info: TensorInfo, axes: Axes, seen: tuple[int | None, int], chosen: Sequence[Field]) -> str:
        shape = [n for n in seen if n is not None] if self.is_plain else list(self.given)
        what = "the window gives" if self.window is not None else "a sample gives"
        named = listed(f.name for f in chosen) if self.is_plain else "after preprocess"
        text = f"{self._name} takes {info.name}: {info}; {what} [{','.join(map(str, shape))}]: {named}"
        if pair := self._remembered(info):
            text += f'; if that is what it remembers, say so: state = {{ {pair} = "{info.name}" }} in [{self._name}]'
        elif self.is_plain:
            text += self._fix(axes, seen, chosen) or self._ways(axes, seen)
        hinted = [n for hints in self.manifest.inputs.values() for n in hints.fields or ()]
        unused = [n for n in hinted if n not in {f.name for f in self.row.fields}]
        return f"{text}; the manifest also names: {listed(unused)}" if unused else text

    def _remembered(self, info: TensorInfo) -> str:
        """The output that looks like the next value of this input: of its type and axes, and of no sample's."""
        filed = as_filed(info)
        outputs = [o for o in map(as_filed, self.manifest.onnx.outputs) if o.dtype == filed.dtype]
        alike = [o.name for o in outputs if _is_end(o.shape, filed.shape)]
        return alike[0] if len(alike) == 1 and len(self.filled) > 1 and len(filed.shape or ()) > 2 else ""

    def _ways(self, axes: Axes, seen: tuple[int | None, int]) -> str:
        """What can be done where one row of the model is so many numbers, and a window has others."""
        row = axes[1:] if self._has_batch(axes) is not False else axes
        if self.window is None or not row or not all(isinstance(n, int) for n in row):
            return ""
        total, width = math.prod(n for n in row if isinstance(n, int)), seen[1]
        ways = [f'a step that makes {total} of the window (preprocess = "steps.py:features")']
        ways.append(f"no window, and {total} fields ({f'{width} are here' if width < total else 'choose them in inputs'})")
        if total % width == 0 and total > width:
            ways.insert(0, f"window.size = {total // width}, whose {total // width} x {width} numbers go in flat")
        return f"; it takes {total} numbers: {'; or '.join(ways)}"

    def _fix(self, axes: Axes, seen: tuple[int | None, int], chosen: Sequence[Field]) -> str:
        """The window that would fit, or what the manifest would have to say for this one to fit."""
        width, has_batch = seen[1], self._has_batch(axes)
        field_shape = chosen[0].shape if len(chosen) == 1 else ()
        if self.window is not None and fit((None, width), axes, field_shape, None, has_batch):
            open_time = self.manifest.batch_axis is None and fit(seen, axes, field_shape, None, False)
            other = '; if its first axis is time, say batch_axis = "none" in model.toml' if open_time else ""
            return f"; it takes single samples: remove window, or choose fields and size in inputs{other}"
        sizes = [n for n in axes if isinstance(n, int) and n > 1 and fit((n, width), axes, field_shape, None, has_batch)]
        if not sizes:
            rows = seen[0]
            fields = [
                n for n in axes if isinstance(n, int) and n not in (width, rows) and fit((rows, n), axes, (), None, has_batch)
            ]
            if not fields:
                return ""
            more = fields[0] - width
            fix = f"{more} more must come from a source" if more > 0 else "choose them with fields in inputs"
            return f"; it takes {fields[0]} fields, here are {width}: {fix}"
        return f"; set window = {{ size = {sizes[0]} }}" if self.window is None else f"; set window.size = {sizes[0]}"
