"""What models said over time as a picture: an SVG by itself, for a browser or a report. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from edged.learn.judge import Answer, Labels

WIDTH, LEFT, RIGHT = 960, 150, 20
STRIP, PLOT, GAP, TOP = 22, 150, 14, 40
COLUMNS = 800
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000")
"""Of Tol's bright scheme, which people see apart who do not see all colours."""
ABNORMAL = "#cc3311"


def picture(
    title: str, answers: Mapping[str, Sequence[Answer]], labels: Labels | None, thresholds: Mapping[str, float | None]
) -> str:
    """One panel a model: its score, and in red where it was abnormal (the largest of what falls into a column of the picture);
    or a strip of its classes. Above them a strip of what was so, where labels are known."""
    times = [a.time for given in answers.values() for a in given]
    start, end = min(times, default=0), max(times, default=1)
    span = max(1, end - start)
    names = sorted({str(a.body["label"]) for given in answers.values() for a in given if "label" in a.body} | {*_names(labels)})
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}

    def x(time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (time - start) / span

    parts, y = [_text(LEFT, 20, title, "font-weight='bold'")], TOP
    if labels is not None:
        spans = [s for of in labels.spans.values() for s in of] if len(labels.spans) == 1 else []
        if spans:
            parts.append(_text(10, y + 15, "what was so"))
            for s in spans:
                a, b = max(start, s.start), min(end, s.end)
                if a < b:
                    parts.append(_rect(x(a), y, x(b) - x(a), STRIP, colour[s.label], s.label))
            y += STRIP + GAP
    for name, given in answers.items():
        parts.append(_text(10, y + 15, name))
        if any("label" in a.body for a in given):
            parts += [
                _rect(x(a.time), y, max(1.0, x(b) - x(a.time)), STRIP, colour[label], label) for a, b, label in _runs(given)
            ]
            y += STRIP + GAP
        elif any("score" in a.body for a in given):
            parts += _plot(given, thresholds.get(name), y, start, span)
            y += PLOT + GAP
    parts.append(_text(LEFT, y + 10, f"0 s to {span / 1e9:.6g} s"))
    y += 26
    for i, name in enumerate(names):
        at = LEFT + (i % 5) * 150
        parts += [_rect(at, y, 12, 12, colour[name], name), _text(at + 18, y + 11, name)]
        y += 20 if i % 5 == 4 else 0
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{y + 30}' font-family='sans-serif' font-size='12'>"
    return "\n".join([head, "<rect width='100%' height='100%' fill='white'/>", *parts, "</svg>\n"])


def _names(labels: Labels | None) -> list[str]:
    return labels.names if labels is not None else []


def _runs(given: Sequence[Answer]) -> list[tuple[Answer, int, str]]:
    """Neighbours with one class as one; of several keys whichever spoke last."""
    runs: list[tuple[Answer, int, str]] = []
    for a in given:
        label = str(a.body["label"])
        if runs and runs[-1][2] == label:
            runs[-1] = (runs[-1][0], a.time, label)
        else:
            if runs:
                runs[-1] = (runs[-1][0], a.time, runs[-1][2])
            runs.append((a, a.time, label))
    return runs


def _plot(given: Sequence[Answer], threshold: float | None, y: float, start: int, span: int) -> list[str]:
    scores = np.array([float(a.body["score"]) for a in given])
    columns = ((np.array([a.time for a in given], np.float64) - start) / span * (COLUMNS - 1)).astype(int)
    high = np.full(COLUMNS, -np.inf)
    np.maximum.at(high, columns, scores)
    is_on = np.zeros(COLUMNS, bool)
    is_on[columns[[bool(a.body.get("anomaly")) for a in given]]] = True
    finite = np.flatnonzero(np.isfinite(high))
    top = max(float(high[finite].max()), threshold or 0.0, 1e-9) * 1.05
    low = min(0.0, float(high[finite].min()))
    scale = (WIDTH - LEFT - RIGHT) / (COLUMNS - 1)

    def at(value: float) -> float:
        return y + PLOT - PLOT * (value - low) / (top - low)

    line = " ".join(f"{LEFT + scale * i:.1f},{at(high[i]):.1f}" for i in finite)
    parts = [
        f"<rect x='{LEFT}' y='{y}' width='{WIDTH - LEFT - RIGHT}' height='{PLOT}' fill='none' stroke='#cccccc'/>",
        *(_rect(LEFT + scale * int(i), y, max(1.0, scale), PLOT, ABNORMAL, "abnormal", 0.25) for i in np.flatnonzero(is_on)),
        f"<polyline points='{line}' fill='none' stroke='{COLOURS[0]}'/>",
        _text(LEFT - 8, y + 12, f"{top:.3g}", "text-anchor='end'"),
    ]
    if threshold is not None:
        parts.append(f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{at(threshold):.1f}' y2='{at(threshold):.1f}' stroke='#888888' "
                     "stroke-dasharray='4 3'/>")  # fmt: skip
        parts.append(_text(LEFT - 8, at(threshold) + 4, f"{threshold:g}", "text-anchor='end'"))
    return parts


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {more}>{escape(text)}</text>"


def _rect(x: float, y: float, width: float, height: float, colour: str, title: str, opacity: float = 1.0) -> str:
    shown = f" opacity='{opacity}'" if opacity < 1 else ""
    place = f"x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}'"
    return f"<rect {place} fill='{colour}'{shown}><title>{escape(title)}</title></rect>"
