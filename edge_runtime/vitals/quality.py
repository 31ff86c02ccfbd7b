"""How usable the recent signal is: flat and out-of-range stretches, and the time since it began."""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.signal import Block

WINDOW_S = 5.0
PIECE_S = 0.2
FLAT_MV = 0.005  # a piece that moves less than this is a loose electrode or a stuck converter
LARGEST_MV = 15.0  # above any surface ECG: saturation or a wrong gain
SETTLING_S = 2.0


class SignalQuality:
    """Stage: conditioned blocks in; `value` is the share in [0, 1] of the last 5 s that a reading may rest on.

    A piece of 0.2 s counts as unusable if it is flat or out of range, and so does the time before the stream
    began and its first 2 s, in which filters settle.
    """

    def __init__(self, rate_hz: int) -> None:
        self._piece = int(PIECE_S * rate_hz)
        self._pieces = round(WINDOW_S / PIECE_S)
        self._settling = round(SETTLING_S / PIECE_S)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._usable: list[bool] = []
        self._rest = np.zeros(0, np.float32)
        self._seen = 0

    def watch(self, block: Block) -> None:
        """Take in one conditioned block."""
        x = np.concatenate((self._rest, block.samples[:, 0]))
        n = len(x) // self._piece
        for piece in x[: n * self._piece].reshape(n, self._piece):
            swing = float(piece.max() - piece.min())
            self._seen += 1
            settled = self._seen > self._settling
            self._usable.append(settled and swing >= FLAT_MV and float(np.abs(piece).max()) <= LARGEST_MV)
        self._rest = x[n * self._piece :]
        del self._usable[: -self._pieces]

    @property
    def value(self) -> float:
        """Share of usable signal in the last 5 s."""
        return sum(self._usable) / self._pieces
