"""Whether the signals of many streams support the beats found in them: `BeatSupport`'s rules, many beats at a time."""

from __future__ import annotations

import math

import numpy as np
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
        self._past = past.reshape(-1)
        self._length = past.shape[1]
        self._reach = self._half + SHIFTS + 1
        self._shifted = np.arange(2 * SHIFTS + 1)[:, None] + np.arange(2 * self._half + 1)
        self._around = np.arange(-self._reach, max(self._reach + 1, self._half + self._stuck))
        self._earlier = np.zeros((n_slots, N_EARLIER, 2 * self._half + 1), np.float32)
        self._own = np.full((n_slots, N_JUDGED), np.inf)
        self._n_earlier, self._n_own = np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64)

    def begin(self, slot: int) -> None:
        """A new patient."""
        self._n_earlier[slot] = self._n_own[slot] = 0
        self._own[slot] = np.inf

    def holds(self, slots: Slots, middle: Counters, seen: Counters) -> NDArray[np.bool_]:
        """Whether beats of distinct slots are supported by their signal, the beats before, and what follows.

        middle  samples of the R peaks; seen  those before which each was decided; both counted from the segments' begin
        """
        at = (middle[:, None] + self._around) % self._length
        x = self._past.take(at + (slots * self._length)[:, None])
        known = (middle >= self._reach).nonzero()[0]
        if len(known) == len(slots):
            self._compare(slots, self._forms(x))
        elif len(known):
            self._compare(slots[known], self._forms(x[known]))
        is_held = self._resemblance(slots) >= LEAST_RESEMBLANCE
        is_held &= ~self._is_stuck(x[:, self._reach - 1 :], middle, seen)
        return is_held

    def _forms(self, x: Float32Array) -> Float32Array:
        """Slopes at five shifts, each of mean 0 and norm 1, float32 (beats, 5, n), from the samples around beats."""
        slopes = x[:, 2 : 2 * self._reach + 1] - x[:, : 2 * self._reach - 1]
        forms: Float32Array = slopes.take(self._shifted, axis=1)
        forms -= np.add.reduce(forms, axis=2, keepdims=True) / np.float32(forms.shape[2])
        norms = np.sqrt(np.add.reduce(forms * forms, axis=2, keepdims=True))
        forms /= np.maximum(norms, np.float32(math.ulp(1.0)))
        return forms

    def _compare(self, slots: Slots, forms: Float32Array) -> None:
        """Note how much each beat resembles the earlier ones, and the beat."""
        n = self._n_earlier[slots]
        alike = np.matmul(self._earlier.take(slots, axis=0), forms.transpose(0, 2, 1))
        fewest, judged = int(np.minimum.reduce(n)), slots
        if fewest < N_EARLIER:
            alike[np.arange(N_EARLIER) >= n[:, None]] = -np.inf
        best = np.maximum.reduce(alike.reshape(len(slots), -1), axis=1)
        if fewest == 0:
            best, judged = best[n > 0], slots[n > 0]
        n_own = self._n_own[judged]
        self._own[judged, n_own % N_JUDGED] = best
        self._n_own[judged] = n_own + 1
        self._earlier[slots, n % N_EARLIER] = forms[:, SHIFTS]
        self._n_earlier[slots] = n + 1

    def _resemblance(self, slots: Slots) -> NDArray[np.float64]:
        """Median of the last six; infinite where fewer than four are known."""
        values = self._own.take(slots, axis=0)
        values.sort(axis=1)
        n = self._n_own[slots]
        if int(np.minimum.reduce(n)) >= N_JUDGED:
            return np.asarray(np.add.reduce(values[:, (N_JUDGED - 1) // 2 : N_JUDGED // 2 + 1], axis=1) * 0.5)
        n = np.minimum(n, N_JUDGED)
        rows = np.arange(len(slots))
        middle: NDArray[np.float64] = 0.5 * (values[rows, np.maximum(n - 1, 0) // 2] + values[rows, n // 2 % N_JUDGED])
        return np.where(n >= LEAST_JUDGED, middle, np.inf)

    def _is_stuck(self, x: Float32Array, middle: Counters, seen: Counters) -> NDArray[np.bool_]:
        """Whether the sensor's value stops moving with a beat, of whose samples x begins with the one before it."""
        # A stretch without a move that is long enough, and begins and ends within x, covers its middle.
        length = self._half + self._stuck + 1
        core = x[:, length - self._stuck - 1 : self._stuck + 1]
        moves = core[:, 1:] / self._keep
        moves -= core[:, :-1]
        np.abs(moves, out=moves)
        is_stuck: NDArray[np.bool_] = np.maximum.reduce(moves, axis=1) < STUCK_MV
        i = is_stuck.nonzero()[0]
        if len(i):
            is_stuck[i] = self._stops(x[i, :length], middle[i], seen[i])
        return is_stuck

    def _stops(self, x: Float32Array, middle: Counters, seen: Counters) -> NDArray[np.bool_]:
        """The same of all samples up to the last that was seen."""
        n = np.minimum(seen, middle + self._half + self._stuck) - (middle - 1)
        at = np.arange(x.shape[1] - 1)
        moves = np.where(np.abs(x[:, 1:] / self._keep - x[:, :-1]) >= STUCK_MV, at, -1)
        last = np.full(x.shape, -1)
        np.maximum.accumulate(moves, axis=1, out=last[:, 1:])
        # How long nothing moved before each sample, up to the last that was seen.
        still = np.where(np.arange(x.shape[1]) < n[:, None], np.arange(x.shape[1]) - last, 0)
        return np.asarray((still.max(axis=1) > self._stuck) & (n > self._stuck) & (middle >= 1))
