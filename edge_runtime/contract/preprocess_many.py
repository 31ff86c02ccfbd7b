"""Conditioning of many streams of one rate, a hop of each at a time: one matrix product instead of a filter each."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.signal import Float32Array, Float64Array

Slots = NDArray[np.intp]
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
        self._windows = self._view(self._window)
        self._views: dict[int, Float32Array] = {}
        self._origin = np.zeros(n_slots, np.int64)  # source counter of the buffer's first element
        self._filled = np.zeros(n_slots, np.int64)
        self._out = np.zeros(n_slots, np.int64)  # counter of the next hop's first sample, at the model's rate
        self._need = np.full(n_slots, NEVER)  # fill at which the next hop can be made
        self._baseline = np.full(n_slots, np.nan)
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
        self._buffer[slot, : self._half] = first
        self._origin[slot], self._filled[slot] = start - self._half, self._half
        self._out[slot] = -(-start * self._up // self._down)
        self._baseline[slot] = np.nan
        self._plan(np.array([slot]))

    def end(self, slot: int) -> None:
        """The slot is free."""
        self._need[slot] = NEVER

    def put(self, slots: Slots, samples: Float32Array) -> None:
        """Take in the next samples of slots that are not due, finite float32 (n_slots, n), n at most `most`."""
        n = samples.shape[1]
        at = self._filled[slots]
        if (at + n > self._room).any():
            self._move_to_front(slots)
            at = self._filled[slots]
        view = self._views.get(n)
        if view is None:
            view = self._views[n] = self._view(n)
        view[slots, at] = samples
        self._filled[slots] = at + n

    def due(self) -> Slots:
        """Slots that hold a whole hop."""
        return np.flatnonzero(self._filled >= self._need)

    def is_due(self, slot: int) -> bool:
        """Whether the slot holds a whole hop."""
        return bool(self._filled[slot] >= self._need[slot])

    def next_out(self, slots: Slots) -> NDArray[np.int64]:
        """Counters of the slots' next hops at the model's rate."""
        return self._out[slots]

    def take(self, slots: Slots) -> Float32Array:
        """Conditioned hops float32 (n_slots, hop) of slots that are due."""
        whole, phase = np.divmod(self._out[slots] * self._down, self._up)
        first = whole - self._origin[slots] - (self._half - 1 if self._half else 0)
        windows = self._windows[slots, first].astype(np.float64)
        if self._up == 1 or (phase == phase[0]).all():
            made = windows @ self._matrix(int(phase[0]))
        else:
            made = np.empty((len(slots), self.hop + 2))
            for p in np.unique(phase):
                made[phase == p] = windows[phase == p] @ self._matrix(int(p))
        baseline = self._baseline[slots]
        is_new = np.isnan(baseline)
        if is_new.any():
            baseline = np.where(is_new, made[:, -1], baseline)
        made[:, : self.hop] -= baseline[:, None] * self._decay
        self._baseline[slots] = made[:, self.hop] + baseline * self._decay[-1]
        self._out[slots] += self.hop
        self._plan(slots)
        return made[:, : self.hop].astype(np.float32)

    def _plan(self, slots: Slots) -> None:
        last = (self._out[slots] + self.hop - 1) * self._down // self._up
        self._need[slots] = last + self._half + 1 - self._origin[slots]

    def _matrix_of(self, phase: int) -> Float64Array:
        """float64 (window, hop + 2): the hop over a zero baseline, the next hop's baseline, the first sample."""
        resample = np.zeros((self._window, self.hop))
        for k in range(self.hop):
            whole, p = divmod(phase + k * self._down, self._up)
            taps = self.grid.bank[p]
            resample[whole : whole + len(taps), k] = taps
        track = resample @ self._track.T
        return np.column_stack((resample - track, track[:, -1], resample[:, 0]))

    def _move_to_front(self, slots: Slots) -> None:
        """Forget what no hop of these slots needs any more."""
        done = np.maximum(self._out[slots] * self._down // self._up - self._half - self._origin[slots], 0)
        longest = int((self._filled[slots] - done).max())
        done = np.minimum(done, self._buffer.shape[1] - longest)
        self._buffer[slots, :longest] = self._view(longest)[slots, done]
        self._origin[slots] += done
        self._filled[slots] -= done
        self._need[slots] -= done

    def _view(self, n: int) -> Float32Array:
        """All runs of n samples of every buffer, float32 (slots, places, n), in the buffers' own memory."""
        rows, columns = self._buffer.shape
        row, element = self._buffer.strides
        return as_strided(self._buffer, (rows, columns - n + 1, n), (row, element, element))
