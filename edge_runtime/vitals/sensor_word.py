"""What the sensor itself says of its signal reaches the readings."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_runtime.contract.signal import Block, Float32Array, Reading

LEAST_QUALITY = 0.25
LATEST_S = 5.0  # a reading may speak of samples so much older than the newest
APART_S = 0.16  # no heart beats again so soon


class SensorWord:
    """Stage: a source's blocks in; readings get no better quality than the sensor gave the signal they rest on.

    Where the sensor calls that signal bad, a reading has no value. Blocks without a word about quality say nothing.

    span_s  how far a reading looks back
    """

    def __init__(self, rate_hz: float, span_s: float) -> None:
        self._span = max(1, round(span_s * rate_hz))
        self._kept = self._span + round(LATEST_S * rate_hz)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._parts: deque[tuple[int, Float32Array]] = deque()  # counter of the first sample, quality 0 to 1

    def watch(self, block: Block) -> None:
        """Take in what a block says, if anything; what no coming reading rests on is dropped."""
        quality: Float32Array | None = getattr(block, "quality", None)
        if quality is None:
            return
        while self._parts and self._parts[0][0] + len(self._parts[0][1]) < block.start - self._kept:
            self._parts.popleft()
        self._parts.append((block.start, np.array(quality, np.float32)))

    def judged(self, readings: Sequence[Reading]) -> list[Reading]:
        """Readings as far as the sensor supports them."""
        return [self._one(r) for r in readings] if self._parts else list(readings)

    def _one(self, reading: Reading) -> Reading:
        begin, end = reading.sample + 1 - self._span, reading.sample + 1
        said = [q[max(0, begin - at) : max(0, end - at)] for at, q in self._parts]
        known = np.concatenate(said) if said else np.zeros(0, np.float32)
        if len(known) == 0:
            return reading
        word = float(known.mean())
        quality = word if reading.quality is None else min(word, reading.quality)
        if word < LEAST_QUALITY:
            return replace(reading, value=None, confidence=None, quality=quality)
        return replace(reading, quality=quality)


class BeatWord(SensorWord):
    """The same of beats, each of which is said once.

    Filters and model start afresh behind a gap, so a complex beside a short gap may be found on both of its sides.
    """

    def __init__(self, rate_hz: float, span_s: float) -> None:
        self._apart = round(APART_S * rate_hz) - 1  # positions are rounded
        super().__init__(rate_hz, span_s)

    def reset(self) -> None:
        """Forget the stream."""
        super().reset()
        self._newest: int | None = None

    def judged(self, readings: Sequence[Reading]) -> list[Reading]:
        """Beats that were not said before, as far as the sensor supports them."""
        new = []
        for reading in readings:
            if self._newest is None or reading.sample - self._newest >= self._apart:
                self._newest = reading.sample
                new.append(reading)
        return super().judged(new)
