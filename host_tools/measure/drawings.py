"""Drawings of the report as SVG text: ECG strips with their beats, and latency distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from edge_runtime.contract.latency import Latency
from host_tools.measure.cells import duration
from host_tools.measure.score import TOLERANCE_S, match
from host_tools.measure.study import Mark, Strip

WIDTH = 960


def strip_svg(strip: Strip) -> str:
    """ECG on its paper (0.2 s by 0.5 mV), annotation above, model below, disagreement in red."""
    height, top, bottom, left, right = 220, 34, 34, 12, 12
    y_mv = strip.signal_mv
    low = math.floor(2 * min(float(y_mv.min(initial=0.0)), -0.25)) / 2
    high = math.ceil(2 * max(float(y_mv.max(initial=0.0)), 0.75)) / 2
    seconds = len(y_mv) / strip.rate_hz

    def x(sample: float) -> float:
        return left + (WIDTH - left - right) * (sample - strip.start) / max(len(y_mv), 1)

    def y(mv: float) -> float:
        return top + (height - top - bottom) * (high - mv) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(strip.title)}">']
    for tick in range(math.floor(seconds / 0.2 + 1e-9) + 1):
        at = x(strip.start + 0.2 * tick * strip.rate_hz)
        colour = "--paper-grid-strong" if tick % 5 == 0 else "--paper-grid"
        parts.append(_line(at, y(high), at, y(low), colour))
    for half_mv in range(round(2 * low), round(2 * high) + 1):
        colour = "--paper-grid-strong" if half_mv % 2 == 0 else "--paper-grid"
        parts.append(_line(left, y(half_mv / 2), WIDTH - right, y(half_mv / 2), colour))
    points = " ".join(f"{x(strip.start + i):.1f},{y(float(v)):.1f}" for i, v in enumerate(y_mv))
    parts.append(
        f'<polyline points="{points}" fill="none" stroke="var(--ink)" stroke-width="1.3" stroke-linejoin="round"/>'
    )
    wrong_reference, wrong_detected = disagreements(strip)
    for row, marks, wrong in (
        (14, strip.reference, wrong_reference),
        (height - 9, strip.detected, wrong_detected),
    ):
        for mark in marks:
            parts.append(_mark(x(mark.sample), row, mark, mark in wrong))
    for mark in strip.reference:
        parts.append(_line(x(mark.sample), top - 13, x(mark.sample), top - 5, "--soft"))
    for mark in strip.detected:
        parts.append(_line(x(mark.sample), height - bottom + 4, x(mark.sample), height - bottom + 9, "--soft"))
    parts.append("</svg>")
    return "".join(parts)


def disagreements(strip: Strip) -> tuple[set[Mark], set[Mark]]:
    """Beats of the annotation and of the model that have no partner of their class within the tolerance.

    Beats so near to an edge that a partner may lie outside the strip are not blamed.
    """
    pairs = match([m.sample for m in strip.reference], [m.sample for m in strip.detected], TOLERANCE_S * strip.rate_hz)
    agree = [(i, j) for i, j in pairs.tolist() if strip.reference[i].label == strip.detected[j].label]
    margin = TOLERANCE_S * strip.rate_hz
    stop = strip.start + len(strip.signal_mv)
    paired = {strip.reference[i] for i, _ in pairs.tolist()}, {strip.detected[j] for _, j in pairs.tolist()}
    good = {strip.reference[i] for i, _ in agree}, {strip.detected[j] for _, j in agree}

    def wrong(marks: Sequence[Mark], side: int) -> set[Mark]:
        inner = {m for m in marks if strip.start + margin <= m.sample < stop - margin}
        return {m for m in marks if m not in good[side] and (m in inner or m in paired[side])}

    return wrong(strip.reference, 0), wrong(strip.detected, 1)


def _mark(at: float, row: float, mark: Mark, is_wrong: bool) -> str:
    colour = "var(--bad)" if is_wrong else "var(--soft)"
    weight = 700 if is_wrong else 500
    return (
        f'<text x="{at:.1f}" y="{row}" text-anchor="middle" style="fill:{colour};font-weight:{weight}">'
        f"{escape(mark.label)}</text>"
    )


def latency_svg(latencies: Sequence[Latency]) -> str:
    """One distribution per stage over a common logarithmic axis; p50, p95, p99 and max marked."""
    shown = [found for found in latencies if found.n and found.values]  # a summary has no distribution to draw
    if not shown:
        return ""
    row, top, left, right, axis = 64, 10, 168, 30, 34
    height = top + row * len(shown) + axis
    everything = np.concatenate([np.maximum(found.values_ns, 1) for found in shown])
    low = math.log10(float(everything.min())) - 0.05
    high = max(math.log10(float(everything.max())) + 0.08, low + 0.5)

    def x(ns: float) -> float:
        return left + (WIDTH - left - right) * (math.log10(max(ns, 1)) - low) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="latency distribution">']
    for ns in _ticks(low, high):
        parts.append(_line(x(ns), top, x(ns), height - axis, "--line"))
        parts.append(f'<text x="{x(ns):.1f}" y="{height - axis + 18}" text-anchor="middle">{duration(ns)}</text>')
    for i, found in enumerate(shown):
        base = top + row * (i + 1)
        parts.append(_ridge(found, x, base, row - 24, low, high))
        parts.append(_line(left, base, WIDTH - right, base, "--line"))
        parts.append(
            f'<text x="{left - 14}" y="{base - 20}" text-anchor="end" class="name">{escape(found.stage)}</text>'
        )
        parts.append(f'<text x="{left - 14}" y="{base - 5}" text-anchor="end">n = {found.n:,}</text>')
        parts += _percentiles(found, x, base, row)
    parts.append("</svg>")
    return "".join(parts)


def _ridge(found: Latency, x: Callable[[float], float], base: float, tall: float, low: float, high: float) -> str:
    """Histogram over equal steps of log time, as tall as its fullest bin."""
    counts, edges = np.histogram(np.log10(np.maximum(found.values_ns, 1)), bins=120, range=(low, high))
    share = counts / counts.max()
    points = [f"{x(10 ** edges[0]):.1f},{base:.1f}"]
    for h, start, stop in zip(share, edges[:-1], edges[1:], strict=True):
        y = base - tall * h
        points += [f"{x(10**start):.1f},{y:.1f}", f"{x(10**stop):.1f},{y:.1f}"]
    points.append(f"{x(10 ** edges[-1]):.1f},{base:.1f}")
    return f'<polygon points="{" ".join(points)}" fill="var(--accent)" fill-opacity="0.45"/>'


def _percentiles(found: Latency, x: Callable[[float], float], base: float, row: float) -> list[str]:
    # In the order of their worth: names that would run into a better one are left to the table.
    marks = [("p50", found.p50_ns), ("p99", found.p99_ns), ("max", found.max_ns), ("p95", found.p95_ns)]
    parts: list[str] = []
    named: list[float] = []
    for name, ns in marks:
        if ns is None:
            continue
        at = x(ns)
        parts.append(_line(at, base - row + 26, at, base, "--ink"))
        if all(abs(at - other) >= 28 for other in named):
            parts.append(f'<text x="{at:.1f}" y="{base - row + 20}" text-anchor="middle">{name}</text>')
            named.append(at)
    return parts


def _ticks(low: float, high: float) -> list[float]:
    steps = (1, 2, 5) if high - low < 3 else (1,)
    ticks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in steps]
    return [t for t in ticks if low <= math.log10(t) <= high]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="var({colour})"/>'
