"""Beat-by-beat scorer after ANSI/AAMI EC57: matches beats, counts them, and makes figures of the counts.

The rules, which every figure of this project follows:
- All beats of a record count, from its first sample on; nothing is forgiven while a filter settles.
- A detected beat matches a reference beat within 150 ms, one to one, the closest pairs first.
- Inside masked spans (ventricular flutter, which has no separate beats) nothing is counted.
- A missed reference beat counts against the sensitivity (Se) of detection and of its own class.
- A false detection counts against the predictivity (P+) of detection and of the class it was given.
- A reference beat of class Q counts for detection only: whatever it was called, no class gains or loses.
- Strict on fusion: F called V is a false V (EC57 leaves such beats out of V's P+), and V called F a missed V.
- Figures of several records are gross: counts are summed, then divided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.contract.signal import AAMI_CLASSES

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

TOLERANCE_S = 0.150  # ANSI/AAMI EC57:2012, 4.3
N_CLASSES = len(AAMI_CLASSES)
NONE = N_CLASSES  # row of false detections, column of missed beats
LABELS = (*AAMI_CLASSES, "none")
SCORED_CLASSES = ("N", "S", "V", "F")  # Q has no figures of its own
MACRO_CLASSES = ("N", "S", "V")
NO_SPANS: IntArray = np.zeros((0, 2), np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordScore:
    """What became of the beats of one record.

    counts     int64 (6, 6): row = reference class N S V F Q or none, column = detected class or none
    pairs      int64 (n, 2): index of a reference beat, index of its detected beat; counted pairs only
    missed     int64 (n,): indices of counted reference beats that nothing matches
    extra      int64 (n,): indices of counted detected beats that match nothing
    offset_ms  float64 (n,): detected minus reference, per pair
    """

    name: str
    counts: IntArray
    pairs: IntArray
    missed: IntArray
    extra: IntArray
    offset_ms: FloatArray


def match(reference: ArrayLike, detected: ArrayLike, tolerance: float) -> IntArray:
    """One-to-one pairs of beats at most `tolerance` samples apart; the closest pair is taken first.

    reference, detected  samples, ascending
    returns              int64 (n, 2), index pairs ascending in the reference; among equally close pairs the
                         earlier reference beat, then the earlier detected beat, goes first
    Raises ValueError if the samples do not ascend.
    """
    r, d = _ascending(reference, "reference"), _ascending(detected, "detected")
    first = np.searchsorted(d, r - tolerance, "left")
    n_near = np.searchsorted(d, r + tolerance, "right") - first
    i = np.repeat(np.arange(len(r)), n_near)
    j = np.arange(len(i)) - np.repeat(np.cumsum(n_near) - n_near, n_near) + np.repeat(first, n_near)
    order = np.lexsort((j, i, np.abs(r[i] - d[j])))
    taken_r, taken_d = np.zeros(len(r), bool), np.zeros(len(d), bool)
    pairs = []
    for a, b in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if not taken_r[a] and not taken_d[b]:
            taken_r[a] = taken_d[b] = True
            pairs.append((a, b))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def score_record(
    name: str,
    *,
    rate_hz: float,
    reference_samples: ArrayLike,
    reference_classes: ArrayLike,
    detected_samples: ArrayLike,
    detected_classes: ArrayLike,
    masked: ArrayLike = NO_SPANS,
    tolerance_s: float = TOLERANCE_S,
) -> RecordScore:
    """Score the beats detected in one record.

    *_samples  ascending, in the record's own samples at `rate_hz`
    *_classes  index into AAMI_CLASSES
    masked     (spans, 2), [start, stop) in samples. A pair lies where its reference beat lies, so a detection
               a few milliseconds inside a span still finds the reference beat before it.
    Raises ValueError if samples do not ascend, lengths differ or a class is unknown.
    """
    r, d = _ascending(reference_samples, "reference"), _ascending(detected_samples, "detected")
    r_class = _classes(reference_classes, len(r), f"{name}: reference")
    d_class = _classes(detected_classes, len(d), f"{name}: detected")
    spans = np.asarray(masked, np.float64).reshape(-1, 2)
    # 1e-6 samples: 0.150 s * 360 Hz is a little less than 54 in floating point.
    matched = match(r, d, tolerance_s * rate_hz + 1e-6)
    r_counts, d_counts = ~_inside(r, spans), ~_inside(d, spans)
    pairs = matched[r_counts[matched[:, 0]]]
    missed = np.setdiff1d(np.flatnonzero(r_counts), matched[:, 0])
    extra = np.setdiff1d(np.flatnonzero(d_counts), matched[:, 1])
    counts = np.zeros((N_CLASSES + 1, N_CLASSES + 1), np.int64)
    np.add.at(counts, (r_class[pairs[:, 0]], d_class[pairs[:, 1]]), 1)
    np.add.at(counts[:, NONE], r_class[missed], 1)
    np.add.at(counts[NONE], d_class[extra], 1)
    offset_ms = (d[pairs[:, 1]] - r[pairs[:, 0]]) * (1000.0 / rate_hz)
    return RecordScore(name=name, counts=counts, pairs=pairs, missed=missed, extra=extra, offset_ms=offset_ms)


def gross(scores: Iterable[RecordScore]) -> IntArray:
    """Summed counts of several records; int64 (6, 6)."""
    total = np.zeros((N_CLASSES + 1, N_CLASSES + 1), np.int64)
    for score in scores:
        total += score.counts
    return total


def figures(counts: ArrayLike) -> dict[str, FloatArray]:
    """All accuracy figures of confusion counts, by name; see FIGURES.

    counts   (..., 6, 6); leading axes are kept, so a whole bootstrap is one call
    returns  ratios in [0, 1], shape (...); NaN where there was nothing to divide by
    """
    c = np.asarray(counts, np.float64)
    beats = slice(0, N_CLASSES)
    found = c[..., beats, beats].sum((-1, -2))
    out = {
        "detection_se": _ratio(found, c[..., beats, :].sum((-1, -2))),
        "detection_ppv": _ratio(found, c[..., :, beats].sum((-1, -2))),
    }
    not_q = [i for i in range(N_CLASSES + 1) if LABELS[i] != "Q"]
    for name in SCORED_CLASSES:
        k = LABELS.index(name)
        hits, wanted, called = c[..., k, k], c[..., k, :].sum(-1), c[..., not_q, k].sum(-1)
        out[f"{name.lower()}_se"] = _ratio(hits, wanted)
        out[f"{name.lower()}_ppv"] = _ratio(hits, called)
        out[f"{name.lower()}_f1"] = _ratio(2.0 * hits, wanted + called)
    out["macro_f1"] = sum((out[f"{n.lower()}_f1"] for n in MACRO_CLASSES), np.zeros(())) / len(MACRO_CLASSES)
    return out


FIGURES = (
    "detection_se",
    "detection_ppv",
    *(f"{name.lower()}_{figure}" for name in SCORED_CLASSES for figure in ("se", "ppv", "f1")),
    "macro_f1",
)


@dataclass(frozen=True, kw_only=True)
class TimingError:
    """How far detected beats lie from their reference beats.

    offset_ms  median of detected minus reference: the systematic part
    median_ms, p95_ms  of the absolute error
    """

    n: int
    offset_ms: float
    median_ms: float
    p95_ms: float


def timing_error(scores: Sequence[RecordScore]) -> TimingError | None:
    """Timing error over all pairs of several records; None without a pair."""
    offset = np.concatenate([np.zeros(0), *(s.offset_ms for s in scores)])
    if not len(offset):
        return None
    error = np.abs(offset)
    return TimingError(
        n=len(offset),
        offset_ms=float(np.median(offset)),
        median_ms=float(np.median(error)),
        p95_ms=float(np.percentile(error, 95)),
    )


def _ascending(samples: ArrayLike, what: str) -> FloatArray:
    x = np.asarray(samples, np.float64).reshape(-1)
    if not np.all(np.diff(x) >= 0):  # also false for NaN
        raise ValueError(f"{what} beats: samples do not ascend")
    return x


def _classes(classes: ArrayLike, n: int, what: str) -> IntArray:
    c = np.asarray(classes, np.int64).reshape(-1)
    if len(c) != n:
        raise ValueError(f"{what} beats: {len(c)} classes for {n} samples")
    if n and (c.min() < 0 or c.max() >= N_CLASSES):
        raise ValueError(f"{what} beats: classes from {c.min()} to {c.max()}; 0 to {N_CLASSES - 1} wanted")
    return c


def _inside(samples: FloatArray, spans: FloatArray) -> NDArray[np.bool_]:
    x = samples[:, None]
    return np.asarray(((x >= spans[:, 0]) & (x < spans[:, 1])).any(axis=1))


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan))
