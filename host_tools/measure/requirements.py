"""What the task `ecg-beats` promises: each figure with its floor and goal, from what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from host_tools.measure.intervals import Interval, bootstrap_difference
from host_tools.measure.study import Accuracy, HostAgainstDevice, Requirement, SeedRun

# One patient of the test set holds three quarters of its S beats, so S is told with and without this record.
MOST_S_BEATS = "232"
EQUALITY = "beats printed by the device equal to the host's"


def ecg_requirements(
    *,
    test: Accuracy,
    fp32: Accuracy | None,
    delay_s: float | None,
    int8_bytes: int,
    teacher_bytes: int,
    seeds: Sequence[SeedRun],
    speedup: Interval | None,
    against_host: HostAgainstDevice | None,
    simulated: bool,
) -> tuple[Requirement, ...]:
    """Headline rows of the report.

    test     int8 student, streaming, own detection; `fp32` is the same student on the same records before it
    delay_s  longest time from an R peak to its reading
    speedup  of one streaming step over recomputing a 10 s window, as a ratio
    Floors of accuracy are those of the MIT-BIH test set, so simulated data are held to none.
    """
    rows = _accuracy(test)
    if fp32 is not None:
        lost = bootstrap_difference(fp32.counts, test.counts)["macro_f1"]
        rows.append(_row("macro-F1 (N, S, V) lost from fp32 to int8", "points", lost, 1.0, 0.2, better="lower"))
    if simulated:
        rows = [_without_limits(row) for row in rows]
    rows += [
        Requirement(name="delay from R peak to reading", unit="s", value=delay_s, floor=1.4, goal=1.0, better="lower"),
        Requirement(name="INT8 model", unit="kB", value=int8_bytes / 1000, floor=60.0, goal=15.0, better="lower"),
        Requirement(
            name="smaller than the fp32 teacher",
            unit="x",
            value=teacher_bytes / int8_bytes,
            floor=50.0,
            goal=150.0,
        ),
        _distillation(seeds, simulated),
        Requirement(
            name="streaming step against recomputing a 10 s window",
            unit="x",
            value=speedup.value if speedup else None,
            low=speedup.low if speedup else None,
            high=speedup.high if speedup else None,
            floor=8.0,
            goal=20.0,
        ),
        _equality(against_host),
    ]
    return tuple(rows)


def _accuracy(test: Accuracy) -> list[Requirement]:
    f = test.intervals()
    note = f"Se {_percent(f['s_se'])}, P+ {_percent(f['s_ppv'])}"
    if any(r.name == MOST_S_BEATS for r in test.records) and len(test.records) > 1:
        rest = test.without(MOST_S_BEATS).intervals()
        note += (
            f"; without record {MOST_S_BEATS}: F1 {_percent(rest['s_f1'])}, "
            f"Se {_percent(rest['s_se'])}, P+ {_percent(rest['s_ppv'])}"
        )
    return [
        _row("beat detection Se", "%", f["detection_se"], 99.7, 99.93, note=f["detection_se"].note),
        _row("beat detection P+", "%", f["detection_ppv"], 99.7, 99.93),
        _row("ventricular (V) Se", "%", f["v_se"], 85.0, 94.0),
        _row("ventricular (V) P+", "%", f["v_ppv"], 85.0, 94.0),
        _row("supraventricular (S) F1", "%", f["s_f1"], 32.0, 65.0, note=note),
        _row("macro-F1 (N, S, V)", "%", f["macro_f1"], None, None),
    ]


def _row(
    name: str,
    unit: str,
    found: Interval,
    floor: float | None,
    goal: float | None,
    *,
    better: str = "higher",
    note: str = "",
) -> Requirement:
    def times100(value: float | None) -> float | None:
        return None if value is None else 100.0 * value

    return Requirement(
        name=name,
        unit=unit,
        value=times100(found.value),
        low=times100(found.low),
        high=times100(found.high),
        floor=floor,
        goal=goal,
        better="lower" if better == "lower" else "higher",
        note=note,
    )


def _without_limits(row: Requirement) -> Requirement:
    return Requirement(
        name=row.name,
        unit=row.unit,
        value=row.value,
        low=row.low,
        high=row.high,
        better=row.better,
        note=row.note,
    )


def _distillation(seeds: Sequence[SeedRun], simulated: bool) -> Requirement:
    gains = [run.distilled - run.alone for run in seeds]
    return Requirement(
        name="macro-F1 gained by distillation",
        unit="points",
        value=float(np.mean(gains)) if gains else None,
        goal=None if simulated else 1.0,
        note="by seed: " + ", ".join(f"{g:+.2f}" for g in gains) if gains else "",
    )


def _equality(found: HostAgainstDevice | None) -> Requirement:
    if found is None or found.beats == 0:
        return Requirement(name=EQUALITY, unit="%", value=None, floor=100.0, goal=100.0)
    # Only all of them make 100: a rounded share must not hide one beat.
    share = 100.0 if found.is_equal else min(99.99, 100.0 * found.equal_beats / found.beats)
    note = found.first_difference or f"{found.beats} beats in {found.records} records"
    return Requirement(name=EQUALITY, unit="%", value=share, floor=100.0, goal=100.0, note=note)


def _percent(found: Interval) -> str:
    return "n/a" if found.value is None else f"{100 * found.value:.1f}"
