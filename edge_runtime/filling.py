"""A pipeline that draws a straight line across short gaps, where the bundle says so, and marks what rests on one."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from edge_runtime.contract.signal import Block, Float32Array, Reading
from edge_runtime.pipeline import Pipeline


class FillingPipeline(Pipeline):
    """Samples of one stream -> readings, gaps of at most `fill_samples` interpolated.

    What was filled in counts as received, and as `interpolated`; a reading for which any of it was seen says so.
    A gap beside a sample that is not a number is left a gap.

    looks_back, looks_ahead  source samples before and behind a reading's that it rests on
    """

    def __init__(self, *stages: Any, fill_samples: int, looks_back: int, looks_ahead: int, **more: Any) -> None:
        self._fill_samples, self._looks_back, self._looks_ahead = fill_samples, looks_back, looks_ahead
        super().__init__(*stages, **more)

    def reset(self) -> None:
        """Forget stream, patient and ledger."""
        super().reset()
        self._newest: tuple[int, Float32Array] | None = None  # counter one past the last sample, its row
        self._filled: deque[tuple[int, int]] = deque()

    def feed(self, block: Block) -> list[Reading]:
        """Readings that this block, and what it ends a gap of, make possible."""
        readings: list[Reading] = []
        line = self._line(block)
        if line is not None:
            self._filled.append((line.start, line.stop))
            readings += super().feed(line)
            self.ledger.interpolated += len(line.samples)
        readings += super().feed(block)
        if len(block.samples):
            self._newest = (block.stop, block.samples[-1].copy())
        marked = self._marked(readings)
        far = self._looks_back + 2 * self._looks_ahead + len(block.samples)
        while self._filled and self._filled[0][1] < block.stop - far:
            self._filled.popleft()
        return marked

    def finish(self) -> list[Reading]:
        """The stream ends here."""
        return self._marked(super().finish())

    def _line(self, block: Block) -> Block | None:
        """What to put between the newest sample and this block; None for nothing."""
        if self._newest is None or len(block.samples) == 0:
            return None
        stop, before = self._newest
        n, after = block.start - stop, block.samples[0]
        if not 0 < n <= self._fill_samples or not (np.isfinite(before).all() and np.isfinite(after).all()):
            return None
        share = (np.arange(1, n + 1, dtype=np.float32) / np.float32(n + 1))[:, None]
        return Block(start=stop, samples=before + (after - before) * share, t_ns=block.t_ns)

    def _marked(self, readings: list[Reading]) -> list[Reading]:
        """Readings, those that rest on a line marked."""
        return [self._as_seen(r) for r in readings] if self._filled else readings

    def _as_seen(self, reading: Reading) -> Reading:
        begin, end = reading.sample - self._looks_back, reading.sample + self._looks_ahead
        if any(first <= end and stop > begin for first, stop in self._filled):
            return reading.marked_interpolated()
        return reading
