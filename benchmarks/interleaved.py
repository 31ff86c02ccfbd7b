"""Two sides called in turns in one process: the ratio of their times with its spread, never two separate runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Times of `calls` calls of each side, round by round, in ns."""

    other_ns: list[int]
    ours_ns: list[int]
    calls: int

    @property
    def ratios(self) -> np.ndarray:
        """How many times longer the other side took, one a round."""
        return np.array(self.other_ns) / np.array(self.ours_ns)


def compare(
    other: Call,
    ours: Call,
    *,
    rounds: int = 400,
    calls: int = 5,
    warm_up: int = 50,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Comparison:
    """Time both sides in turns; which one goes first changes from round to round."""
    for _ in range(warm_up):
        other()
        ours()
    spent: tuple[list[int], list[int]] = ([], [])
    for i in range(rounds):
        for side in ((0, 1), (1, 0))[i % 2]:
            spent[side].append(_spent_ns((other, ours)[side], calls, clock))
    return Comparison(other_ns=spent[0], ours_ns=spent[1], calls=calls)


def keep(benchmark: Any, found: Comparison, *, floor: float, goal: float, name: str = "ratio") -> float:
    """Write a comparison into the benchmark's record; returns the median ratio.

    floor, goal  of other / ours where more is better; for an overhead, ours / other, goal is below floor
    """
    ratios = found.ratios if goal > floor else 1.0 / found.ratios
    low, middle, high = np.percentile(ratios, [2.5, 50, 97.5])
    benchmark.extra_info[name] = {
        "p2.5": round(float(low), 3),
        "p50": round(float(middle), 3),
        "p97.5": round(float(high), 3),
        "rounds": len(ratios),
        "floor": floor,
        "goal": goal,
        "other_p50_us": _median_us(found.other_ns, found.calls),
        "ours_p50_us": _median_us(found.ours_ns, found.calls),
    }
    benchmark.extra_info[f"{name}s"] = [round(float(r), 3) for r in ratios]
    return float(middle)


def _median_us(spent_ns: list[int], calls: int) -> float:
    return round(float(np.median(spent_ns)) / calls / 1e3, 3)


def _spent_ns(call: Call, calls: int, clock: Callable[[], int]) -> int:
    begun = clock()
    for _ in range(calls):
        call()
    return clock() - begun
