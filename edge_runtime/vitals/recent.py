"""The last seconds of a stream's conditioned signal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_runtime.contract.signal import Block, Float32Array

KEPT_S = 4.0


class RecentSignal:
    """Stage: conditioned blocks of one segment in; `between` gives back what is asked for while it is kept.

    before_dropping  called before samples are dropped, for who did not look at all of them yet
    """

    before_dropping: Callable[[], None] | None = None

    def __init__(self, rate_hz: float) -> None:
        self._kept = round(KEPT_S * rate_hz)
        self.reset()

    @property
    def start(self) -> int:
        """Counter of the first kept sample."""
        return self._begin

    @property
    def stop(self) -> int:
        """Counter one past the last sample; `start` while there is none."""
        return self._begin + self._n

    def reset(self) -> None:
        """Forget the segment."""
        self._samples = np.zeros(2 * self._kept, np.float32)
        self._begin = self._n = 0  # counter of the first kept sample; how many are kept

    def watch(self, block: Block) -> None:
        """Take in one block; what lies KEPT_S and more before it may be dropped."""
        x = block.samples[:, 0]
        n, stop = self._n, self._n + len(x)
        if n == 0:
            self._begin = block.start
        if stop > len(self._samples):
            n, stop = self._make_room(len(x))
        self._samples[n:stop] = x
        self._n = stop

    def between(self, begin: int, end: int) -> Float32Array | None:
        """Samples of a range, float32 (n,), a view valid until the next block; None where some are not there."""
        first, last = begin - self._begin, end - self._begin
        return None if first < 0 or last > self._n or first >= last else self._samples[first:last]

    def _make_room(self, n_new: int) -> tuple[int, int]:
        """Keep the last KEPT_S only; where the new samples go."""
        if self.before_dropping is not None:
            self.before_dropping()
        kept = self._samples[max(0, self._n - self._kept) : self._n]
        self._begin += self._n - len(kept)
        samples = np.zeros(self._kept + max(self._kept, n_new), np.float32)
        samples[: len(kept)] = kept
        self._samples = samples
        return len(kept), len(kept) + n_new
