"""Seconds of ECG worth looking at: one strip for each kind of success and error that occurs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_runtime.contract.packed import pack
from edge_runtime.contract.signal import AAMI_CLASSES
from host_tools.data.records import EcgRecord
from host_tools.measure.runs import score_beats
from host_tools.measure.score import IntArray, RecordScore
from host_tools.measure.study import Mark, Strip


def strip_of(
    record: EcgRecord, samples: IntArray, classes: IntArray, *, middle: int, seconds: float, title: str
) -> Strip:
    """Strip of `seconds` around sample `middle`, with the beats inside it."""
    n = min(int(seconds * record.rate_hz), len(record.leads))
    start = max(0, min(middle - n // 2, len(record.leads) - n))
    return Strip(
        title=title,
        record=record.name,
        lead=record.lead_names[0],
        rate_hz=record.rate_hz,
        start=start,
        signal_uv=pack((1000.0 * record.leads[start : start + n, 0]).round(), "<i4"),
        reference=_marks(record.beat_samples, record.beat_classes, start, n),
        detected=_marks(samples, classes, start, n),
    )


def _marks(samples: IntArray, classes: IntArray, start: int, n: int) -> tuple[Mark, ...]:
    inside = (samples >= start) & (samples < start + n)
    pairs = zip(samples[inside].tolist(), classes[inside].tolist(), strict=True)
    return tuple(Mark(sample=int(s), label=AAMI_CLASSES[c]) for s, c in pairs)


# What a strip should show, in this order: reference class, detected class, what it is called.
CASES = (
    ("V", "V", "ventricular beats found"),
    ("S", "S", "supraventricular beats found"),
    ("S", "N", "S called N"),
    ("N", "S", "N called S"),
    ("V", "N", "V called N"),
    ("N", "V", "N called V"),
    ("F", "V", "F called V"),
    ("none", "any", "false detections"),
    ("any", "none", "missed beats"),
)


def pick_strips(
    records: Sequence[EcgRecord], detected: Mapping[str, tuple[IntArray, IntArray]], *, seconds: float = 8.0
) -> tuple[Strip, ...]:
    """One strip for each of CASES that occurs: the record where it is most frequent, its median place.

    detected  samples and classes by record name
    """
    places: dict[str, list[tuple[int, EcgRecord, IntArray]]] = {name: [] for _, _, name in CASES}
    for record in records:
        samples, classes = detected[record.name]
        score = score_beats(record, samples, classes)
        for wanted, called, name in CASES:
            where = _places(score, record, samples, classes, wanted, called)
            if len(where):
                places[name].append((len(where), record, where))
    strips = []
    for name, found in places.items():
        if found:
            n, record, where = max(found, key=lambda f: f[0])
            samples, classes = detected[record.name]
            title = f"Record {record.name}: {name}, {n:,} such here"
            middle = int(where[len(where) // 2])
            strips.append(strip_of(record, samples, classes, middle=middle, seconds=seconds, title=title))
    return tuple(strips)


def _places(
    score: RecordScore, record: EcgRecord, samples: IntArray, classes: IntArray, wanted: str, called: str
) -> IntArray:
    if wanted == "none":
        return samples[score.extra]
    if called == "none":
        return record.beat_samples[score.missed]
    reference = record.beat_classes[score.pairs[:, 0]] == AAMI_CLASSES.index(wanted)
    given = classes[score.pairs[:, 1]] == AAMI_CLASSES.index(called)
    return np.asarray(record.beat_samples[score.pairs[reference & given, 0]])
