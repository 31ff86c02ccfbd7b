"""A study's plots as SVG text: intervals by row, accuracy against bytes, and curves of a step's table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from host_tools.compress.step import Table
from host_tools.measure.cells import size
from host_tools.study.result import StudyResult
from host_tools.study.words import number

WIDTH = 960
COLOURS = ("--accent", "--good", "--fair", "--warn", "--bad", "--soft")


def intervals_svg(result: StudyResult) -> str:
    """One line a row: the pooled figure with its interval, and a dot for each cell."""
    key, factor = result.metric.key, 100.0 if result.metric.unit == "%" else 1.0
    left, right, top, row_height = 300, 30, 12, 30
    values = [factor * v for r in result.rows for v in _all(r.figures[key]) if v is not None]
    if not values:
        return ""
    # Cells outside the intervals' range are drawn at its edge, so that one bad fold does not flatten the rest.
    span = max(max(values) - min(values), 1e-6)
    low, high = min(values) - 0.3 * span, max(values) + 0.3 * span
    height = top + row_height * len(result.rows) + 34

    def x(value: float) -> float:
        return left + (WIDTH - left - right) * (min(max(value, low), high) - low) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(result.metric.title)} by row">']
    for tick in _ticks(low, high):
        parts.append(_line(x(tick), top, x(tick), height - 34, "--line"))
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 16}" text-anchor="middle">{number(tick)}</text>')
    for i, row in enumerate(result.rows):
        y = top + row_height * (i + 0.5)
        parts.append(f'<text x="{left - 14}" y="{y + 4:.1f}" text-anchor="end" class="name">{escape(row.name)}</text>')
        for cell in row.cells:
            value = cell.figures.get(key)
            if value is not None:
                parts.append(
                    f'<circle cx="{x(factor * value):.1f}" cy="{y:.1f}" r="2.5" fill="var(--soft)" opacity=".45"/>'
                )
        found = row.figures[key]
        if found.low is not None and found.high is not None:
            parts.append(_line(x(factor * found.low), y, x(factor * found.high), y, "--accent", 5, 0.4))
        if found.value is not None:
            parts.append(f'<circle cx="{x(factor * found.value):.1f}" cy="{y:.1f}" r="5" fill="var(--accent)"/>')
    return "".join([*parts, "</svg>"])


def trade_off_svg(result: StudyResult) -> str:
    """Every row as a point: bytes of its file to the right (logarithmic), the metric upwards."""
    key, factor = result.metric.key, 100.0 if result.metric.unit == "%" else 1.0
    points = [
        (math.log10(r.file_bytes), factor * v, r.name) for r in result.rows if (v := r.figures[key].value) is not None
    ]
    ticks = [(math.log10(b), size(round(b))) for e in range(2, 10) for b in (10.0**e, 3 * 10.0**e)]
    return _scatter(points, ticks, f"{result.metric.title} against bytes") if points else ""


def _scatter(points: Sequence[tuple[float, float, str]], ticks: Sequence[tuple[float, str]], label: str) -> str:
    left, right, top, bottom, height = 70, 200, 16, 40, 340
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x0, x1 = min(xs) - 0.15, max(xs) + 0.15
    span = max(max(ys) - min(ys), 1e-6)
    y0, y1 = min(ys) - 0.15 * span, max(ys) + 0.15 * span

    def x(v: float) -> float:
        return left + (WIDTH - left - right) * (v - x0) / (x1 - x0)

    def y(v: float) -> float:
        return top + (height - top - bottom) * (y1 - v) / (y1 - y0)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">']
    for at, words in ticks:
        if x0 <= at <= x1:
            parts.append(_line(x(at), top, x(at), height - bottom, "--line"))
            parts.append(f'<text x="{x(at):.1f}" y="{height - bottom + 20}" text-anchor="middle">{words}</text>')
    for tick in _ticks(y0, y1):
        parts.append(_line(left, y(tick), WIDTH - right, y(tick), "--line"))
        parts.append(f'<text x="{left - 10}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    taken: list[tuple[float, float]] = []
    for px, py, name in sorted(points, key=lambda p: -p[1]):
        cx, cy = x(px), y(py)
        at = cy + 4
        while any(abs(at - other) < 13 and abs(cx - where) < 190 for where, other in taken):
            at += 13
        taken.append((cx, at))
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="5" fill="var(--accent)"/>')
        parts.append(f'<text x="{cx + 10:.1f}" y="{at:.1f}" class="name">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def curves_svg(table: Table) -> str:
    """The column `y` over the column `x`, one line per value of the column `line`."""
    xi, yi = table.columns.index(table.x), table.columns.index(table.y)
    li = table.columns.index(table.line) if table.line else None
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in table.rows:
        px, py = row[xi], row[yi]
        if isinstance(px, (int, float)) and isinstance(py, (int, float)):
            lines.setdefault("" if li is None else str(row[li]), []).append((float(px), float(py)))
    points = [p for line in lines.values() for p in line]
    if not points:
        return ""
    left, right, top, bottom, height = 70, 220, 16, 40, 320
    x0, x1 = min(p[0] for p in points), max(p[0] for p in points)
    y0, y1 = min(p[1] for p in points), max(p[1] for p in points)
    x1, y1 = max(x1, x0 + 1e-9), max(y1, y0 + 1e-9)

    def x(v: float) -> float:
        return left + (WIDTH - left - right) * (v - x0) / (x1 - x0)

    def y(v: float) -> float:
        return top + (height - top - bottom) * (y1 - v) / (y1 - y0)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(table.title)}">']
    for tick in _ticks(x0, x1):
        parts.append(f'<text x="{x(tick):.1f}" y="{height - bottom + 20}" text-anchor="middle">{number(tick)}</text>')
    for tick in _ticks(y0, y1):
        parts.append(_line(left, y(tick), WIDTH - right, y(tick), "--line"))
        parts.append(f'<text x="{left - 10}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in sorted(line))
        dash = "" if i < len(COLOURS) else ' stroke-dasharray="5 4"'
        parts.append(f'<polyline points="{path}" fill="none" stroke="var({colour})" stroke-width="2"{dash}/>')
        at = top + 14 * (i + 1)
        parts.append(_line(WIDTH - right + 14, at - 4, WIDTH - right + 34, at - 4, colour, 3))
        parts.append(f'<text x="{WIDTH - right + 40}" y="{at}" class="name">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def _all(found: object) -> tuple[float | None, ...]:
    return (getattr(found, "value", None), getattr(found, "low", None), getattr(found, "high", None))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between the ends, about six."""
    span = (high - low) / 6
    step = 10.0 ** math.floor(math.log10(span))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= span)
    first = math.ceil(low / step)
    return [round(i * step, 10) for i in range(first, math.floor(high / step) + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, opacity: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var({colour})" '
        f'stroke-width="{width:g}" opacity="{opacity:g}"/>'
    )
