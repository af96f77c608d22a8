"""The page that says what the vibration model is worth, written from the counts of the build that made it."""

from __future__ import annotations

from typing import Any

from machines import HELD_OUT, SPEEDS_HZ, TRAINING, WINDOWS, Fleet
from numpy.typing import NDArray
from spectra import RATE_HZ, SIZE

from edged.sources.simulation import CONDITIONS

PAGE = """\
# vibration: is this machine healthy?

Tells four conditions of a rotating machine from three axes of acceleration: **{conditions}**.

It has been trained on machines that exist only as equations (`edged/sources/simulation.py`). It shows `edged` at work on signals
made from physics, and it is a fair start for a machine of your own. **It has never met a real machine**: before you trust it
with one, record that machine (`edged record`), see what the model says, and train it again with what you recorded.

| | |
|---|---|
| input | `acceleration`, float32 `[N, {size}, 3]`: ax, ay, az in m/s2 at {rate:.0f} Hz ({window_s:.2f} s), \
with gravity or without |
| output | `probabilities`, float32 `[N, {classes}]` |
| file | {kib:.0f} KiB, opset 17, IR 9; plain operators only; rows are independent |
| sensor | turned any way; it must pass 0 to 430 Hz (many MEMS sensors filter lower until told otherwise) |
| machine | shaft at {slowest:.0f} to {fastest:.0f} Hz ({slowest_rpm:.0f} to {fastest_rpm:.0f} rpm), steady within a window; \
the speed need not be known |

```toml
[source.accel]
type = "simulate"                       # or serial, mqtt: the fields are taken by name
signal = "vibration"
rate = {rate:.0f}

[model.vibration]
path = "models/vibration"

[pipeline.vibration]
source = "accel"
window = {{ size = {size}, hop = {hop} }}
model = "vibration"
output = {{ type = "classify" }}
```

## What it was asked, and what it answered

Trained on {machines} machines with speeds from {slowest:.0f} to {fastest:.0f} Hz, except {held_out}
({windows} windows, some of them of standstill). The machines below have bearings, gains, phases, resonances and noise of
their own, and none of their speeds was trained. One window, one answer, nothing smoothed. They come from the same
equations as the training machines: the figures say how well the model carries over to other speeds, bearings and noise,
not to what the equations leave out.

| held-out machines | windows | right |
|---|---|---|
{summary}

{tables}
## Where it fails

- A weak imbalance looks like a healthy machine, because every machine has some: both are a sine at the shaft's speed, and
  only its strength tells them apart. On your machine, healthy may be louder than anything trained.
- A worn bearing under much noise looks healthy: its impacts are weaker than the noise. The mean of eight results
  (`output = {{ type = "classify", smooth = 8 }}`) about halves the errors that noise makes; it does not help with faults
  that are too early.
- It knows one fault at a time, and no others: misalignment, gears, belts and cavitation were never shown to it, and it will
  call them one of its four names with confidence.
- The window in which a fault begins may be called anything. A machine that stands still is called healthy.

## How it works

All of it is in the graph, so there is nothing to get wrong outside. The mean is removed (gravity). Filters and Fourier sums
give two spectra: of the motion below 200 Hz, and of the envelope of the ringing above. Their frequencies are evenly spaced
in pitch. Then come one convolution, the best match of each of its filters wherever that lies, and two dense layers.
`models/spectra.py` and `models/network.py` are the two halves.

Made by `models/build.py`, with this page; see `models/README.md`.
"""


def vibration_readme(results: list[tuple[Fleet, NDArray[Any]]], windows: int, size_bytes: int) -> str:
    """The page. `results` are the test fleets, each with how many windows of condition i were called j."""
    summary = [f"| {fleet.title} | {table.sum()} | {_right(table)} |" for fleet, table in results]
    return PAGE.format(
        conditions=", ".join(CONDITIONS),
        classes=len(CONDITIONS),
        size=SIZE,
        hop=SIZE // 2,
        rate=RATE_HZ,
        window_s=SIZE / RATE_HZ,
        kib=size_bytes / 1024,
        slowest=SPEEDS_HZ[0],
        fastest=SPEEDS_HZ[1],
        slowest_rpm=60 * SPEEDS_HZ[0],
        fastest_rpm=60 * SPEEDS_HZ[1],
        machines=TRAINING.count,
        windows=windows,
        held_out=", ".join(f"{low:.0f} to {high:.0f} Hz" for low, high in HELD_OUT),
        summary="\n".join(summary),
        tables="\n".join(_table(fleet, table) for fleet, table in results if fleet.is_shown),
    )


def _right(table: NDArray[Any]) -> str:
    return f"{100 * table.trace() / table.sum():.1f} %"


def _table(fleet: Fleet, table: NDArray[Any]) -> str:
    """A confusion table: a row for what a window shows, a column for what it was called."""
    called = "".join(f" {name} |" for name in CONDITIONS)
    lines = [f"{fleet.title[0].upper()}{fleet.title[1:]} (of {fleet.count} machines, {WINDOWS} windows in each condition):\n"]
    lines += [f"| is \\ called |{called} right |", "|---" * (len(CONDITIONS) + 2) + "|"]
    for i, (name, row) in enumerate(zip(CONDITIONS, table, strict=True)):
        counts = "".join(f" {count} |" for count in row)
        lines.append(f"| **{name}** |{counts} {100 * row[i] / row.sum():.1f} % |")
    return "\n".join(lines) + "\n"
