"""Confidence intervals by resampling whole records: patients are independent, the beats of one are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from host_tools.measure.score import FloatArray, figures

RESAMPLES = 2000
LEVEL = 0.95
FEW_RECORDS = 10  # below this, percentiles of a record bootstrap cover clearly less than they claim

Figures = Callable[[FloatArray], Mapping[str, FloatArray]]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its 95 % record-bootstrap interval; None where the records cannot support one."""

    value: float | None
    low: float | None
    high: float | None
    n_records: int

    @property
    def note(self) -> str:
        """What a reader must know about the interval; empty if nothing."""
        if self.n_records < 2:
            return "one record: no interval"
        if self.n_records < FEW_RECORDS:
            return f"only {self.n_records} records: the interval is too narrow"
        return ""


def bootstrap(
    counts: ArrayLike, of: Figures = figures, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Percentile intervals of all figures `of` summed counts.

    counts   (records, ...): one array of counts per record
    of       figures by name from summed counts (resamples, ...), vectorized over the first axis
    returns  by name; resamples in which a figure is undefined are left out of its percentiles
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    c = _per_record(counts)
    whole, drawn = of(c.sum(0, keepdims=True)), of(_resampled(c, seed, resamples))
    return {name: _interval(float(whole[name][0]), drawn[name], len(c)) for name in whole}


def bootstrap_difference(
    counts: ArrayLike,
    baseline: ArrayLike,
    of: Figures = figures,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Intervals of figure(counts) - figure(baseline), both on the same records in the same order.

    Each resample draws the same records for both sides, so what the records share cancels.
    Raises ValueError if the numbers of records differ.
    """
    a, b = _per_record(counts), _per_record(baseline)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} records against {len(b)}; the same records wanted")
    whole_a, whole_b = of(a.sum(0, keepdims=True)), of(b.sum(0, keepdims=True))
    drawn_a, drawn_b = of(_resampled(a, seed, resamples)), of(_resampled(b, seed, resamples))
    return {
        name: _interval(float(whole_a[name][0] - whole_b[name][0]), drawn_a[name] - drawn_b[name], len(a))
        for name in whole_a
    }


def _per_record(counts: ArrayLike) -> FloatArray:
    c = np.asarray(counts, np.float64)
    if c.ndim < 1 or len(c) == 0:
        raise ValueError("no records to resample")
    return c


def _resampled(counts: FloatArray, seed: int, resamples: int) -> FloatArray:
    """Summed counts of `resamples` draws with replacement; (resamples, ...)."""
    n = len(counts)
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64)
    return np.asarray(np.tensordot(times, counts, axes=1))


def _interval(value: float, drawn: FloatArray, n_records: int) -> Interval:
    drawn = drawn[np.isfinite(drawn)]
    if n_records < 2 or not np.isfinite(value) or not len(drawn):
        return Interval(value=value if np.isfinite(value) else None, low=None, high=None, n_records=n_records)
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(value=value, low=float(low), high=float(high), n_records=n_records)
