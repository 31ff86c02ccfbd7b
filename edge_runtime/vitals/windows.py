"""Logits of a window -> a reading: a class or a number with confidence and quality, in the source's own samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge_runtime.contract.signal import Block, Frames, Reading
from edge_runtime.contract.window import Window

LEAST_QUALITY = 0.5


class WindowReader:
    """Stage: frames of one window each in, one reading each out; its position is the window's last sample.

    A window that is mostly flat or out of range has no value, whatever the model says. Where missing values go into
    the graph, how much may be missing is the model's to say.

    source_sample_at  newest source counter at or before a position at the model's rate
    """

    def __init__(
        self,
        window: Window,
        classes: Sequence[str],
        source_sample_at: Callable[[int], int],
        source_rate_hz: float,
    ) -> None:
        self._w, self._classes = window, tuple(classes)
        self._source_sample_at, self._source_rate_hz = source_sample_at, source_rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._kept = np.zeros((0, len(self._w.channels)), np.float32)
        self._start = 0

    def interrupt(self) -> None:
        """Forget the unfinished past; nothing else is remembered."""
        self.reset()

    def watch(self, block: Block) -> None:
        """Keep the samples that coming windows are made of."""
        if len(self._kept) == 0:
            self._start = block.start
        self._kept = np.concatenate((self._kept, block.samples))

    def feed(self, frames: Frames) -> list[Reading]:
        """The reading of a window; what lies before it is forgotten."""
        self._kept = self._kept[frames.start - self._start :]
        self._start = frames.start
        value, confidence = self._w.read(frames.scores[0], self._classes)
        quality = self._w.quality(self._kept[: self._w.window_samples])
        if quality < LEAST_QUALITY and self._w.missing == "refused":
            value = None
        sample = self._source_sample_at(frames.start + self._w.window_samples - 1)
        return [
            Reading(
                name=self._w.reading,
                sample=sample,
                t_s=sample / self._source_rate_hz,
                value=value,
                confidence=confidence,
                quality=quality,
                t_ns=frames.t_ns,
            )
        ]
