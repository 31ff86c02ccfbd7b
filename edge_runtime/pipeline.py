"""The one loop: samples in, readings out; keeps the ledger and knows no concrete stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.errors import NotNumbers, SourceError
from edge_runtime.contract.signal import Block, Frames, Ledger, Reading

MAX_MISSING_SHARE = 0.5
MISSING_CHECK_S = 10.0


class Condition(Protocol):
    """Source's samples -> the model's samples."""

    def feed(self, block: Block) -> list[Block]:
        """Condition one block; raises NotNumbers, and takes nothing, if it holds samples that cannot be taken."""

    def finish(self, seconds: float) -> list[Block]:
        """Go on with the last value."""

    def reset(self) -> None:
        """Forget the stream."""

    def source_position(self, out_sample: float) -> int:
        """Source counter nearest to an output sample."""

    def source_samples_before(self, out_sample: int) -> int:
        """Source counter below which all samples lie before an output sample."""


class Score(Protocol):
    """The model's samples -> scores per frame."""

    def feed(self, block: Block) -> list[Frames]:
        """Score whole hops."""

    def reset(self) -> None:
        """Forget the stream."""


class Read(Protocol):
    """Scores -> readings, positions in the model's samples turned into the source's by the caller's function."""

    def watch(self, block: Block) -> None:
        """See the conditioned signal before its scores come."""

    def feed(self, frames: Frames) -> list[Reading]:
        """Readings that can be given now."""

    def interrupt(self) -> None:
        """Forget the unfinished past, not the patient."""

    def reset(self) -> None:
        """Forget the stream and the patient."""


class Word(Protocol):
    """What the source says of its own signal."""

    def watch(self, block: Block) -> None:
        """See a block of the source."""

    def judged(self, readings: Sequence[Reading]) -> list[Reading]:
        """Readings as far as the source's word supports them."""

    def reset(self) -> None:
        """Forget the stream."""


class Pipeline:
    """Samples of one stream -> readings.

    A jump of the counter, or a sample that is not a number, ends a segment: what was waiting for look-ahead is
    decided with the last value held, short-term state starts afresh, and the ledger says what was lost.

    row_samples     that one row of scores speaks of, at the model's rate
    delay_s         look-ahead of the whole chain, which `finish` must provide
    takes_missing   NaN goes to the model; only infinite samples end a segment
    word            what the source says of its signal, if anything
    on_frames       called after each model step and its readings (measurements hang here)
    """

    def __init__(
        self,
        condition: Condition,
        score: Score,
        read: Read,
        *,
        rate_hz: float,
        channels: tuple[str, ...],
        row_samples: int,
        delay_s: float,
        takes_missing: bool = False,
        word: Word | None = None,
        on_frames: Callable[[Frames, Sequence[Reading]], None] | None = None,
    ) -> None:
        self._condition, self._score, self._read = condition, score, read
        self._rate_hz, self._row, self._delay_s, self._takes_missing = rate_hz, row_samples, delay_s, takes_missing
        self._n_channels = len(channels)
        self._stream = f"channel{'s' * (len(channels) > 1)} {', '.join(channels)}"
        self._word, self._on_frames = word, on_frames
        self.reset()

    def reset(self) -> None:
        """Forget stream, patient and ledger."""
        for stage in (self._condition, self._score, self._read):
            stage.reset()
        if self._word is not None:
            self._word.reset()
        self.ledger = Ledger()
        self._next: int | None = None
        self._missing = 0
        self._segment_start: int | None = None
        self._segment_stop = 0
        self._scored_rows_stop: int | None = None  # in the model's samples

    def feed(self, block: Block) -> list[Reading]:
        """Readings that this block makes possible.

        Raises SourceError for a block that goes back in time or has other channels than the stream, and for a stream
        that is mostly not numbers.
        """
        n, width = block.samples.shape
        if n == 0:
            return []
        if width != self._n_channels:
            raise SourceError(f"{self._stream}: a block has {width} columns; {self._n_channels} wanted")
        readings: list[Reading] = []
        if self._next is not None and block.start != self._next:
            if block.start < self._next:
                raise SourceError(f"{self._stream}: sample counter goes back from {self._next} to {block.start}")
            readings += self._end_segment()
            self.ledger.gap += block.start - self._next
            self.ledger.received += block.start - self._next
        self._next = block.start + n
        self.ledger.received += n
        if self._word is not None:
            self._word.watch(block)
        try:
            conditioned = self._condition.feed(block)
        except NotNumbers:
            self._feed_parts(block, readings)
        else:
            self._take(block, conditioned, readings)
        return readings

    def _feed_parts(self, block: Block, readings: list[Reading]) -> None:
        """Feed what is usable of a block that cannot be taken whole."""
        is_number = ~np.isinf(block.samples) if self._takes_missing else np.isfinite(block.samples)
        is_usable: NDArray[np.bool_] = np.all(is_number, axis=1)
        for part in _usable_runs(block, is_usable):
            if part is None:
                readings += self._end_segment()
            else:
                self._take(part, self._condition.feed(part), readings)
        missing = int(np.count_nonzero(~is_usable))
        self.ledger.dropped += missing
        self._missing += missing
        self._refuse_missing()

    def so_far(self) -> Ledger:
        """The ledger as if the stream ended now; it balances."""
        now = replace(self.ledger)
        self._count_segment(now)
        return now

    def finish(self) -> list[Reading]:
        """The stream ends here: decide what still waits for look-ahead."""
        return self._end_segment()

    def _take(self, block: Block, conditioned: list[Block], readings: list[Reading]) -> None:
        if self._segment_start is None:
            self._segment_start = block.start
        self._segment_stop = block.start + len(block.samples)
        self._run(conditioned, readings)

    def _run(self, blocks: list[Block], readings: list[Reading]) -> None:
        for conditioned in blocks:
            self._read.watch(conditioned)
            for frames in self._score.feed(conditioned):
                new = self._read.feed(frames)
                if new:
                    new = [r for r in new if r.sample < self._segment_stop]
                    if self._word is not None:
                        new = self._word.judged(new)
                    readings += new
                if self._on_frames is not None:
                    self._on_frames(frames, new)
                self._scored_rows_stop = frames.start + len(frames.scores) * self._row

    def _end_segment(self) -> list[Reading]:
        if self._segment_start is None:
            return []
        readings: list[Reading] = []
        # The last value held for the chain's look-ahead.
        self._run(self._condition.finish(self._delay_s), readings)
        self._count_segment(self.ledger)
        self._condition.reset()
        self._score.reset()
        self._read.interrupt()
        self._segment_start = self._scored_rows_stop = None
        return readings

    def _count_segment(self, ledger: Ledger) -> None:
        """Add the present segment's positions."""
        if self._segment_start is None:
            return
        begin, stop, scored_to = self._segment_start, self._segment_stop, self._segment_start
        if self._scored_rows_stop is not None:
            scored_to = max(begin, min(self._condition.source_samples_before(self._scored_rows_stop), stop))
        ledger.scored += scored_to - begin
        ledger.dropped += stop - scored_to

    def _refuse_missing(self) -> None:
        n, bad = self.ledger.received - self.ledger.gap, self._missing
        if n >= MISSING_CHECK_S * self._rate_hz and bad > MAX_MISSING_SHARE * n:
            raise SourceError(
                f"{self._stream}: {bad} of {n} samples are not numbers; at most "
                f"{MAX_MISSING_SHARE:.0%} may be; check the sensor's contact and the channel's name"
            )


def _usable_runs(block: Block, is_usable: NDArray[np.bool_]) -> list[Block | None]:
    """The block cut at samples that are not usable, bool (n,); None stands for each such stretch."""
    if is_usable.all():
        return [block]
    edges = np.flatnonzero(np.diff(is_usable)) + 1
    parts: list[Block | None] = []
    for start, stop in zip([0, *edges], [*edges, len(is_usable)], strict=True):
        if is_usable[start]:
            samples = block.samples[start:stop]
            parts.append(Block(start=block.start + int(start), samples=samples, t_ns=block.t_ns))
        else:
            parts.append(None)
    return parts
