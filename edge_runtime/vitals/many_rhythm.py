"""RR-interval features of many patients' beats at a time: `RhythmContext`'s rules, a slot for each patient."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.rhythm import FAST, MAX_RR_S, MIN_RR_S, N_FEATURES, SLOW
from edge_runtime.contract.rows import Slots
from edge_runtime.contract.signal import Float64Array

# What is known of a patient, by column.
LAST_S, PREVIOUS, FAST_MEAN, SLOW_MEAN, IRREGULARITY = range(5)
NEW_PATIENT = (np.nan, 0.8, 0.8, 0.8, 0.0)
RIPE = round(1.0 / SLOW)  # intervals after which weights stay as they are
# The features but the last, from the logarithms of RR, next, previous, fast and slow mean, and RR, irregularity and 1.
FROM_LOGS = np.array(
    [
        [3.0, 0.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0],  # RR / fast mean
        [0.0, 3.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0],  # next / fast mean
        [3.0, 0.0, 0.0, 0.0, -3.0, 0.0, 0.0, 0.0],  # RR / slow mean
        [3.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # RR / previous
        [-1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # next / RR
        [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, -1.6],  # RR - 0.8 s
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 0.0],  # irregularity
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
)


class ManyRhythms:
    """Running statistics over past RR intervals of each slot; see `RhythmContext` for what the features mean."""

    def __init__(self, look_ahead_s: float, n_slots: int) -> None:
        self._look_ahead_s = look_ahead_s
        self._known = np.tile(np.array(NEW_PATIENT), (n_slots, 1))
        self._n = np.zeros(n_slots, np.int64)  # intervals, no more counted than RIPE
        # The first intervals weigh more, so that the means start at the patient's own rate; of the first there is no
        # change.
        n = np.arange(RIPE + 1)
        fast, slow = np.maximum(FAST, 1.0 / np.maximum(n, 1)), np.maximum(SLOW, 1.0 / np.maximum(n, 1))
        self._weights = np.stack((fast, slow, fast * (n > 1)))

    def begin(self, slot: int) -> None:
        """A new patient."""
        self._known[slot], self._n[slot] = NEW_PATIENT, 0

    def interrupt(self, slot: int) -> None:
        """Forget the last beat's time, not the patient."""
        self._known[slot, LAST_S] = np.nan

    def features(self, slots: Slots, t_s: Float64Array, next_s: Float64Array) -> Float64Array:
        """Features float64 (n, 8) of a beat of each of these distinct slots.

        t_s  times of the beats; next_s  of the beats that follow, infinite where none is known
        """
        known = self._known.take(slots, axis=0).T
        x = np.empty((N_FEATURES, len(slots)))
        rr = t_s - known[LAST_S]
        is_first = np.isnan(rr) if math.isnan(rr.dot(rr)) else None
        np.maximum(rr, MIN_RR_S, out=rr)
        np.minimum(rr, MAX_RR_S, out=rr)
        if is_first is not None:
            np.copyto(rr, known[FAST_MEAN], where=is_first)
        seen = next_s - t_s
        np.maximum(seen, MIN_RR_S, out=seen)
        np.minimum(seen, self._look_ahead_s, out=seen)
        x[0], x[1] = rr, seen
        x[2:5] = known[PREVIOUS:IRREGULARITY]
        np.log(x[:5], out=x[:5])
        x[5], x[6], x[7] = rr, known[IRREGULARITY], 1.0
        row: Float64Array = FROM_LOGS @ x
        row[4] = np.minimum(np.maximum(row[4], -1.0), 1.0)
        row[7] = seen >= self._look_ahead_s
        self._update(slots, known, t_s, rr, is_first)
        return row.T

    def _update(
        self, slots: Slots, known: Float64Array, t_s: Float64Array, rr: Float64Array, is_first: NDArray[np.bool_] | None
    ) -> None:
        """Note one more beat of each, and its interval, if one ended with it."""
        if is_first is not None:
            self._known[slots[is_first], LAST_S] = t_s[is_first]
            slots, known, t_s, rr = slots[~is_first], known[:, ~is_first], t_s[~is_first], rr[~is_first]
        self._n[slots] = n = np.minimum(self._n[slots] + 1, RIPE)
        change = np.abs(rr - known[PREVIOUS])
        change /= known[FAST_MEAN]
        towards = np.empty((3, len(slots)))
        np.minimum(change, 1.0, out=towards[2])
        towards[:2] = rr
        means = known[FAST_MEAN:]
        towards -= means
        towards *= self._weights.take(n, axis=1)
        means += towards
        known[LAST_S], known[PREVIOUS] = t_s, rr
        self._known[slots] = known.T
