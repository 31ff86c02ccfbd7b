"""Scores of many streams -> beats: `BeatPicker`'s rules, a hop of each stream at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.rows import Rows, Slots
from edge_runtime.contract.signal import Float32Array, Float64Array
from edge_runtime.vitals.many_rhythm import ManyRhythms


class DueBeats(NamedTuple):
    """A beat of each of some distinct slots that is decided now: what the head needs to classify it.

    positions   of the R peaks in samples of the model's rate, fractional
    seen        counters below which samples were seen when they were decided
    model       that scored them and is to classify them
    """

    slots: Slots
    positions: Float64Array
    seen: NDArray[np.int64]
    embeddings: Float32Array
    rhythms: Float64Array
    model: object


class ManyBeats:
    """Stage of many streams, each in a slot: finds beats in a hop's scores and decides those whose time has come.

    Column 0 of the scores is the detection logit, the other columns are the embedding. Beats of a slot that wait for
    their decision lie in a ring of `places`; an empty place is infinite. Frames are named by the counter of
    their first sample, as a segment may begin at any.
    """

    def __init__(self, timing: BeatTiming, threshold: float, hop_frames: int, n_embedding: int, n_slots: int) -> None:
        self._n_frames, self._stride, self._middle = hop_frames, timing.stride, timing.neighbour_frames
        self._hop, self._rate_hz = hop_frames * timing.stride, timing.rate_hz
        self._embed, self._decide = timing.embed_frames * timing.stride, timing.decide_frames * timing.stride
        self._logit = _least_float32(float(np.log(threshold / (1.0 - threshold))))
        apart = timing.neighbour_frames + 1  # frames between two peaks, at least
        self._has_one_a_hop = hop_frames <= apart
        ahead = timing.decide_frames - timing.embed_frames
        self._places = places = -(-ahead // apart) + -(-hop_frames // apart) + 1
        span = 2 * timing.neighbour_frames
        self._recent = np.zeros((n_slots, span + hop_frames), np.float32)
        row, element = self._recent.strides
        self._around = as_strided(self._recent, (n_slots, hop_frames, span + 1), (row, element, element))
        self._waiting = np.full((n_slots * places, 3), np.inf)  # frame, position, which of the models found it
        self._embedding = np.zeros((n_slots * places, n_embedding), np.float32)
        self._models: list[object] = []
        self._first = np.zeros(n_slots, np.int64)  # place of the oldest that waits
        self._free = np.zeros(n_slots, np.int64)  # place of the next
        # The place behind each, in its slot's ring.
        self._after = np.roll(np.arange(n_slots * places).reshape(n_slots, places), -1, axis=1).reshape(-1)
        self._next_decision = np.full(n_slots, np.inf)  # frame
        self._rhythms = ManyRhythms(timing.look_ahead_s, n_slots)

    def begin(self, slot: int) -> None:
        """A new patient."""
        self._rhythms.begin(slot)
        self.interrupt(slot)

    def interrupt(self, slot: int) -> None:
        """Forget the unfinished past, not the patient: what follows is not adjacent to what came before."""
        self._rhythms.interrupt(slot)
        # Infinity is no peak and lets none be found beside it: the first frames of a segment find nothing.
        self._recent[slot] = np.inf
        first = slot * self._places
        self._waiting[first : first + self._places] = np.inf
        self._first[slot] = self._free[slot] = first
        self._next_decision[slot] = np.inf

    def hand_over(self, model: object) -> None:
        """Beats that wait for their decision are classified by this model instead of the one that found them."""
        self._models = [model]
        self._waiting[np.isfinite(self._waiting[:, 2]), 2] = 0.0

    def feed(self, rows: Rows, starts: NDArray[np.int64], scores: Float32Array, model: object) -> list[DueBeats]:
        """Beats to decide, in each stream in order of time.

        starts  counters of the hops' first samples; scores float32 (n_slots, frames, 1 + embedding)
        """
        self._detect(rows, starts, scores, self._number_of(model))
        out: list[DueBeats] = []
        while True:
            due = (self._next_decision[rows.at] < starts + self._hop).nonzero()[0]
            if len(due) == 0:
                return out
            out += self._decided(rows.slots.take(due))
            if self._has_one_a_hop:
                return out

    def _detect(self, rows: Rows, starts: NDArray[np.int64], scores: Float32Array, model: int) -> None:
        """Note the peaks that are certain with these scores."""
        recent, middle = self._recent[rows.at], self._middle
        recent[:, : 2 * middle] = recent[:, self._n_frames :]
        recent[:, 2 * middle :] = scores[:, :, 0]
        if not isinstance(rows.at, slice):
            self._recent[rows.at] = recent
        at, frames = (recent[:, middle : middle + self._n_frames] >= self._logit).nonzero()
        if len(at) == 0:
            return
        around = self._around[rows.slots.take(at), frames]
        peaks = (around.argmax(axis=1) == middle).nonzero()[0]  # on a plateau the first frame is the peak
        if len(peaks) == 0:
            return
        at, frames = at.take(peaks), frames.take(peaks)
        found = np.empty((len(at), 3))
        found[:, 0] = frame = starts.take(at) + (frames * self._stride - self._embed)
        before, peak, after = around.take(peaks, axis=0)[:, middle - 1 : middle + 2].T.astype(np.float64)
        shift = (before - after) * (0.5 * self._stride)
        shift /= before - 2.0 * peak + after
        np.add(frame + (self._stride - 1), shift, out=found[:, 1])
        found[:, 2] = model
        embeddings = scores[at, frames, 1:]
        for some in _distinct(at, self._has_one_a_hop):
            slots = rows.slots.take(at[some])
            place = self._free.take(slots)
            self._waiting[place], self._embedding[place] = found[some], embeddings[some]
            self._free[slots] = self._after.take(place)
            next_decision = np.minimum(self._next_decision.take(slots), frame[some] + self._decide)
            self._next_decision[slots] = next_decision

    def _decided(self, slots: Slots) -> list[DueBeats]:
        """The oldest beat that waits in each of these slots, taken out; one group a model."""
        place = self._first.take(slots)
        frame, position, found_by = self._waiting.take(place, axis=0).T
        embeddings = self._embedding.take(place, axis=0)
        self._waiting[place] = np.inf
        self._first[slots] = following = self._after.take(place)
        next_frame, next_position, _ = self._waiting.take(following, axis=0).T
        self._next_decision[slots] = next_frame + self._decide
        # A beat that was found later than this decision lies beyond the look-ahead, so to have none is the same.
        rhythms = self._rhythms.features(slots, position / self._rate_hz, next_position / self._rate_hz)
        seen = (frame + (self._decide + self._stride)).astype(np.int64)
        if len(self._models) == 1:
            return [DueBeats(slots, position, seen, embeddings, rhythms, self._models[0])]
        groups = [
            DueBeats(slots[i], position[i], seen[i], embeddings[i], rhythms[i], model)
            for n, model in enumerate(self._models)
            if len(i := (found_by == n).nonzero()[0])
        ]
        if (self._waiting[np.isfinite(self._waiting[:, 0]), 2] == len(self._models) - 1).all():
            self.hand_over(self._models[-1])  # those before are done with, and forgotten
        return groups

    def _number_of(self, model: object) -> int:
        """Which of the models this one is."""
        if not self._models or self._models[-1] is not model:
            self._models.append(model)
        return len(self._models) - 1


def _distinct(at: NDArray[np.intp], is_distinct: bool) -> list[NDArray[np.intp] | slice]:
    """The elements of a sorted array in groups without repetition, in order."""
    if is_distinct or (at[1:] > at[:-1]).all():
        return [slice(None)]
    nth = np.arange(len(at)) - np.searchsorted(at, at)
    return [(nth == n).nonzero()[0] for n in range(int(nth.max()) + 1)]


def _least_float32(value: float) -> np.float32:
    """The smallest float32 that is not below a number."""
    rounded = np.float32(value)
    return rounded if float(rounded) >= value else np.nextafter(rounded, np.float32(np.inf))
