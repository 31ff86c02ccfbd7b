"""Many wearables in one process: each stream with its own state, steps that are due together in one engine call."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_runtime.assemble import BEAT_SPAN_S
from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.preprocess_many import HopConditioner
from edge_runtime.contract.rows import Rows, rows_of
from edge_runtime.contract.signal import Block, Float32Array, Ledger, Reading, StreamSpec
from edge_runtime.inbox import End, Inlet, Item, Lost
from edge_runtime.many import DueHops, ManyStreams
from edge_runtime.pipeline import MAX_MISSING_SHARE, MISSING_CHECK_S
from edge_runtime.sensors.sensor_block import SensorBlock
from edge_runtime.slots import Model
from edge_runtime.vitals.sensor_word import BeatWord

QUEUE_S = 4.0
DEADLINE_S = 0.02
AWAITED_NS = 1_000_000_000  # who brought nothing for so long is not waited for
NOWHERE = -1


class Stream(Inlet):
    """One wearable, which owns a slot."""

    __slots__ = ("hold_left", "is_closing", "missing", "segment_start", "slot", "word")

    def __init__(self, name: str, rate_hz: float, slot: int, bound: int, brought: deque[Stream]) -> None:
        super().__init__(name, rate_hz, bound, brought)
        self.slot = slot
        self.segment_start: int | None = None
        self.missing = self.hold_left = 0
        self.is_closing = False
        self.word = BeatWord(rate_hz, BEAT_SPAN_S)

    @property
    def is_behind(self) -> bool:
        """Whether more than the step that is due waits."""
        return self.is_closing or len(self.inbox) > 0


class Gateway:
    """Samples of many streams -> readings, as N single pipelines would give them.

    n_slots     most streams at a time
    queue_s     samples of a stream that wait at most, in seconds; what comes beyond is dropped, counted and a gap
    deadline_s  how long a step that is due waits for others that may join its engine call
    """

    def __init__(self, model: Model, *, n_slots: int, queue_s: float = QUEUE_S, deadline_s: float = DEADLINE_S) -> None:
        m = model.manifest
        self.streams: dict[str, Stream] = {}
        self.n_calls = self.n_steps = 0
        self._many = ManyStreams(model, n_slots)
        self._queue_s, self._deadline_ns = queue_s, round(deadline_s * 1e9)
        self._delay_s = (m.delay_samples + m.hop_samples) / m.conditioning.rate_hz
        self._rate_hz = m.conditioning.rate_hz
        self._free = list(range(n_slots))[::-1]
        self._at: list[Stream | None] = [None] * n_slots
        self._brought: deque[Stream] = deque()
        self._busy: dict[Stream, None] = {}  # who may have something to take in; an ordered set
        self._next = np.full(n_slots, NOWHERE)  # source counter one past the newest sample
        self._heard_ns = np.zeros(n_slots, np.int64)
        self._is_open, self._n_open = np.zeros(n_slots, np.bool_), 0
        self._due_since_ns: int | None = None

    @property
    def model(self) -> Model:
        """What scores the streams now."""
        return self._many.model

    def swap(self, model: Model) -> None:
        """Go on with another bundle, warmed up; raises BundleError if its contract differs. See `ManyStreams.swap`."""
        self._many.swap(model)

    def join(self, name: str, spec: StreamSpec) -> Stream:
        """A new stream; raises SettingsError if it does not suit the bundle, or there is no room."""
        m = self.model.manifest
        if name in self.streams:
            raise SettingsError(f"{name}: a stream of this name is there already; another name wanted")
        if not self._free:
            raise SettingsError(f"{name}: {len(self._at)} streams are there; no more is allowed")
        if spec.unit != m.unit or len(spec.channels) != 1:
            raise SettingsError(
                f"{name}: {len(spec.channels)} channels in {spec.unit}; the bundle {m.name} wants 1 in {m.unit}"
                f"{spec.advice(m.unit)}"
            )
        self._many.enter(self._free[-1], spec.rate_hz)
        slot = self._free.pop()
        bound = max(1, round(self._queue_s * spec.rate_hz))
        stream = self._at[slot] = self.streams[name] = Stream(name, spec.rate_hz, slot, bound, self._brought)
        self._next[slot], self._is_open[slot] = NOWHERE, False
        return stream

    def offer_rows(
        self, streams: Sequence[Stream], rows: Rows, start: Sequence[int], samples: Float32Array, t_ns: int
    ) -> None:
        """Blocks of equal length of many streams of one rate at once, from the gateway's thread.

        rows  `rows_of` their slots; start  their counters; samples  float32 (n_streams, n); t_ns  time of arrival
        """
        lane, n = self._many.lane(streams[0].slot), samples.shape[1]
        if (
            not self._busy
            and not self._brought
            and (self._next[rows.at] == start).all()
            and lane.takes(rows, n)
            and _is_finite(samples)
        ):
            lane.put(rows, samples)
            self._next[rows.at] += n
            self._many.t_ns[rows.at] = self._heard_ns[rows.at] = t_ns
            return
        for stream, first, row in zip(streams, start, samples, strict=True):
            stream.offer(Block(start=int(first), samples=row.reshape(-1, 1).copy(), t_ns=t_ns))

    def ledger(self, stream: Stream) -> Ledger:
        """Where the stream's samples went so far; what is not scored yet counts as neither."""
        found, now = stream.ledger, Ledger()
        now.received, now.scored, now.dropped, now.gap = found.received, found.scored, found.dropped, found.gap
        if stream.segment_start is not None:
            stop = int(self._next[stream.slot])
            now.received += stop - stream.segment_start
            now.scored += self._many.scored_to(stream.slot, stream.segment_start, stop) - stream.segment_start
        return now

    def so_far(self, stream: Stream) -> Ledger:
        """The ledger as if the stream ended now; it balances."""
        now = self.ledger(stream)
        now.dropped += now.received - now.scored - now.dropped - now.gap
        return now

    def lag_s(self, stream: Stream) -> float:
        """Signal of the stream that arrived and was not scored yet, in seconds."""
        now = self.ledger(stream)
        return (stream.inbox.queued + now.received - now.scored - now.dropped - now.gap) / stream.rate_hz

    def step(self, now_ns: int) -> list[tuple[Stream, Reading]]:
        """Take in what was offered and run at most one hop of every stream that is due; streams that end leave.

        Nothing runs while it pays to wait for more streams; see `wait_s`.
        """
        self._pump(now_ns)
        due = self._many.due()
        if not due:
            self._due_since_ns = None
            return []
        if self._due_since_ns is None:
            self._due_since_ns = now_ns
        n_due = sum([len(rows) for _, rows in due])
        is_full = n_due >= min(self._n_open, self.model.trunk.largest)
        if not is_full and now_ns - self._due_since_ns < self._deadline_ns and self._has_awaited(due, now_ns):
            return []
        self._due_since_ns = None
        self.n_calls += 1
        self.n_steps += n_due
        out = []
        readings = self._many.run(due)
        stops = self._next.tolist() if readings else []
        for slot, reading in readings:
            stream = self._at[slot]
            if stream is not None and reading.sample < stops[slot]:
                for judged in stream.word.judged([reading]):
                    out.append((stream, judged))
        return out

    def wait_s(self, now_ns: int) -> float | None:
        """How long until `step` has something to do: 0 if it has now, None if only after an offer."""
        if self._due_since_ns is not None:
            return max(0.0, (self._due_since_ns + self._deadline_ns - now_ns) * 1e-9)
        return 0.0 if self._brought or self._busy or self._many.due() else None

    def _has_awaited(self, due: Sequence[DueHops], now_ns: int) -> bool:
        """Whether a step of another stream may soon join this call, and nobody in it is behind."""
        is_awaited = self._is_open & (now_ns - self._heard_ns < AWAITED_NS)
        for _, rows in due:
            if any((s := self._at[slot]) is not None and s.is_behind for slot in rows.slots.tolist()):
                return False
            is_awaited[rows.at] = False
        return bool(is_awaited.any())

    def _pump(self, now_ns: int) -> None:
        """Move what was offered into the streams' buffers until each holds a hop or has no more."""
        while self._brought:
            self._busy[self._brought.popleft()] = None
        left = list(self._busy)
        while left:
            due = {slot for _, rows in self._many.due() for slot in rows.slots.tolist()}
            left = [s for s in left if s.slot not in due] if due else left
            expected = self._next.tolist()
            regular: dict[tuple[HopConditioner, int], list[Stream]] = {}
            for s in left:
                item = s.inbox.first()
                if s.is_closing or item is None:
                    self._hold(s)
                    continue
                lane = self._many.lane(s.slot)
                if isinstance(item, Block) and s.segment_start is not None and item.start == expected[s.slot]:
                    n, width = item.samples.shape
                    if width == 1 and 0 < n <= lane.most:
                        regular.setdefault((lane, n), []).append(s)
                        continue
                self._heard_ns[s.slot] = now_ns
                self._irregular(s, lane, item)
            for (lane, n), streams in regular.items():
                self._put(lane, n, streams, now_ns)
            waiting = []
            for s in left:
                if not s.is_over and (s.is_closing or len(s.inbox)):
                    waiting.append(s)
                else:
                    self._busy.pop(s, None)
            left = waiting

    def _put(self, lane: HopConditioner, n: int, streams: Sequence[Stream], now_ns: int) -> None:
        """Move one block of n samples of each stream, which follows on, into its buffer."""
        blocks = [_block(s.inbox.take()) for s in streams]
        for s, block in zip(streams, blocks, strict=True):
            if isinstance(block, SensorBlock):
                self._listen(s, block)
        samples = np.concatenate([b.samples for b in blocks])
        if not _is_finite(samples):
            for s, block in zip(streams, blocks, strict=True):
                s.inbox.put_back(_parts(block))
            return
        rows = rows_of([s.slot for s in streams])
        self._heard_ns[rows.at] = now_ns
        lane.put(rows, samples.reshape(len(blocks), n))
        self._next[rows.at] += n
        self._many.t_ns[rows.at] = [b.t_ns for b in blocks]

    def _irregular(self, s: Stream, lane: HopConditioner, item: Item) -> None:
        """Whatever is no block that follows on: a beginning, a gap, what cannot be scored, the end."""
        expected, is_open = int(self._next[s.slot]), s.segment_start is not None
        if isinstance(item, End):
            if is_open:
                self._close(s, lane)
            else:
                self._leave(s, item)
        elif isinstance(item, Block) and len(item.samples) == 0:
            s.inbox.take()
        elif isinstance(item, Block) and item.samples.shape[1] != 1:
            self._break(s, f"a block has {item.samples.shape[1]} columns; 1 wanted")
        elif item.start < expected:
            self._break(s, f"sample counter goes back from {expected} to {item.start}")
        elif is_open and (isinstance(item, Lost) or item.start != expected):
            self._close(s, lane)
        elif isinstance(item, Lost):
            s.inbox.take()
            self._count(s, item)
        else:
            s.inbox.take()
            self._listen(s, item)
            parts = _parts(item, lane.most)
            s.inbox.put_back(parts)
            if not is_open and isinstance(parts[0], Block):
                self._begin(s, parts[0])

    def _listen(self, s: Stream, block: Block) -> None:
        """What the sensor says of its signal; a block's parts say it no more."""
        if not isinstance(block, SensorBlock) or block.quality is None:
            return
        s.word.watch(block)

    def _begin(self, s: Stream, block: Block) -> None:
        expected = int(self._next[s.slot])
        if expected != NOWHERE:
            s.ledger.gap += block.start - expected
            s.ledger.received += block.start - expected
        self._next[s.slot] = s.segment_start = block.start
        self._is_open[s.slot] = True
        self._n_open += 1
        self._many.begin(s.slot, block.start, float(block.samples[0, 0]))

    def _count(self, s: Stream, lost: Lost) -> None:
        """Positions that no model sees."""
        expected = int(self._next[s.slot])
        n = lost.stop - (lost.start if expected == NOWHERE else expected)
        s.ledger.received += n
        s.ledger.dropped += lost.n
        s.ledger.gap += n - lost.n
        self._next[s.slot] = lost.stop
        if not lost.is_missing:
            return
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
        up, down = lane.grid.ratio
        s.is_closing = True
        s.hold_left = lane.grid.delay_source_samples + math.ceil(self._delay_s * self._rate_hz * down / up)

    def _hold(self, s: Stream) -> None:
        """Go on with the last value; when that is done, the segment is over."""
        if not s.is_closing or s.segment_start is None:
            return
        lane = self._many.lane(s.slot)
        n = min(s.hold_left, lane.source_hop)
        if n:
            lane.put(rows_of([s.slot]), np.full((1, n), lane.last(s.slot), np.float32))
            s.hold_left -= n
            self._many.t_ns[s.slot] = 0  # the reading waits for nothing that could arrive
            return
        stop = int(self._next[s.slot])
        scored = self._many.scored_to(s.slot, s.segment_start, stop)
        s.ledger.received += stop - s.segment_start
        s.ledger.scored += scored - s.segment_start
        s.ledger.dropped += stop - scored
        s.segment_start, s.is_closing = None, False
        self._is_open[s.slot] = False
        self._n_open -= 1
        self._many.interrupt(s.slot)

    def _break(self, s: Stream, reason: str) -> None:
        """The stream cannot go on; the others can."""
        for item in s.inbox.empty(SourceError(reason)):
            n = item.n if isinstance(item, Lost) else len(item.samples) if isinstance(item, Block) else 0
            s.ledger.received += n
            s.ledger.dropped += n

    def _leave(self, s: Stream, end: End) -> None:
        s.error, s.is_over = end.error, True
        self._many.leave(s.slot)
        self._at[s.slot] = None
        self._free.append(s.slot)
        del self.streams[s.name]


def _is_finite(samples: Float32Array) -> bool:
    """Whether all samples are sure to be finite; a look at their sum of squares, which is one call."""
    flat = samples.reshape(-1)
    return math.isfinite(flat.dot(flat))


def _block(item: Item) -> Block:
    if not isinstance(item, Block):
        raise TypeError(f"found {type(item).__name__}; a block wanted")
    return item


def _parts(block: Block, most: int | None = None) -> list[Item]:
    """A block cut where its samples are no numbers, and to at most `most` samples."""
    is_number: NDArray[np.bool_] = np.all(np.isfinite(block.samples), axis=1)
    edges = [0, *(np.flatnonzero(np.diff(is_number)) + 1).tolist(), len(is_number)]
    parts: list[Item] = []
    for start, stop in pairwise(edges):
        if not is_number[start]:
            parts.append(Lost(block.start + start, block.start + stop, stop - start, True))
            continue
        for i in _steps(start, stop, most):
            j = min(stop, i + (most or stop))
            parts.append(Block(start=block.start + i, samples=block.samples[i:j], t_ns=block.t_ns))
    return parts


def _steps(start: int, stop: int, step: int | None) -> Iterable[int]:
    return range(start, stop, step or stop - start)
