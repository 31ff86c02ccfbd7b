"""How usable the recent signal is: flat and out-of-range stretches, and the time since it began."""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.signal import Block, Float32Array

WINDOW_S = 5.0
PIECE_S = 0.2
FLAT_MV = 0.005  # a piece that moves less than this is a loose electrode or a stuck converter
LARGEST_MV = 15.0  # above any surface ECG: saturation or a wrong gain
SETTLING_S = 2.0
MOST_WAITING = 64  # blocks
LATE_S = 2.0  # questions come at most so long after the samples that they are about


class SignalQuality:
    """Stage: conditioned blocks in; `share` is how much of the 5 s before a position a reading may rest on.

    A piece of 0.2 s counts as unusable if it is flat or out of range, and so does the time before the stream
    began and its first 2 s, in which filters settle. Asking by position, not by what came last, keeps the answer
    free of how the stream was cut. Blocks wait, so that all of them are judged at once when a beat asks.
    """

    def __init__(self, rate_hz: int) -> None:
        self._piece = int(PIECE_S * rate_hz)
        self._pieces = round(WINDOW_S / PIECE_S)
        self._settling = round(SETTLING_S / PIECE_S)
        self._late = round(LATE_S * rate_hz)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._usable: list[bool] = []
        self._waiting: list[Float32Array] = []
        self._rest = np.zeros(0, np.float32)
        self._seen = 0
        self._start: int | None = None

    def watch(self, block: Block) -> None:
        """Take in one conditioned block."""
        if self._start is None:
            self._start = block.start
        self._waiting.append(block.samples)
        if len(self._waiting) == MOST_WAITING:
            self._judge()
            self.forget(block.start - self._late)

    def _judge(self) -> None:
        """Judge the pieces that are whole by now."""
        x = np.concatenate((self._rest, *(samples[:, 0] for samples in self._waiting)))
        self._waiting.clear()
        n = len(x) // self._piece
        pieces = x[: n * self._piece].reshape(n, self._piece)
        lows, highs = np.minimum.reduce(pieces, axis=1), np.maximum.reduce(pieces, axis=1)
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
            self._seen += 1
            settled = self._seen > self._settling
            self._usable.append(settled and high - low >= FLAT_MV and max(-low, high) <= LARGEST_MV)
        self._rest = x[n * self._piece :].copy()

    def share(self, stop: int) -> float:
        """Share of usable signal in the 5 s before sample `stop`."""
        n = self._index(stop)
        return sum(self._usable[max(0, n - self._pieces) : max(0, n)]) / self._pieces

    def is_broken(self, at: int) -> bool:
        """Whether sample `at` lies in a piece that is flat or out of range."""
        i = self._index(at)
        is_settling = self._seen - len(self._usable) + i < self._settling
        return 0 <= i < len(self._usable) and not is_settling and not self._usable[i]

    def forget(self, stop: int) -> None:
        """Drop what no question about `stop` or later needs; what waits to be judged is not dropped."""
        if len(self._usable) <= 2 * self._pieces:
            return
        del self._usable[: max(0, self._index(stop) - self._pieces)]

    def _index(self, stop: int) -> int:
        """How many of the kept pieces end at or before `stop`."""
        if self._waiting:
            self._judge()
        dropped = self._seen - len(self._usable)
        return (stop - (self._start or 0)) // self._piece - dropped
