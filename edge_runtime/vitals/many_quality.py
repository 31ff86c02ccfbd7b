"""How usable the recent signal of many streams is: `SignalQuality`'s rules, a hop of each stream at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.rows import Rows, Slots
from edge_runtime.contract.signal import Float32Array
from edge_runtime.vitals.quality import FLAT_MV, LARGEST_MV, PIECE_S, SETTLING_S, WINDOW_S


class ManyQualities:
    """Stage of many streams, each in a slot: conditioned hops in; `share` answers about samples of the last hop.

    A hop is judged in parts that divide both it and a piece; how many usable pieces there were up to each is kept,
    so that the share of the last 5 s is a difference of two counts.
    """

    def __init__(self, rate_hz: int, hop_samples: int, n_slots: int) -> None:
        self._piece = int(PIECE_S * rate_hz)
        self._pieces, self._settling = round(WINDOW_S / PIECE_S), round(SETTLING_S / PIECE_S)
        self._part = math.gcd(self._piece, hop_samples)
        # Pieces of the last 5 s, those of the hop, and the one before.
        self._kept = self._pieces + -(-hop_samples // self._piece) + 2
        self._usable = np.zeros((n_slots, self._kept), np.int32)  # pieces usable among the first n, at n % kept
        self._seen = np.zeros(n_slots, np.int64)
        self._start = np.zeros(n_slots, np.int64)
        self._filled = np.zeros(n_slots, np.int64)  # samples of the unfinished piece
        self._low, self._high = np.zeros(n_slots, np.float32), np.zeros(n_slots, np.float32)

    def begin(self, slot: int, start: int) -> None:
        """A segment begins at conditioned sample `start`."""
        self._start[slot], self._seen[slot], self._filled[slot] = start, 0, 0
        self._usable[slot, 0] = 0
        self._low[slot], self._high[slot] = np.inf, -np.inf

    def watch(self, rows: Rows, hops: Float32Array) -> None:
        """Take in one conditioned hop of each, float32 (n_slots, hop)."""
        parts = hops.reshape(len(rows), -1, self._part)
        lows, highs = parts.min(axis=2), parts.max(axis=2)
        for i in range(parts.shape[1]):
            low, high = lows[:, i], highs[:, i]
            if self._part == self._piece:
                self._count(rows.slots, low, high)
                continue
            slots = rows.slots
            low, high = np.minimum(low, self._low[slots]), np.maximum(high, self._high[slots])
            self._low[slots], self._high[slots] = low, high
            self._filled[slots] += self._part
            is_full = self._filled[slots] == self._piece
            self._count(slots[is_full], low[is_full], high[is_full])
            self._filled[slots[is_full]] = 0
            self._low[slots[is_full]], self._high[slots[is_full]] = np.inf, -np.inf

    def share(self, slots: Slots, stops: NDArray[np.int64]) -> NDArray[np.float64]:
        """Shares of usable signal in the 5 s before samples `stops`, which lie in the last hops."""
        n = (stops - self._start[slots]) // self._piece
        before = np.maximum(0, n - self._pieces)
        counts = self._usable[slots, n % self._kept] - self._usable[slots, before % self._kept]
        return np.asarray(counts / self._pieces)

    def is_broken(self, slots: Slots, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether samples `at`, of the last seconds, lie in pieces that are flat or out of range."""
        i = (at - self._start[slots]) // self._piece
        is_same = self._usable[slots, (i + 1) % self._kept] == self._usable[slots, i % self._kept]
        return np.asarray(is_same & (i >= self._settling) & (i < self._seen[slots]))

    def _count(self, slots: Slots, low: Float32Array, high: Float32Array) -> None:
        seen = self._seen[slots]
        moves = high.astype(np.float64) - low >= FLAT_MV
        is_usable = moves & (np.maximum(-low, high) <= LARGEST_MV) & (seen >= self._settling)
        self._usable[slots, (seen + 1) % self._kept] = self._usable[slots, seen % self._kept] + is_usable
        self._seen[slots] = seen + 1
