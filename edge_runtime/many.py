"""The stages of one pipeline for many streams at a time: conditioned hops, one trunk call, beats, one head call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np

from edge_runtime.assemble import TRUNK
from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.preprocess_many import HopConditioner
from edge_runtime.contract.rows import Rows, rows_of
from edge_runtime.contract.signal import Reading
from edge_runtime.slots import Model, has_same_head, refuse_other_contract
from edge_runtime.vitals.many_beats import DueBeats, ManyBeats
from edge_runtime.vitals.many_quality import ManyQualities
from edge_runtime.vitals.many_support import ManySupports

LOOK_BACK_S = 3.0
# Streams of one sampling rate whose next hop is whole.
DueHops: TypeAlias = "tuple[HopConditioner, Rows]"


class ManyStreams:
    """Stages of streams that each own a slot; readings are those that a pipeline of its own would give each.

    `enter` a slot for a patient, `begin` a segment, `put` samples into its lane, `run` hops that are due, `interrupt`
    at the segment's end, `leave`.
    """

    def __init__(self, model: Model, n_slots: int) -> None:
        m = model.manifest
        self._take(model)
        self._n_slots, self._hop = n_slots, m.hop_samples
        self._lanes: dict[float, HopConditioner] = {}
        self._lane_of: list[HopConditioner | None] = [None] * n_slots
        n_outputs, n_frames = m.graph(TRUNK).outputs[0].shape[-1], m.hop_samples // m.timing.stride
        self._beats = ManyBeats(m.timing, m.detection_threshold, n_frames, n_outputs - 1, n_slots)
        self._quality = ManyQualities(m.conditioning.rate_hz, m.hop_samples, n_slots)
        # For a model that takes over, and for what a beat's decision asks of the signal before it.
        kept = max(m.receptive_field_samples, round(LOOK_BACK_S * m.conditioning.rate_hz))
        self._history = np.zeros((n_slots, -(-kept // self._hop), self._hop), np.float32)
        keep = 1.0 - Conditioner(m.conditioning, m.rate_hz).alpha
        self._support = ManySupports(m.rate_hz, keep, self._history.reshape(n_slots, -1))
        self._n_hops = np.zeros(n_slots, np.int64)  # since the segment began
        self._begin = np.zeros(n_slots, np.int64)  # counter of the segment's first conditioned sample
        self._to_source = np.ones((n_slots, 3))  # source samples in the time of model samples; source rate in Hz
        self.t_ns = np.zeros(n_slots, np.int64)  # time of arrival of the newest sample

    def enter(self, slot: int, rate_hz: float) -> None:
        """A new patient, at this source rate."""
        if rate_hz not in self._lanes:
            m = self.model.manifest
            self._lanes[rate_hz] = HopConditioner(m.conditioning, rate_hz, self._hop, self._n_slots)
        lane = self._lane_of[slot] = self._lanes[rate_hz]
        up, down = lane.grid.ratio
        self._to_source[slot] = down, up, rate_hz
        self._beats.begin(slot)
        self._support.begin(slot)
        self.model.head.reset(slot)

    def leave(self, slot: int) -> None:
        """The slot is free."""
        self.lane(slot).end(slot)
        self._beats.interrupt(slot)
        self._lane_of[slot] = None

    def lane(self, slot: int) -> HopConditioner:
        """The conditioning that the slot shares with others of its rate."""
        lane = self._lane_of[slot]
        if lane is None:
            raise ValueError(f"slot {slot} has no stream")
        return lane

    def begin(self, slot: int, start: int, first: float) -> None:
        """A segment begins with a source sample."""
        lane = self.lane(slot)
        lane.begin(slot, start, first)
        self._begin[slot] = lane.next_out(rows_of([slot]))[0]
        self._quality.begin(slot)
        self.model.trunk.reset(slot)
        self._n_hops[slot] = 0

    def interrupt(self, slot: int) -> None:
        """The segment is over: forget the unfinished past, not the patient."""
        self.lane(slot).end(slot)
        self._beats.interrupt(slot)

    def scored_to(self, slot: int, start: int, stop: int) -> int:
        """Source counter below which a segment start ... stop went through the model."""
        if self._n_hops[slot] == 0:
            return start
        lane = self.lane(slot)
        return min(lane.grid.source_samples_before(int(lane.next_out(rows_of([slot]))[0])), stop)

    def due(self) -> list[DueHops]:
        """Who holds a whole hop."""
        return [(lane, rows) for lane in self._lanes.values() if len(rows := lane.due())]

    def run(self, due: Sequence[DueHops]) -> list[tuple[int, Reading]]:
        """One hop of each; the readings that they make possible, each with its slot."""
        starts = [lane.next_out(rows) for lane, rows in due]
        hops = [lane.take(rows) for lane, rows in due]
        if len(due) == 1:
            rows, first, x = due[0][1], starts[0], hops[0]
        else:
            rows = rows_of(np.concatenate([rows.slots for _, rows in due]))
            first, x = np.concatenate(starts), np.concatenate(hops)
        self._quality.watch(rows, x)
        n_hops = self._n_hops.take(rows.slots)
        self._history[rows.slots, n_hops % self._history.shape[1]] = x
        self._n_hops[rows.at] = n_hops + 1
        scores = self.model.trunk.step(rows, [x]).reshape(len(rows), -1, self._n_outputs)
        return self._readings(self._beats.feed(rows, first, scores, self.model))

    def swap(self, model: Model) -> None:
        """Go on with another bundle from the next hop of every stream; raises BundleError if its contract differs.

        Its trunk first runs over the hops that its receptive field covers, so its state is as if it had always run.
        If the heads are the same, the memory over beats is kept and beats that wait for their decision are decided by
        the new one; if not, that memory starts anew and beats found before the boundary are decided by the old one.
        """
        n_past = self._history.shape[1]
        refuse_other_contract(self.model.manifest, model.manifest, n_past * self._hop)
        if has_same_head(self.model, model):
            model.head.copy_state(self.model.head)
            self._beats.hand_over(model)
        for back in range(n_past, 0, -1):
            slots = np.flatnonzero(self._n_hops >= back)
            if len(slots):
                model.trunk.step(rows_of(slots), [self._history[slots, (self._n_hops[slots] - back) % n_past]])
        self._take(model)

    def _take(self, model: Model) -> None:
        self.model = model
        self._n_outputs = model.manifest.graph(TRUNK).outputs[0].shape[-1]

    def _readings(self, due: Sequence[DueBeats]) -> list[tuple[int, Reading]]:
        out: list[tuple[int, Reading]] = []
        for beats in due:
            slots = beats.slots
            head = cast(Model, beats.model).head
            probabilities = head.step(Rows(slots, slots), [beats.embeddings, beats.rhythms])
            labels, confidences = (
                probabilities.argmax(axis=1).tolist(),
                np.maximum.reduce(probabilities, axis=1).tolist(),
            )
            at = np.rint(beats.positions).astype(np.int64)
            begin = self._begin.take(slots)
            at, seen = at - begin, beats.seen - begin
            is_broken, qualities = self._quality.judge(slots, at, seen)
            is_known = self._support.holds(slots, at, seen) & ~is_broken
            down, up, rates = self._to_source[slots].T
            samples = np.maximum(np.floor(beats.positions * down / up + 0.5), 0.0)
            names = self.model.manifest.classes
            for slot, sample, t_s, known, label, confidence, quality, t_ns in zip(
                slots.tolist(),
                samples.astype(np.int64).tolist(),
                (samples / rates).tolist(),
                is_known.tolist(),
                labels,
                confidences,
                qualities.tolist(),
                self.t_ns[slots].tolist(),
                strict=True,
            ):
                reading = Reading(
                    name="beat",
                    sample=sample,
                    t_s=t_s,
                    value=names[label] if known else None,
                    confidence=confidence if known else None,
                    quality=quality if known else 0.0,
                    t_ns=t_ns,
                )
                out.append((slot, reading))
        return out
