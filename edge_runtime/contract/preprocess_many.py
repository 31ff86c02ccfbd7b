"""Conditioning of many streams of one rate, a hop of each at a time: one matrix product instead of a filter each."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.rows import Rows, Slots
from edge_runtime.contract.signal import Float32Array, Float64Array

NEVER = np.iinfo(np.int64).max // 4
HOPS_HELD = 8  # room in a stream's buffer; the more, the rarer it is moved to the front


class HopConditioner:
    """Stage of many streams, each in a slot of its own: samples in any pieces in, whole hops of 125 Hz out.

    Resampling and the high-pass are linear, so a hop is a product of its window of source samples with a matrix, plus
    the baseline it begins with times a decay. The matrix depends only on where the hop's first sample lies between
    two source samples. Results are those of `Conditioner` but for the rounding of float64 sums.

    A slot is one segment: `begin` it, `put` samples, `take` hops while it is in `due`, `end` it.
    """

    def __init__(self, conditioning: Conditioning, source_rate_hz: float, hop_samples: int, n_slots: int) -> None:
        self.grid = Conditioner(conditioning, source_rate_hz)
        self.hop = hop_samples
        self._half = self.grid.delay_source_samples
        self._up, self._down = self.grid.ratio
        self._window = (self._up - 1 + (hop_samples - 1) * self._down) // self._up + max(1, 2 * self._half)
        self.source_hop = -(-hop_samples * self._down // self._up)
        # A window may reach one sample past those that its hop needs (their weight is zero).
        self._room = self._window + HOPS_HELD * self.source_hop
        self._buffer: Float32Array = np.zeros((n_slots, self._room + 1), np.float32)
        self._views: dict[int, Float32Array] = {}
        self._origin = np.zeros(n_slots, np.int64)  # source counter of the buffer's first element
        self._filled = np.zeros(n_slots, np.int64)
        self._out = np.zeros(n_slots, np.int64)  # counter of the next hop's first sample, at the model's rate
        self._first = np.zeros(n_slots, np.int64)  # where the next hop's window begins in the buffer
        self._need = np.full(n_slots, NEVER)  # fill at which the next hop can be made
        self._baseline = np.full(n_slots, np.nan)
        self._n_new = 0  # segments without a hop
        keep = 1.0 - self.grid.alpha
        self._decay = keep ** np.arange(1, hop_samples + 1)
        self._track = self.grid.alpha * np.tril(keep ** (np.arange(hop_samples)[:, None] - np.arange(hop_samples)))
        self._matrix = lru_cache(maxsize=256)(self._matrix_of)

    @property
    def most(self) -> int:
        """Most samples that `put` takes for a slot that is not due."""
        return (HOPS_HELD - 1) * self.source_hop

    def begin(self, slot: int, start: int, first: float) -> None:
        """A segment begins with source sample `start`; before it the signal was `first` for ever."""
        self.end(slot)
        self._buffer[slot, : self._half] = first
        self._origin[slot], self._filled[slot] = start - self._half, self._half
        self._out[slot] = -(-start * self._up // self._down)
        self._baseline[slot] = np.nan
        self._n_new += 1
        self._plan(np.array([slot]))

    def end(self, slot: int) -> None:
        """The slot is free."""
        if self._need[slot] != NEVER and np.isnan(self._baseline[slot]):
            self._n_new -= 1
        self._need[slot] = NEVER

    def put(self, rows: Rows, samples: Float32Array) -> None:
        """Take in the next samples of slots that are not due, finite float32 (n_slots, n), n at most `most`."""
        n = samples.shape[1]
        at = self._filled[rows.at]
        if at.max() + n > self._room:
            self._move_to_front(rows)
            at = self._filled[rows.at]
        if isinstance(rows.at, slice) and (at == at[0]).all():
            self._buffer[rows.at, at[0] : at[0] + n] = samples
        else:
            self._view(n)[rows.slots, at] = samples
        self._filled[rows.at] += n

    def due(self) -> Slots:
        """Slots that hold a whole hop."""
        return np.flatnonzero(self._filled >= self._need)

    def is_due(self, rows: Rows) -> bool:
        """Whether one of the slots holds a whole hop."""
        return bool((self._filled[rows.at] >= self._need[rows.at]).any())

    def next_out(self, rows: Rows) -> NDArray[np.int64]:
        """Counters of the slots' next hops at the model's rate; a copy."""
        return self._out[rows.slots]

    def last(self, slot: int) -> float:
        """The newest sample of a segment."""
        return float(self._buffer[slot, self._filled[slot] - 1])

    def take(self, rows: Rows) -> Float32Array:
        """Conditioned hops float32 (n_slots, hop) of slots that are due."""
        windows = self._windows(rows, self._first[rows.at], self._window).astype(np.float64)
        if self._up == 1:
            made = windows @ self._matrix(0)
        else:
            phase = self._out[rows.at] * self._down % self._up
            made = np.empty((len(rows), self.hop + 2))
            for p in np.unique(phase):
                made[phase == p] = windows[phase == p] @ self._matrix(int(p))
        baseline = self._baseline[rows.at]
        if self._n_new:
            is_new = np.isnan(baseline)
            self._n_new -= int(np.count_nonzero(is_new))
            baseline = np.where(is_new, made[:, -1], baseline)
        hops = made[:, : self.hop]
        hops -= baseline[:, None] * self._decay
        self._baseline[rows.at] = made[:, self.hop] + baseline * self._decay[-1]
        self._out[rows.at] += self.hop
        if self._up == 1:
            self._first[rows.at] += self.hop * self._down
            self._need[rows.at] += self.hop * self._down
        else:
            self._plan(rows.at)
        return hops.astype(np.float32)

    def _plan(self, at: slice | Slots) -> None:
        """Where the next hop's window begins, and the fill that it needs."""
        out, origin = self._out[at], self._origin[at]
        self._first[at] = out * self._down // self._up - origin - max(0, self._half - 1)
        self._need[at] = (out + self.hop - 1) * self._down // self._up + self._half + 1 - origin

    def _matrix_of(self, phase: int) -> Float64Array:
        """float64 (window, hop + 2): the hop over a zero baseline, the next hop's baseline, the first sample."""
        resample = np.zeros((self._window, self.hop))
        for k in range(self.hop):
            whole, p = divmod(phase + k * self._down, self._up)
            taps = self.grid.bank[p]
            resample[whole : whole + len(taps), k] = taps
        track = resample @ self._track.T
        return np.column_stack((resample - track, track[:, -1], resample[:, 0]))

    def _move_to_front(self, rows: Rows) -> None:
        """Forget what no hop of these slots needs any more."""
        slots = rows.slots
        longest = int((self._filled[slots] - self._first[slots]).max())
        done = np.clip(self._first[slots], 0, self._buffer.shape[1] - longest)
        self._buffer[slots, :longest] = self._windows(Rows(slots, slots), done, longest)
        self._origin[slots] += done
        for positions in (self._filled, self._first, self._need):
            positions[slots] -= done

    def _windows(self, rows: Rows, first: NDArray[np.int64], n: int) -> Float32Array:
        """The n elements of each buffer from `first` on, float32 (n_slots, n); to be read."""
        if isinstance(rows.at, slice) and (first == first[0]).all():
            return self._buffer[rows.at, first[0] : first[0] + n]
        return np.asarray(self._view(n)[rows.slots, first])

    def _view(self, n: int) -> Float32Array:
        """All runs of n elements of every buffer, float32 (slots, places, n), in the buffers' own memory."""
        view = self._views.get(n)
        if view is None:
            (n_slots, columns), (row, element) = self._buffer.shape, self._buffer.strides
            view = self._views[n] = as_strided(self._buffer, (n_slots, columns - n + 1, n), (row, element, element))
        return view
