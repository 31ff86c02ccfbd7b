"""Many wearables in one process: each stream with its own state, steps that are due together in one engine call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edge_runtime.assemble import TRUNK
from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.preprocess_many import HopConditioner
from edge_runtime.contract.signal import Block, Ledger, Reading, StreamSpec
from edge_runtime.inbox import End, Inbox, Item, Lost
from edge_runtime.pipeline import MAX_MISSING_SHARE, MISSING_CHECK_S
from edge_runtime.slots import Model, has_same_head, refuse_other_contract
from edge_runtime.vitals.many_beats import Due, ManyBeats
from edge_runtime.vitals.many_quality import ManyQualities

Slots = NDArray[np.intp]

QUEUE_S = 4.0
DEADLINE_S = 0.02
AWAITED_S = 1.0  # who brought nothing for so long is not waited for


class Stream:
    """One wearable: offer it blocks from any one thread, the gateway's thread does the rest.

    Its ledger balances when the stream `is_over`; `error` says why it broke, if it did.
    """

    __slots__ = (
        "error",
        "heard_ns",
        "hold_left",
        "inbox",
        "is_closing",
        "is_over",
        "last",
        "ledger",
        "missing",
        "name",
        "next",
        "rate_hz",
        "segment_start",
        "slot",
        "t_ns",
    )

    def __init__(self, name: str, rate_hz: float, slot: int, bound: int) -> None:
        self.name, self.rate_hz, self.slot = name, rate_hz, slot
        self.inbox, self.ledger = Inbox(bound), Ledger()
        self.next: int | None = None
        self.segment_start: int | None = None
        self.last = 0.0
        self.missing = self.hold_left = self.t_ns = self.heard_ns = 0
        self.is_closing = self.is_over = False
        self.error: Exception | None = None

    def offer(self, block: Block) -> bool:
        """Queue a block; False if there was no room for it, which the ledger will tell."""
        return self.inbox.offer(block)

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes."""
        self.inbox.end(error)


class Gateway:
    """Samples of many streams -> readings, as N single pipelines would give them.

    n_slots     most streams at a time
    queue_s     samples of a stream that wait at most, in seconds; what comes beyond is dropped, counted and a gap
    deadline_s  how long a step that is due waits for others that may join its engine call
    """

    def __init__(self, model: Model, *, n_slots: int, queue_s: float = QUEUE_S, deadline_s: float = DEADLINE_S) -> None:
        m = model.manifest
        self._take(model)
        self._queue_s, self._deadline_ns = queue_s, round(deadline_s * 1e9)
        self._free = list(range(n_slots))[::-1]
        self._n_slots, self._hop = n_slots, m.hop_samples
        self.streams: dict[str, Stream] = {}
        self._by_slot: list[Stream | None] = [None] * n_slots
        self._lanes: dict[float, HopConditioner] = {}
        self._lane_of: list[HopConditioner | None] = [None] * n_slots
        self._beats = ManyBeats(m.timing, m.detection_threshold, n_slots)
        self._quality = ManyQualities(m.conditioning.rate_hz, m.hop_samples, n_slots)
        self._delay_s = (m.delay_samples + m.hop_samples) / m.conditioning.rate_hz
        self._n_history = -(-m.receptive_field_samples // m.hop_samples)
        self._history = np.zeros((n_slots, self._n_history, m.hop_samples), np.float32)
        self._n_hops = np.zeros(n_slots, np.int64)  # since the segment began
        self._due_since_ns: int | None = None
        self._n_open = 0
        self.n_calls = self.n_steps = 0

    def join(self, name: str, spec: StreamSpec) -> Stream:
        """A new stream; raises SettingsError if it does not suit the bundle, or there is no room."""
        m = self.model.manifest
        if name in self.streams:
            raise SettingsError(f"stream {name}: a stream of this name is there already; another name wanted")
        if not self._free:
            raise SettingsError(f"stream {name}: {self._n_slots} streams are there; no more is allowed")
        if spec.unit != m.unit or len(spec.channels) != 1:
            raise SettingsError(
                f"stream {name}: {len(spec.channels)} channels in {spec.unit}; the bundle {m.name} wants 1 in {m.unit}"
            )
        if spec.rate_hz not in self._lanes:
            self._lanes[spec.rate_hz] = HopConditioner(m.conditioning, spec.rate_hz, self._hop, self._n_slots)
        slot = self._free.pop()
        stream = Stream(name, spec.rate_hz, slot, max(1, round(self._queue_s * spec.rate_hz)))
        self.streams[name] = self._by_slot[slot] = stream
        self._lane_of[slot] = self._lanes[spec.rate_hz]
        self._beats.begin(slot)
        self.model.head.reset(slot)
        return stream

    def lag_s(self, stream: Stream) -> float:
        """Signal of the stream that arrived and was not scored yet, in seconds."""
        waiting = stream.inbox.queued
        if stream.segment_start is not None and stream.next is not None:
            waiting += stream.next - self._scored_to(stream, stream.next)
        return waiting / stream.rate_hz

    def step(self, now_ns: int) -> list[tuple[Stream, Reading]]:
        """Take in what was offered and run at most one hop of every stream that is due; streams that end leave.

        Nothing runs while it pays to wait for more streams; see `wait_s`.
        """
        self._pump(now_ns)
        lanes = [(lane, due) for lane in self._lanes.values() if len(due := lane.due())]
        if not lanes:
            self._due_since_ns = None
            return []
        n_due = sum(len(due) for _, due in lanes)
        if self._due_since_ns is None:
            self._due_since_ns = now_ns
        may_wait = now_ns - self._due_since_ns < self._deadline_ns and n_due < min(
            self.model.trunk.largest, self._n_open
        )
        if may_wait and any(self._is_awaited(s, now_ns) for s in self.streams.values()):
            return []
        self._due_since_ns = None
        return self._run(lanes)

    def wait_s(self, now_ns: int) -> float | None:
        """How long `step` may wait for the deadline, 0 if there is work now, None if nothing is due."""
        if self._due_since_ns is not None:
            return max(0.0, (self._due_since_ns + self._deadline_ns - now_ns) * 1e-9)
        if any(len(s.inbox) or s.is_closing for s in self.streams.values()):
            return 0.0
        return 0.0 if any(len(lane.due()) for lane in self._lanes.values()) else None

    def swap(self, model: Model) -> None:
        """Go on with another bundle from the next hop of every stream; raises BundleError if its contract differs.

        Its trunk first runs over the hops that its receptive field covers, so its state is as if it had always run.
        Beats found before the boundary are decided by the model that found them. The memory over beats is kept if
        the heads are the same, and starts anew otherwise.
        """
        refuse_other_contract(self.model.manifest, model.manifest, self._n_history * self._hop)
        if has_same_head(self.model, model):
            model.head.copy_state(self.model.head)
        open_slots = np.array([s.slot for s in self.streams.values() if s.segment_start is not None], np.intp)
        n_past = np.minimum(self._n_hops[open_slots], self._n_history)
        for back in range(self._n_history, 0, -1):
            slots = open_slots[n_past >= back]
            if len(slots):
                model.trunk.step(slots, [self._history[slots, (self._n_hops[slots] - back) % self._n_history]])
        self._take(model)

    def _take(self, model: Model) -> None:
        self.model = model
        self._n_outputs = model.manifest.graph(TRUNK).outputs[0].shape[-1]

    def _is_awaited(self, s: Stream, now_ns: int) -> bool:
        """Whether a step of the stream may be due soon."""
        lane = self._lane_of[s.slot]
        is_live = s.segment_start is not None and now_ns - s.heard_ns < AWAITED_S * 1e9
        return is_live and lane is not None and not lane.is_due(s.slot)

    def _pump(self, now_ns: int) -> None:
        """Move what was offered into the streams' buffers until each holds a hop or has no more."""
        is_moving = True
        while is_moving:
            is_moving = False
            regular: dict[tuple[HopConditioner, int], list[Stream]] = {}
            ready = {lane: set(lane.due().tolist()) for lane in self._lanes.values()}
            for s in list(self.streams.values()):
                lane = self._lane_of[s.slot]
                if lane is None or s.slot in ready[lane]:
                    continue
                if s.is_closing:
                    self._hold(s, lane)
                    is_moving = True
                    continue
                item = s.inbox.first()
                if item is None:
                    continue
                is_moving = True
                s.heard_ns = now_ns
                if (
                    isinstance(item, Block)
                    and item.start == s.next
                    and s.segment_start is not None
                    and 0 < (n := len(item.samples)) <= lane.most
                    and item.samples.shape[1] == 1
                ):
                    regular.setdefault((lane, n), []).append(s)
                else:
                    self._irregular(s, lane, item)
            for (lane, n), streams in regular.items():
                self._put(lane, n, streams)

    def _put(self, lane: HopConditioner, n: int, streams: Sequence[Stream]) -> None:
        """Move one block of n samples of each stream, which follows on, into its buffer."""
        blocks = [s.inbox.take() for s in streams]
        samples = np.concatenate([b.samples for b in blocks if isinstance(b, Block)])
        if not np.isfinite(samples).all():
            for s, block in zip(streams, blocks, strict=True):
                s.inbox.put_back(_parts(block))
            return
        rows = samples.reshape(len(blocks), n)
        lane.put(np.array([s.slot for s in streams]), rows)
        for s, block, last in zip(streams, blocks, rows[:, -1].tolist(), strict=True):
            if isinstance(block, Block):
                s.next, s.last, s.t_ns = block.stop, last, block.t_ns
                s.ledger.received += n

    def _irregular(self, s: Stream, lane: HopConditioner, item: Item) -> None:
        """Whatever is no block that follows on: a beginning, a gap, what cannot be scored, the end."""
        is_open = s.segment_start is not None
        if isinstance(item, End):
            if is_open:
                self._close(s, lane)
            else:
                self._leave(s, item)
            return
        if isinstance(item, Block) and len(item.samples) == 0:
            s.inbox.take()
            return
        if isinstance(item, Block) and item.samples.shape[1] != 1:
            self._break(s, f"a block has {item.samples.shape[1]} columns; 1 wanted")
            return
        if s.next is not None and item.start < s.next:
            self._break(s, f"sample counter goes back from {s.next} to {item.start}")
            return
        if is_open and (isinstance(item, Lost) or item.start != s.next):
            self._close(s, lane)
            return
        s.inbox.take()
        if isinstance(item, Lost):
            self._count(s, item)
            return
        parts = _parts(item, lane.most)
        s.inbox.put_back(parts)
        if not is_open and isinstance(parts[0], Block):
            self._begin(s, lane, parts[0])

    def _begin(self, s: Stream, lane: HopConditioner, block: Block) -> None:
        if s.next is not None:
            s.ledger.gap += block.start - s.next
            s.ledger.received += block.start - s.next
        s.next = s.segment_start = block.start
        lane.begin(s.slot, block.start, float(block.samples[0, 0]))
        self._quality.begin(s.slot, int(lane.next_out(np.array([s.slot]))[0]))
        self.model.trunk.reset(s.slot)
        self._n_hops[s.slot] = 0
        self._n_open += 1

    def _count(self, s: Stream, lost: Lost) -> None:
        """Positions that no model sees."""
        start = lost.start if s.next is None else s.next
        s.ledger.received += lost.stop - start
        s.ledger.dropped += lost.n
        s.ledger.gap += lost.stop - start - lost.n
        s.next = lost.stop
        if lost.is_missing:
            s.missing += lost.n
            n = s.ledger.received - s.ledger.gap
            if n >= MISSING_CHECK_S * s.rate_hz and s.missing > MAX_MISSING_SHARE * n:
                self._break(
                    s,
                    f"{s.missing} of {n} samples are not numbers; at most {MAX_MISSING_SHARE:.0%} may be; "
                    "check the sensor's contact and the channel's name",
                )

    def _close(self, s: Stream, lane: HopConditioner) -> None:
        """The segment ends: its last value is held for the chain's look-ahead."""
        s.is_closing = True
        up, down = lane.grid.ratio
        rate = self.model.manifest.conditioning.rate_hz
        s.hold_left = lane.grid.delay_source_samples + -int(-(self._delay_s * rate * down / up) // 1)

    def _hold(self, s: Stream, lane: HopConditioner) -> None:
        """Go on with the last value; when that is done, the segment is over."""
        n = min(s.hold_left, lane.source_hop)
        if n:
            lane.put(np.array([s.slot]), np.full((1, n), s.last, np.float32))
            s.hold_left -= n
            s.t_ns = 0
            return
        stop = s.next or 0
        scored = self._scored_to(s, stop) - (s.segment_start or 0)
        s.ledger.scored += scored
        s.ledger.dropped += stop - (s.segment_start or 0) - scored
        s.segment_start, s.is_closing = None, False
        self._n_open -= 1
        lane.end(s.slot)
        self._beats.interrupt(s.slot)

    def _scored_to(self, s: Stream, stop: int) -> int:
        """Source counter below which the open segment went through the model."""
        lane = self._lane_of[s.slot]
        if lane is None or self._n_hops[s.slot] == 0:
            return s.segment_start or 0
        return min(lane.grid.source_samples_before(int(lane.next_out(np.array([s.slot]))[0])), stop)

    def _break(self, s: Stream, reason: str) -> None:
        """The stream cannot go on; the others can."""
        for item in s.inbox.empty(SourceError(f"stream {s.name}: {reason}")):
            n = item.n if isinstance(item, Lost) else len(item.samples) if isinstance(item, Block) else 0
            s.ledger.received += n
            s.ledger.dropped += n

    def _leave(self, s: Stream, end: End) -> None:
        s.error, s.is_over = end.error, True
        lane = self._lane_of[s.slot]
        if lane is not None:
            lane.end(s.slot)
        self._beats.end(s.slot)
        self._by_slot[s.slot] = self._lane_of[s.slot] = None
        self._free.append(s.slot)
        del self.streams[s.name]

    def _run(self, lanes: Sequence[tuple[HopConditioner, Slots]]) -> list[tuple[Stream, Reading]]:
        """One hop of every stream that is due."""
        starts = np.concatenate([lane.next_out(due) for lane, due in lanes])
        hops = np.concatenate([lane.take(due) for lane, due in lanes])
        slots = np.concatenate([due for _, due in lanes])
        self.n_calls += 1
        self.n_steps += len(slots)
        self._quality.watch(slots, hops)
        self._history[slots, self._n_hops[slots] % self._n_history] = hops
        self._n_hops[slots] += 1
        scores = self.model.trunk.step(slots, [hops]).reshape(len(slots), -1, self._n_outputs)
        return self._readings(self._beats.feed(slots, starts, scores, self.model))

    def _readings(self, due: list[Due]) -> list[tuple[Stream, Reading]]:
        out: list[tuple[Stream, Reading]] = []
        for beats in _rounds(due):
            probabilities = cast(Model, beats[0].model).head.step(
                np.array([b.slot for b in beats]),
                [np.array([b.embedding for b in beats]), np.array([b.rhythm for b in beats], np.float32)],
            )
            labels = probabilities.argmax(axis=1).tolist()
            for beat, label, row in zip(beats, labels, probabilities.tolist(), strict=True):
                s, lane = self._by_slot[beat.slot], self._lane_of[beat.slot]
                if s is None or lane is None:
                    continue
                sample = max(0, lane.grid.source_position(beat.position))
                if s.next is not None and sample < s.next:
                    reading = Reading(
                        name="beat",
                        sample=sample,
                        t_s=sample / s.rate_hz,
                        value=self.model.manifest.classes[label],
                        confidence=row[label],
                        quality=self._quality.share(beat.slot, beat.seen),
                        t_ns=s.t_ns,
                    )
                    out.append((s, reading))
        return out


def _rounds(due: list[Due]) -> list[list[Due]]:
    """The beats in groups of one model and at most one beat a slot, in each slot in order of time."""
    rounds: list[list[Due]] = []
    taken: list[tuple[object, set[int]]] = []
    last: dict[int, int] = {}
    for beat in due:
        at = last.get(beat.slot, -1) + 1
        while at < len(rounds) and taken[at][0] is not beat.model:
            at += 1
        if at == len(rounds):
            rounds.append([])
            taken.append((beat.model, set()))
        rounds[at].append(beat)
        last[beat.slot] = at
    return rounds


def _parts(block: Item, most: int | None = None) -> list[Item]:
    """A block cut where its samples are no numbers, and to at most `most` samples."""
    if not isinstance(block, Block):
        return [block]
    is_number: NDArray[np.bool_] = np.all(np.isfinite(block.samples), axis=1)
    edges = [0, *(np.flatnonzero(np.diff(is_number)) + 1).tolist(), len(is_number)]
    parts: list[Item] = []
    for start, stop in pairwise(edges):
        if not is_number[start]:
            parts.append(Lost(block.start + start, block.start + stop, stop - start, True))
            continue
        for i in range(start, stop, most or len(is_number)):
            j = min(stop, i + (most or len(is_number)))
            parts.append(Block(start=block.start + i, samples=block.samples[i:j], t_ns=block.t_ns))
    return parts
