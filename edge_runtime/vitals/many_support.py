"""Whether the signals of many streams support the beats found in them: `BeatSupport`'s rules, many beats at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_runtime.contract.rows import Slots
from edge_runtime.contract.signal import Float32Array
from edge_runtime.vitals.support import (
    HALF_S,
    LEAST_JUDGED,
    LEAST_RESEMBLANCE,
    N_EARLIER,
    N_JUDGED,
    SHIFTS,
    STUCK_MV,
    STUCK_S,
)

Counters = NDArray[np.int64]


class ManySupports:
    """What is known of each patient's beats, a slot each.

    past    conditioned samples float32 (n_slots, n), a ring: sample k of a segment is at k % n
    keep    what the high-pass leaves of a change from one sample to the next
    """

    def __init__(self, rate_hz: float, keep: float, past: Float32Array) -> None:
        n_slots = len(past)
        self._half, self._stuck, self._keep = round(HALF_S * rate_hz), round(STUCK_S * rate_hz), keep
        self._past = past
        reach = self._half + SHIFTS + 1
        self._around = np.arange(-reach, reach + 1)
        self._after = np.arange(-1, self._half + self._stuck)
        self._earlier = np.zeros((n_slots, N_EARLIER, 2 * self._half + 1), np.float32)
        self._own = np.zeros((n_slots, N_JUDGED))
        self._n_earlier, self._n_own = np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64)

    def begin(self, slot: int) -> None:
        """A new patient."""
        self._n_earlier[slot] = self._n_own[slot] = 0

    def holds(self, slots: Slots, positions: NDArray[np.float64], seen: Counters, begin: Counters) -> NDArray[np.bool_]:
        """Whether beats of distinct slots are supported by their signal, the beats before, and what follows.

        positions  of the R peaks; seen  counters up to which each was decided; begin  of the slots' segments
        """
        middle = np.rint(positions).astype(np.int64) - begin
        is_known = middle + self._around[0] >= 0
        if is_known.all():
            self._compare(slots, self._forms(slots, middle))
        elif is_known.any():
            self._compare(slots[is_known], self._forms(slots[is_known], middle[is_known]))
        return (self._resemblance(slots) >= LEAST_RESEMBLANCE) & ~self._is_stuck(slots, middle, seen - begin)

    def _forms(self, slots: Slots, middle: Counters) -> Float32Array:
        """Slopes at five shifts, each of mean 0 and norm 1, float32 (beats, 5, n)."""
        x = self._past[slots[:, None], (middle[:, None] + self._around) % self._past.shape[1]]
        forms = sliding_window_view(x[:, 2:] - x[:, :-2], 2 * self._half + 1, axis=1)
        forms = forms - forms.mean(axis=2, keepdims=True)
        norms = np.sqrt((forms * forms).sum(axis=2, keepdims=True))
        found: Float32Array = (forms / np.maximum(norms, math.ulp(1.0))).astype(np.float32)
        return found

    def _compare(self, slots: Slots, forms: Float32Array) -> None:
        """Note how much each beat resembles the earlier ones, and the beat."""
        n = self._n_earlier[slots]
        alike = np.matmul(self._earlier[slots], forms.transpose(0, 2, 1)).max(axis=2)
        alike[np.arange(N_EARLIER) >= n[:, None]] = -np.inf
        is_judged = n > 0
        judged = slots[is_judged]
        self._own[judged, self._n_own[judged] % N_JUDGED] = alike.max(axis=1)[is_judged]
        self._n_own[judged] += 1
        self._earlier[slots, n % N_EARLIER] = forms[:, SHIFTS]
        self._n_earlier[slots] = n + 1

    def _resemblance(self, slots: Slots) -> NDArray[np.float64]:
        """Median of the last six; infinite where fewer than four are known."""
        n = np.minimum(self._n_own[slots], N_JUDGED)
        values = np.where(np.arange(N_JUDGED) < n[:, None], self._own[slots], np.inf)
        values.sort(axis=1)
        rows = np.arange(len(slots))
        middle: NDArray[np.float64] = 0.5 * (values[rows, np.maximum(n - 1, 0) // 2] + values[rows, n // 2 % N_JUDGED])
        return np.where(n >= LEAST_JUDGED, middle, np.inf)

    def _is_stuck(self, slots: Slots, middle: Counters, seen: Counters) -> NDArray[np.bool_]:
        """Whether the sensor's value stops moving with a beat."""
        x = self._past[slots[:, None], (middle[:, None] + self._after) % self._past.shape[1]]
        n = np.minimum(seen, middle + self._half + self._stuck) - (middle - 1)
        at = np.arange(x.shape[1] - 1)
        moves = np.where(np.abs(x[:, 1:] / self._keep - x[:, :-1]) >= STUCK_MV, at, -1)
        last = np.full(x.shape, -1)
        np.maximum.accumulate(moves, axis=1, out=last[:, 1:])
        # How long nothing moved before each sample, up to the last that was seen.
        still = np.where(np.arange(x.shape[1]) < n[:, None], np.arange(x.shape[1]) - last, 0)
        return np.asarray((still.max(axis=1) > self._stuck) & (n > self._stuck) & (middle >= 1))
