"""Conditioning of many streams of one rate, a hop of each at a time: one matrix product instead of a filter each."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.rows import Rows, Slots, rows_of
from edge_runtime.contract.signal import Float32Array, Float64Array

NEVER = np.iinfo(np.int64).max // 4
HOPS_HELD = 8  # room in a stream's buffer; the more, the rarer it is moved to the front


NOBODY = rows_of([])


class _InStep:
    """Slots whose buffers are filled alike, as those of streams that come together: one position instead of many.

    x  float64 (n_slots, window + 1): a window of each, and the baseline
    """

    __slots__ = ("filled", "first", "need", "rows", "x")

    def __init__(self, rows: Rows, filled: int, first: int, need: int, x: Float64Array) -> None:
        self.rows, self.filled, self.first, self.need, self.x = rows, filled, first, need, x


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
        self._views: dict[int, Float32Array] = {}  # of few lengths, so all are kept
        self._origin = np.zeros(n_slots, np.int64)  # source counter of the buffer's first element
        self._filled = np.zeros(n_slots, np.int64)
        self._out = np.zeros(n_slots, np.int64)  # counter of the next hop's first sample, at the model's rate
        self._first = np.zeros(n_slots, np.int64)  # where the next hop's window begins in the buffer
        self._whole = self._view(self._window)
        self._need = np.full(n_slots, NEVER)  # fill at which the next hop can be made
        self._baseline = np.full(n_slots, np.nan)
        self._n_new = 0  # segments without a hop
        self._in_step: _InStep | None = None  # then their positions and baselines are there
        self._taken: Rows | None = None  # who was taken last
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
        self._part()
        if self._need[slot] != NEVER and np.isnan(self._baseline[slot]):
            self._n_new -= 1
        self._need[slot] = NEVER

    def put(self, rows: Rows, samples: Float32Array) -> None:
        """Take in the next samples of slots that are not due, finite float32 (n_slots, n), n at most `most`."""
        n, step = samples.shape[1], self._in_step
        if step is not None and rows.is_same(step.rows):
            if step.filled + n > self._room:
                self._move_all_to_front(step)
            self._buffer[rows.at, step.filled : step.filled + n] = samples
            step.filled += n
            return
        self._part()
        at = self._filled[rows.at]
        if int(np.maximum.reduce(at)) + n > self._room:
            self._move_to_front(rows)
            at = self._filled[rows.at]
        self._view(n)[rows.slots, at] = samples
        self._filled[rows.at] = at + n

    def due(self) -> Rows:
        """Slots that hold a whole hop."""
        step = self._in_step
        if step is not None:
            return step.rows if step.filled >= step.need else NOBODY
        return rows_of((self._filled >= self._need).nonzero()[0])

    def takes(self, rows: Rows, n: int) -> bool:
        """Whether all of these slots are in a segment, none is due, and `put` takes n more samples of each."""
        step = self._in_step
        if step is not None and rows.is_same(step.rows):
            return n <= self.most and step.filled < step.need
        self._part()
        lacks = self._need[rows.at] - self._filled[rows.at]
        return n <= self.most and int(np.minimum.reduce(lacks)) > 0 and int(np.maximum.reduce(lacks)) < NEVER // 2

    def next_out(self, rows: Rows) -> NDArray[np.int64]:
        """Counters of the slots' next hops at the model's rate; a copy."""
        return self._out.take(rows.slots)

    def last(self, slot: int) -> float:
        """The newest sample of a segment."""
        self._part()
        return float(self._buffer[slot, self._filled[slot] - 1])

    def take(self, rows: Rows) -> Float32Array:
        """Conditioned hops float32 (n_slots, hop) of slots that are due."""
        # The baseline is the last column, so that one product gives everything.
        step = self._in_step
        if step is not None and rows.is_same(step.rows):
            step.x[:, :-1] = self._buffer[rows.at, step.first : step.first + self._window]
            made = step.x @ self._matrix(0)
            step.x[:, -1] = made[:, self.hop]
            self._out[rows.at] += self.hop
            step.first += self.source_hop
            step.need += self.source_hop
            return made[:, : self.hop].astype(np.float32)
        self._part()
        x = np.empty((len(rows), self._window + 1))
        x[:, :-1] = self._whole[rows.slots, self._first[rows.at]]
        x[:, -1] = self._baseline[rows.at]
        if self._n_new:
            self._settle_new(rows, x)
        if self._up == 1:
            made = x @ self._matrix(0)
        else:
            phase = self._out[rows.at] * self._down % self._up
            made = np.empty((len(rows), self.hop + 1))
            for p in np.unique(phase):
                made[phase == p] = x[phase == p] @ self._matrix(int(p))
        self._baseline[rows.at] = made[:, self.hop]
        self._out[rows.at] += self.hop
        if self._up == 1:
            self._first[rows.at] += self.source_hop
            self._need[rows.at] += self.source_hop
            self._join(rows)
        else:
            self._plan(rows.at)
        return made[:, : self.hop].astype(np.float32)

    def _join(self, rows: Rows) -> None:
        """These go on in step if they were taken together before, are filled alike, and nobody else waits to be taken.

        Until somebody else brings something, as `due` then knows of these only.
        """
        is_usual = self._taken is not None and rows.is_same(self._taken)
        self._taken = rows
        if not is_usual or len(self.due()):
            return
        at = [positions[rows.at] for positions in (self._filled, self._first, self._need)]
        if all((a == a[0]).all() for a in at):
            x = np.zeros((len(rows), self._window + 1))
            x[:, -1] = self._baseline[rows.at]
            self._in_step = _InStep(rows, int(at[0][0]), int(at[1][0]), int(at[2][0]), x)

    def _part(self) -> None:
        """Each segment for itself again."""
        step, self._in_step = self._in_step, None
        if step is not None:
            at, self._taken = step.rows.at, None
            self._filled[at], self._first[at], self._need[at] = step.filled, step.first, step.need
            self._baseline[at] = step.x[:, -1]

    def _move_all_to_front(self, step: _InStep) -> None:
        kept = step.filled - step.first
        self._buffer[step.rows.at, :kept] = self._buffer[step.rows.at, step.first : step.filled].copy()
        step.need -= step.first
        step.filled, step.first = kept, 0

    def _settle_new(self, rows: Rows, x: Float64Array) -> None:
        """A segment's baseline begins with its first sample at the model's rate."""
        for i in np.isnan(x[:, -1]).nonzero()[0]:
            taps = self.grid.bank[int(self._out[rows.slots[i]]) * self._down % self._up]
            x[i, -1] = x[i, : len(taps)] @ taps
            self._n_new -= 1

    def _plan(self, at: slice | Slots) -> None:
        """Where the next hop's window begins, and the fill that it needs."""
        out, origin = self._out[at], self._origin[at]
        self._first[at] = out * self._down // self._up - origin - max(0, self._half - 1)
        self._need[at] = (out + self.hop - 1) * self._down // self._up + self._half + 1 - origin

    def _matrix_of(self, phase: int) -> Float64Array:
        """float64 (window + 1, hop + 1): from window and baseline to the hop and the next hop's baseline."""
        resample = np.zeros((self._window, self.hop))
        for k in range(self.hop):
            whole, p = divmod(phase + k * self._down, self._up)
            taps = self.grid.bank[p]
            resample[whole : whole + len(taps), k] = taps
        track = resample @ self._track.T
        return np.block([[resample - track, track[:, -1:]], [-self._decay, self._decay[-1:]]])

    def _move_to_front(self, rows: Rows) -> None:
        """Forget what no hop of these slots needs any more."""
        slots = rows.slots
        longest = int((self._filled[slots] - self._first[slots]).max())
        done = np.clip(self._first[slots], 0, self._buffer.shape[1] - longest)
        self._buffer[slots, :longest] = self._view(longest)[slots, done]
        self._origin[slots] += done
        for positions in (self._filled, self._first, self._need):
            positions[slots] -= done

    def _view(self, n: int) -> Float32Array:
        """All runs of n elements of every buffer, float32 (slots, places, n), in the buffers' own memory."""
        view = self._views.get(n)
        if view is None:
            (n_slots, columns), (row, element) = self._buffer.shape, self._buffer.strides
            view = self._views[n] = as_strided(self._buffer, (n_slots, columns - n + 1, n), (row, element, element))
        return view
