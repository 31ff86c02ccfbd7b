"""Times of one stage, each call timed singly, and the percentiles that so many calls can support."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from edge_runtime.contract.packed import IntArray, pack, unpack

MAX_NS = 2**32 - 1  # a value of 4.29 s stands for "4.29 s or more"
CONFIDENCE_LEVEL = 0.99


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Times of one stage, each call timed singly; made by `latency`.

    p*_ns    nearest-rank percentiles; None where there are too few calls to claim one, named in `refused`
    values   all of them in order of time: base64 of zlib of little-endian uint32 nanoseconds; empty in a summary
    """

    stage: str
    n: int
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None
    max_ns: int | None
    refused: str
    values: str

    @property
    def values_ns(self) -> IntArray:
        """All times in nanoseconds; int64 (n,)."""
        return unpack(self.values, "<u4", f"latency of {self.stage}")


def latency(stage: str, values_ns: ArrayLike) -> Latency:
    """Summary of the times of one stage; refuses percentiles that the number of calls cannot support."""
    values = np.minimum(np.asarray(values_ns, np.int64).reshape(-1), MAX_NS)
    p = {p: _percentile(values, p) for p in (50, 95, 99)}
    refused = "; ".join(f"p{p}: {len(values)} calls, {min_calls(p)} wanted" for p, value in p.items() if value is None)
    return Latency(
        stage=stage,
        n=len(values),
        p50_ns=p[50],
        p95_ns=p[95],
        p99_ns=p[99],
        max_ns=int(values.max()) if len(values) else None,
        refused=refused,
        values=pack(values, "<u4"),
    )


def without_values(full: Latency) -> Latency:
    """The summary alone, where the raw values are kept in another file."""
    return replace(full, values="")


def min_calls(percentile: float) -> int:
    """Fewest calls from which a percentile may be claimed with confidence 0.99.

    Source: MLPerf Inference rules, early stopping: the smallest n for which at most one of n calls lies above
    the true percentile with probability <= 0.01; 64 for p90, 662 for p99, 6,636 for p99.9.
    """
    above = 1.0 - percentile / 100.0
    n = 1
    while (1 - above) ** n + n * above * (1 - above) ** (n - 1) > 1.0 - CONFIDENCE_LEVEL:
        n += 1
    return n


def _percentile(values: IntArray, p: int) -> int | None:
    if len(values) < min_calls(p):
        return None
    return int(np.sort(values)[math.ceil(p * len(values) / 100) - 1])
