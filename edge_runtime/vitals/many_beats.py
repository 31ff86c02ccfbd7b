"""Scores of many streams -> beats: `BeatPicker`'s rules, a hop of each stream at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.rhythm import RhythmContext
from edge_runtime.contract.signal import Float32Array

Slots = NDArray[np.intp]
NEVER = np.iinfo(np.int64).max // 4


@dataclass(slots=True)
class Pending:
    """A beat that was found and waits for its decision.

    frame      of the R peak, counted from the segment's offset
    position   of the R peak in samples of the model's rate, fractional
    model      which scored it: it is classified by the same
    """

    frame: int
    position: float
    embedding: Float32Array
    model: object


@dataclass(slots=True)
class Due:
    """A beat that is decided now: what the head needs to classify it.

    seen  counter below which samples were seen when it was decided
    """

    slot: int
    position: float
    seen: int
    embedding: Float32Array
    rhythm: list[float]
    model: object


class ManyBeats:
    """Stage of many streams, each in a slot: finds beats in a hop's scores and decides those whose time has come.

    Column 0 of the scores is the detection logit, the other columns are the embedding.
    """

    def __init__(self, timing: BeatTiming, threshold: float, n_slots: int) -> None:
        self._timing = timing
        self._middle, self._span = timing.neighbour_frames, 2 * timing.neighbour_frames + 1
        self._logit = float(np.log(threshold / (1.0 - threshold)))
        # Infinity is no peak and lets none be found beside it: the first frames of a segment find nothing.
        self._recent = np.full((n_slots, self._span - 1), np.inf)
        self._next_decision = np.full(n_slots, NEVER)
        self._waiting: list[deque[Pending] | None] = [None] * n_slots
        self._rhythm: list[RhythmContext | None] = [None] * n_slots

    def begin(self, slot: int) -> None:
        """A new patient."""
        self._rhythm[slot], self._waiting[slot] = RhythmContext(self._timing.look_ahead_s), deque()
        self.interrupt(slot)

    def end(self, slot: int) -> None:
        """The slot is free."""
        self._rhythm[slot] = self._waiting[slot] = None
        self._next_decision[slot] = NEVER

    def interrupt(self, slot: int) -> None:
        """Forget the unfinished past, not the patient: what follows is not adjacent to what came before."""
        rhythm, waiting = self._rhythm[slot], self._waiting[slot]
        if rhythm is not None and waiting is not None:
            rhythm.interrupt()
            waiting.clear()
        self._recent[slot] = np.inf
        self._next_decision[slot] = NEVER

    def feed(self, slots: Slots, starts: NDArray[np.int64], scores: Float32Array, model: object) -> list[Due]:
        """Beats to decide, in each stream in order of time.

        starts  counters of the hops' first samples; scores float32 (n_slots, frames, 1 + embedding)
        """
        n_frames = scores.shape[1]
        recent = np.concatenate((self._recent[slots], scores[:, :, 0]), axis=1)
        self._recent[slots] = recent[:, n_frames:]
        middle = self._middle
        rows, frames = np.nonzero(recent[:, middle : middle + n_frames] >= self._logit)
        first = starts // self._timing.stride
        is_due = self._next_decision[slots] < first + n_frames
        found: dict[int, list[tuple[int, list[float]]]] = {}
        if len(rows):
            around = sliding_window_view(recent, self._span, axis=1)[rows, frames]
            peak = around[:, middle]
            # On a plateau the first frame is the peak.
            is_peak = (around[:, :middle].max(axis=1) < peak) & (around[:, middle + 1 :].max(axis=1) <= peak)
            for i in np.flatnonzero(is_peak).tolist():
                found.setdefault(int(rows[i]), []).append((int(frames[i]), around[i, middle - 1 : middle + 2].tolist()))
        busy = set(np.flatnonzero(is_due).tolist()).union(found)
        out: list[Due] = []
        for row in sorted(busy):
            self._advance(int(slots[row]), int(starts[row]), n_frames, found.get(row, ()), scores[row], model, out)
        return out

    def _advance(
        self,
        slot: int,
        start: int,
        n_frames: int,
        found: list[tuple[int, list[float]]] | tuple[()],
        scores: Float32Array,
        model: object,
        out: list[Due],
    ) -> None:
        """What happens in one stream's hop, in order of frames: first a frame's detection, then its decisions."""
        timing, waiting = self._timing, self._waiting[slot]
        if waiting is None:
            return
        # A segment may begin at any sample, so its frames need not lie on multiples of the stride.
        first, offset = divmod(start, timing.stride)
        for i, (before, peak, after) in found:
            self._decide_before(slot, waiting, first + i, offset, out)
            curvature = before - 2.0 * peak + after
            shift = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
            frame = first + i - timing.embed_frames
            position = timing.sample_of(frame + min(max(shift, -0.5), 0.5)) + offset
            waiting.append(Pending(frame, position, scores[i, 1:].copy(), model))
        self._decide_before(slot, waiting, first + n_frames, offset, out)
        self._next_decision[slot] = waiting[0].frame + timing.decide_frames if waiting else NEVER

    def _decide_before(self, slot: int, waiting: deque[Pending], frame: int, offset: int, out: list[Due]) -> None:
        timing, rhythm = self._timing, self._rhythm[slot]
        while rhythm is not None and waiting and waiting[0].frame + timing.decide_frames < frame:
            beat = waiting.popleft()
            following = None
            if waiting and waiting[0].position - beat.position < timing.look_ahead_s * timing.rate_hz:
                following = waiting[0].position / timing.rate_hz
            seen = (beat.frame + timing.decide_frames + 1) * timing.stride + offset
            features = rhythm.features(beat.position / timing.rate_hz, following)
            out.append(Due(slot, beat.position, seen, beat.embedding, features, beat.model))
