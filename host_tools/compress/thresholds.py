"""How far the integers of a tensor reach: five published ways to choose a range from a histogram of its values.

minmax      all values seen (Jacob et al., "Quantization and Training of Neural Networks for Efficient
            Integer-Arithmetic-Only Inference", CVPR 2018)
percentile  all but a share of the values (McKinstry et al., "Discovering Low-Precision Networks Close to
            Full-Precision Networks for Efficient Embedded Inference", 2018)
kl          least Kullback-Leibler divergence of the histogram before and after (Migacz, "8-bit Inference with
            TensorRT", NVIDIA GTC 2017, 2048 bins). Exact zeros are left out: every scale represents them.
mse         least mean squared error over shrunk ranges (Sung et al., "Resiliency of Deep Neural Networks under
            Quantization", 2015)
truncation  the naive baseline: -m to m for m the largest magnitude; a tensor without negative values uses the
            upper half only, 0 to 127 of 0 to 255. Weights reach to their largest magnitude as everywhere, but their
            integers drop the fraction (round towards zero) instead of rounding to the nearest. Activations are
            rounded to the nearest, because the engine does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_runtime.contract.signal import Float64Array
from host_tools.compress.quantize import Scale

Thresholds = Literal["minmax", "percentile", "kl", "mse", "truncation"]
BINS = 2048  # of magnitudes
PER_BIN = 16
SHRINKS = np.linspace(0.2, 1.0, 161)


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """What is kept of a tensor's values.

    counts  int64 (2 * bins,), equal bins from -largest to largest, without the values that are exactly 0
    zeros   how many were exactly 0
    """

    counts: np.ndarray
    zeros: int
    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest magnitude, more than 0."""
        return max(-self.low, self.high, 1e-12)

    @property
    def centres(self) -> Float64Array:
        """The middle of each bin."""
        n = len(self.counts)
        return np.asarray((np.arange(n) + 0.5) * (2.0 * self.largest / n) - self.largest)

    def magnitudes(self) -> np.ndarray:
        """Counts by magnitude, (bins,), from 0 to `largest`."""
        half = len(self.counts) // 2
        return np.asarray(self.counts[half:] + self.counts[:half][::-1])


def histogram(values: np.ndarray, bins: int = BINS) -> Histogram:
    """Of an array of any shape."""
    low, high = float(values.min()), float(values.max())
    counts, zeros = count(values, low, high, bins)
    return Histogram(counts=counts, zeros=zeros, low=low, high=high)


def count(values: np.ndarray, low: float, high: float, bins: int = BINS) -> tuple[np.ndarray, int]:
    """Counts and zeros for a tensor known to lie between low and high; sums over batches are the whole's."""
    kept = values[values != 0]
    largest = max(-low, high, 1e-12)
    return np.histogram(kept, 2 * bins, (-largest, largest))[0], int(values.size - kept.size)


def scale_for(seen: Histogram, how: Thresholds, percentile: float = 99.99, limit: float | None = None) -> Scale:
    """Scale and zero point of uint8 integers; `limit` is the upper end of a Clip that the rounding replaces."""
    if how == "truncation":
        largest = seen.largest if limit is None else min(seen.largest, limit)
        return Scale(scale=float(np.float32(largest / 127.0)), zero_point=128 if seen.low < 0 else 0)
    if how == "percentile":
        low, high = percentile_range(seen, percentile)
    elif how == "mse":
        low, high = mse_range(seen)
    elif how == "kl":
        reach = kl_threshold(seen.magnitudes(), 128 if seen.low < 0 else 256) * seen.largest
        low, high = max(seen.low, -reach), min(seen.high, reach)
    else:
        low, high = seen.low, seen.high
    return scale_of(low, high if limit is None else min(high, limit))


def scale_of(low: float, high: float) -> Scale:
    """Uint8 integers from low to high, widened to hold 0, which one of them represents exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(high - low, 1e-6) / 255.0)
    if low == 0.0 and high > 1e-6 and float(scale) * 255.0 > high:
        scale = np.nextafter(scale, np.float32(0))  # a Clip ends at `high`: nothing above it may be represented
    return Scale(scale=float(scale), zero_point=int(np.clip(np.rint(-low / float(scale)), 0, 255)))


def percentile_range(seen: Histogram, percentile: float) -> tuple[float, float]:
    """The range without the outermost 100 - percentile on each side, to the width of a bin."""
    half = len(seen.counts) // 2
    counts = np.insert(seen.counts, half, seen.zeros)
    ends = np.insert(np.linspace(-seen.largest, seen.largest, len(seen.counts) + 1), half, 0.0)
    share = np.concatenate([[0.0], np.cumsum(counts) / max(counts.sum(), 1)])
    outside = 1.0 - percentile / 100.0
    low = ends[max(int(np.searchsorted(share, outside, side="right")) - 1, 0)]
    high = ends[min(int(np.searchsorted(share, 1.0 - outside, side="left")), len(ends) - 1)]
    return max(float(low), seen.low), min(float(high), seen.high)


def mse_range(seen: Histogram) -> tuple[float, float]:
    """The range times the factor of `SHRINKS` with the least mean squared rounding and clipping error."""
    centres, counts = seen.centres, seen.counts
    held = counts > 0
    if not held.any():
        return seen.low, seen.high
    centres, counts = centres[held], counts[held]
    best, chosen = np.inf, 1.0
    for shrink in SHRINKS[::-1]:
        scale = scale_of(seen.low * shrink, seen.high * shrink)
        integers = np.clip(np.rint(centres / scale.scale) + scale.zero_point, 0, 255)
        error = float((((integers - scale.zero_point) * scale.scale - centres) ** 2 * counts).sum())
        if error < best:
            best, chosen = error, float(shrink)
    return seen.low * chosen, seen.high * chosen


def kl_threshold(magnitudes: np.ndarray, levels: int) -> float:
    """The share of the histogram's width, in (0, 1], that `levels` integers should cover.

    For every cut from `levels` bins on: P is the histogram up to the cut, with what lies beyond in its last bin; Q
    is the part up to the cut merged into `levels` groups and spread evenly over each group's bins that held
    something. The cut with the least KL(P || Q) wins, the smallest of equals.
    A histogram with fewer than `PER_BIN` values a bin is made coarser first: with hardly a value in any bin, nothing
    is merged and every cut looks lossless.
    """
    while len(magnitudes) > levels and magnitudes.sum() < PER_BIN * len(magnitudes):
        magnitudes = magnitudes.reshape(-1, 2).sum(axis=1)
    n = len(magnitudes)
    if n < levels or magnitudes.sum() == 0:
        return 1.0
    best, cut = np.inf, n
    for end in range(levels, n + 1):
        divergence = kl_divergence(magnitudes, end, levels)
        if divergence < best - 1e-12:
            best, cut = divergence, end
    return cut / n


def kl_divergence(magnitudes: np.ndarray, end: int, levels: int) -> float:
    """KL(P || Q) of one cut; see `kl_threshold`."""
    inside = magnitudes[:end].astype(np.float64)
    p = inside.copy()
    p[-1] += magnitudes[end:].sum()
    starts = (np.arange(levels) * end) // levels
    sums = np.add.reduceat(inside, starts)
    held = inside > 0
    members = np.add.reduceat(held.astype(np.float64), starts)
    q = np.repeat(sums / np.maximum(members, 1.0), np.diff(np.append(starts, end))) * held
    if sums.sum() == 0:
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    on = p > 0
    if (q[on] == 0).any():  # the last bin held nothing until what lies beyond was put there
        q = np.maximum(q, 1e-9)
    return float((p[on] * np.log(p[on] / q[on])).sum())
