"""How usable the recent signal is: flat and out-of-range stretches, and the time since it began."""

from __future__ import annotations

import numpy as np

from edge_runtime.vitals.recent import RecentSignal

WINDOW_S = 5.0
PIECE_S = 0.2
FLAT_MV = 0.005  # a piece that moves less than this is a loose electrode or a stuck converter
LARGEST_MV = 15.0  # above any surface ECG: saturation or a wrong gain
SETTLING_S = 2.0
LATE_S = 2.0  # questions come at most so long after the samples that they are about


class SignalQuality:
    """Of a recent signal, `share` is how much of the 5 s before a position a reading may rest on.

    A piece of 0.2 s counts as unusable if it is flat or out of range, and so does the time before the stream
    began and its first 2 s, in which filters settle. Asking by position, not by what came last, keeps the answer
    free of how the stream was cut. All that came since is judged at once when a beat asks.
    """

    def __init__(self, rate_hz: int, recent: RecentSignal) -> None:
        self._recent = recent
        recent.before_dropping = self._keep_up
        self._piece = int(PIECE_S * rate_hz)
        self._pieces = round(WINDOW_S / PIECE_S)
        self._settling = round(SETTLING_S / PIECE_S)
        self._late = round(LATE_S * rate_hz)
        self.reset()

    def reset(self) -> None:
        """Forget the segment."""
        self._usable: list[bool] = []
        self._seen = 0  # pieces, those that are not kept included
        self._start: int | None = None

    def _keep_up(self) -> None:
        self._judge()
        self.forget(self._recent.stop - self._late)

    def _judge(self) -> None:
        """Judge the pieces that are whole by now."""
        recent = self._recent
        if self._start is None and recent.stop > recent.start:
            self._start = recent.start
        if self._start is None:
            return
        begin = self._start + self._seen * self._piece
        n = (recent.stop - begin) // self._piece
        x = recent.between(begin, begin + n * self._piece)
        if x is None:  # no piece is whole
            return
        pieces = x.reshape(n, self._piece)
        lows, highs = np.minimum.reduce(pieces, axis=1), np.maximum.reduce(pieces, axis=1)
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
            self._seen += 1
            settled = self._seen > self._settling
            self._usable.append(settled and high - low >= FLAT_MV and max(-low, high) <= LARGEST_MV)

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
        """Drop what no question about `stop` or later needs."""
        if len(self._usable) <= 2 * self._pieces:
            return
        del self._usable[: max(0, self._index(stop) - self._pieces)]

    def _index(self, stop: int) -> int:
        """How many of the kept pieces end at or before `stop`."""
        self._judge()
        dropped = self._seen - len(self._usable)
        return (stop - (self._start or 0)) // self._piece - dropped
