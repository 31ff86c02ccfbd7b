"""Scores of many streams -> beats: `BeatPicker`'s rules, a hop of each stream at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.rhythm import RhythmContext
from edge_runtime.contract.rows import Rows
from edge_runtime.contract.signal import Float32Array

NEVER = np.iinfo(np.int64).max // 4


# Frame of the R peak, its position in samples of the model's rate (fractional), its embedding, and the model that
# scored it and is to classify it.
Pending: TypeAlias = "tuple[int, float, Float32Array, object]"


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
        self._span = np.arange(2 * timing.neighbour_frames + 1)
        self._logit = float(np.log(threshold / (1.0 - threshold)))
        # Infinity is no peak and lets none be found beside it: the first frames of a segment find nothing.
        self._recent = np.full((n_slots, len(self._span) - 1), np.inf)
        self._next_decision = np.full(n_slots, NEVER)
        self._waiting: list[list[Pending] | None] = [None] * n_slots
        self._rhythm: list[RhythmContext | None] = [None] * n_slots

    def begin(self, slot: int) -> None:
        """A new patient."""
        self._rhythm[slot], self._waiting[slot] = RhythmContext(self._timing.look_ahead_s), []
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

    def hand_over(self, model: object) -> None:
        """Beats that wait for their decision are classified by this model instead of the one that found them."""
        for waiting in self._waiting:
            if waiting:
                waiting[:] = [(frame, position, embedding, model) for frame, position, embedding, _ in waiting]

    def feed(self, rows: Rows, starts: NDArray[np.int64], scores: Float32Array, model: object) -> list[Due]:
        """Beats to decide, in each stream in order of time.

        starts  counters of the hops' first samples; scores float32 (n_slots, frames, 1 + embedding)
        """
        stride, n_frames = self._timing.stride, scores.shape[1]
        recent = np.concatenate((self._recent[rows.at], scores[:, :, 0]), axis=1)
        self._recent[rows.at] = recent[:, n_frames:]
        first = starts // stride
        found = self._find(recent, n_frames)
        is_due = self._next_decision[rows.at] < first + n_frames
        if found is None:
            busy = np.flatnonzero(is_due)
            at, frames, shifts, embeddings = [], [], [], scores[:0, 0, 1:]
        else:
            where, which, shift = found
            is_due[where] = True
            busy = np.flatnonzero(is_due)
            at, frames, shifts = where.tolist(), which.tolist(), shift.tolist()
            embeddings = scores[where, which, 1:]
        out: list[Due] = []
        i, n_found = 0, len(at)
        for row, slot, start in zip(busy.tolist(), rows.slots[busy].tolist(), starts[busy].tolist(), strict=True):
            waiting, rhythm = self._waiting[slot], self._rhythm[slot]
            if waiting is None or rhythm is None:
                raise ValueError(f"slot {slot} has no stream")
            # A segment may begin at any sample, so its frames need not lie on multiples of the stride.
            now, offset = divmod(start, stride)
            while i < n_found and at[i] == row:
                # What happens first is done first: a detection before its own frame's decisions.
                if waiting:
                    self._decide_before(slot, waiting, rhythm, now + frames[i], offset, out)
                frame = now + frames[i] - self._timing.embed_frames
                position = self._timing.sample_of(frame + shifts[i]) + offset
                waiting.append((frame, position, embeddings[i], model))
                i += 1
            self._decide_before(slot, waiting, rhythm, now + n_frames, offset, out)
            self._next_decision[slot] = waiting[0][0] + self._timing.decide_frames if waiting else NEVER
        return out

    def _find(
        self, recent: NDArray[np.float64], n_frames: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]] | None:
        """Rows, frames and shifts (in frames, at most half of one) of the peaks that are certain now."""
        middle = self._timing.neighbour_frames
        rows, frames = np.nonzero(recent[:, middle : middle + n_frames] >= self._logit)
        if len(rows) == 0:
            return None
        around = recent[rows[:, None], frames[:, None] + self._span]
        peak = around[:, middle]
        # On a plateau the first frame is the peak.
        is_peak = (around[:, :middle].max(axis=1) < peak) & (around[:, middle + 1 :].max(axis=1) <= peak)
        rows, frames = rows[is_peak], frames[is_peak]
        if len(rows) == 0:
            return None
        before, peak, after = around[is_peak, middle - 1 : middle + 2].T
        curvature = before - 2.0 * peak + after
        shift = 0.5 * (before - after) / np.where(curvature < 0, curvature, np.inf)
        return rows, frames, np.clip(shift, -0.5, 0.5)

    def _decide_before(
        self, slot: int, waiting: list[Pending], rhythm: RhythmContext, frame: int, offset: int, out: list[Due]
    ) -> None:
        timing = self._timing
        while waiting and waiting[0][0] + timing.decide_frames < frame:
            peak, position, embedding, model = waiting.pop(0)
            following = None
            if waiting and waiting[0][1] - position < timing.look_ahead_s * timing.rate_hz:
                following = waiting[0][1] / timing.rate_hz
            seen = (peak + timing.decide_frames + 1) * timing.stride + offset
            out.append(
                Due(slot, position, seen, embedding, rhythm.features(position / timing.rate_hz, following), model)
            )
