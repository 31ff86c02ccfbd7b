"""How usable the recent signal of many streams is: `SignalQuality`'s rules, a hop of each stream at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.rows import Rows, Slots
from edge_runtime.contract.signal import Float32Array
from edge_runtime.vitals.quality import FLAT_MV, LARGEST_MV, PIECE_S, SETTLING_S, WINDOW_S

ONE = np.uint64(1)
BIT_COUNT = getattr(np, "bitwise_count", None)  # from numpy 2 on
REACH_S = 2.0  # how far before the last hop a sample may be that is asked about


class ManyQualities:
    """Stage of many streams, each in a slot: conditioned hops in; `judge` answers about samples of the last ones.

    A hop is judged in parts that divide both it and a piece. A slot's last 64 pieces are the bits of one number, the
    newest in bit 0, 1 where it is usable.
    """

    def __init__(self, rate_hz: int, hop_samples: int, n_slots: int) -> None:
        self._piece = int(PIECE_S * rate_hz)
        self._pieces, self._settling = round(WINDOW_S / PIECE_S), round(SETTLING_S / PIECE_S)
        self._part = math.gcd(self._piece, hop_samples)
        kept = self._pieces + -(-hop_samples // self._piece) + math.ceil(REACH_S / PIECE_S)
        if kept > 64:
            raise ValueError(f"a hop of {hop_samples} samples at {rate_hz} Hz: {kept} pieces wanted, 64 are kept")
        self._window, self._all = np.uint64((1 << self._pieces) - 1), np.uint64((1 << kept) - 1)
        self._usable = np.zeros(n_slots, np.uint64)
        self._seen = np.zeros(n_slots, np.int64)
        self._filled = np.zeros(n_slots, np.int64)  # samples of the unfinished piece
        self._low, self._high = np.zeros(n_slots, np.float32), np.zeros(n_slots, np.float32)

    def begin(self, slot: int) -> None:
        """A segment begins."""
        self._seen[slot] = self._filled[slot] = 0
        self._usable[slot] = 0
        self._low[slot], self._high[slot] = np.inf, -np.inf

    def watch(self, rows: Rows, hops: Float32Array) -> None:
        """Take in one conditioned hop of each, float32 (n_slots, hop)."""
        if hops.shape[1] == self._piece:
            self._count(rows.at, np.minimum.reduce(hops, axis=1), np.maximum.reduce(hops, axis=1))
            return
        parts = hops.reshape(len(rows), -1, self._part)
        lows, highs = np.minimum.reduce(parts, axis=2), np.maximum.reduce(parts, axis=2)
        for low, high in zip(lows.T, highs.T, strict=True):
            if self._part == self._piece:
                self._count(rows.at, low, high)
                continue
            slots = rows.slots
            low, high = np.minimum(low, self._low[slots]), np.maximum(high, self._high[slots])
            self._low[slots], self._high[slots] = low, high
            self._filled[slots] += self._part
            is_full = self._filled[slots] == self._piece
            self._count(slots[is_full], low[is_full], high[is_full])
            self._filled[slots[is_full]] = 0
            self._low[slots[is_full]], self._high[slots[is_full]] = np.inf, -np.inf

    def judge(
        self, slots: Slots, at: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Of each of these slots, whether a sample is broken, and the share of usable signal before another.

        at     samples of the last seconds; broken are those in pieces that are flat or out of range
        stops  samples of the last hops; the share is that of the 5 s before them
        Both are counted from the segment's begin.
        """
        usable = self._usable.take(slots)
        if np.count_nonzero(usable & self._all != self._all) == 0:
            return np.zeros(len(slots), np.bool_), np.ones(len(slots))  # as mostly
        seen, piece = self._seen.take(slots), at // self._piece
        # What ended later is shifted out, and what is too old is cut off; of a piece that is not whole nothing is left.
        is_broken = (usable >> (seen - 1 - piece).view(np.uint64)) & ONE == 0
        is_broken &= (piece >= self._settling) & (piece < seen)
        recent = (usable >> (seen - stops // self._piece).view(np.uint64)) & self._window
        return is_broken, _ones(recent) / self._pieces

    def _count(self, at: slice | Slots, low: Float32Array, high: Float32Array) -> None:
        seen = self._seen[at]
        is_usable = np.subtract(high, low, dtype=np.float64) >= FLAT_MV
        is_usable &= np.maximum(-low, high) <= LARGEST_MV
        is_usable &= seen >= self._settling
        self._usable[at] = self._usable[at] << ONE | is_usable
        self._seen[at] = seen + 1


def _ones(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many bits of each are 1."""
    if BIT_COUNT is not None:
        return np.asarray(BIT_COUNT(numbers))
    return np.asarray(np.unpackbits(numbers.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1), np.int64)
