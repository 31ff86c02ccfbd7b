"""The last seconds of a stream's conditioned signal."""

from __future__ import annotations

from collections import deque

import numpy as np

from edge_runtime.contract.signal import Block, Float32Array

KEPT_S = 3.0


class RecentSignal:
    """Stage: conditioned blocks of one segment in; `between` gives back what is asked for while it is kept."""

    def __init__(self, rate_hz: float) -> None:
        self._kept = round(KEPT_S * rate_hz)
        self.reset()

    def reset(self) -> None:
        """Forget the segment."""
        self._parts: deque[tuple[int, Float32Array]] = deque()  # counter of the first sample, samples

    def watch(self, block: Block) -> None:
        """Take in one block."""
        self._parts.append((block.start, block.samples[:, 0].copy()))

    def forget(self, stop: int) -> None:
        """Drop what lies three seconds and more before `stop`."""
        while self._parts and self._parts[0][0] + len(self._parts[0][1]) < stop - self._kept:
            self._parts.popleft()

    def between(self, begin: int, end: int) -> Float32Array | None:
        """Samples of a range, float32 (n,); None where some are not there."""
        parts = [(start, x) for start, x in self._parts if start < end and start + len(x) > begin]
        if not parts or parts[0][0] > begin or parts[-1][0] + len(parts[-1][1]) < end:
            return None
        samples: Float32Array = np.concatenate([x[max(0, begin - start) : end - start] for start, x in parts])
        return samples
