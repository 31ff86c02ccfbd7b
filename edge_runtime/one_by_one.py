"""Many wearables in one process, a pipeline each: for bundles and engines that take one stream in a call."""

from __future__ import annotations

import logging
from collections import deque

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import EdgeError, SettingsError
from edge_runtime.contract.manifest import BeatManifest
from edge_runtime.contract.signal import Block, Ledger, Reading, StreamSpec
from edge_runtime.engine.engine import Engine
from edge_runtime.engine.shared import SharedEngine
from edge_runtime.inbox import End, Inlet, Item, Lost
from edge_runtime.pipeline import Pipeline
from edge_runtime.sensors.sensor_block import SensorBlock
from edge_runtime.takeover import Takeover, joined, refuse_other_words, total, waiting, warm_s
from edge_runtime.vitals.sensor_word import APART_S

log = logging.getLogger(__name__)

QUEUE_S = 4.0
TURN_S = 1.0  # of signal that a stream may bring in its turn


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A bundle in the form to run, and the engine for it."""

    bundle: Bundle
    engine: Engine


def open_alone(bundle: Bundle, engine: Engine) -> Opened:
    """A bundle whose graphs are known to load; raises EngineError if one is refused."""
    shared = SharedEngine(engine)
    for graph in bundle.manifest.graphs:
        shared.load(bundle, graph)
    return Opened(bundle=bundle, engine=shared)


class PipedStream(Inlet):
    """One wearable and its pipeline.

    newest   counter one past the newest sample that the pipeline saw, or before which nothing will come
    lost     samples behind it for which there was no room
    unheard  such samples in front of it, which the pipeline took for a gap
    earlier  what pipelines before this one came to
    said     the newest sample of which there was a reading
    """

    __slots__ = ("earlier", "lost", "newest", "next", "pipeline", "said", "spec", "stop", "unheard")

    def __init__(self, name: str, spec: StreamSpec, pipeline: Pipeline, bound: int, brought: deque[PipedStream]):
        super().__init__(name, spec.rate_hz, bound, brought)
        self.spec, self.pipeline = spec, pipeline
        self.next: Takeover | None = None
        self.earlier = Ledger()
        self.newest: int | None = None
        self.stop: int | None = None
        self.said: int | None = None
        self.lost = self.unheard = 0


class OneByOne:
    """Samples of many streams -> readings, each stream through a pipeline of its own, in turns.

    n_slots  most streams at a time
    queue_s  samples of a stream that wait at most, in seconds; what comes beyond is dropped, counted and a gap
    """

    def __init__(self, opened: Opened, *, n_slots: int, queue_s: float = QUEUE_S) -> None:
        self.streams: dict[str, PipedStream] = {}
        self._opened, self._n_slots, self._queue_s = opened, n_slots, queue_s
        self._brought: deque[PipedStream] = deque()
        self._busy: dict[PipedStream, None] = {}  # who may have something to take in; an ordered set
        self._changing: deque[PipedStream] = deque()  # who is to get a pipeline of the newest bundle

    @property
    def model(self) -> Opened:
        """What scores streams that join now."""
        return self._opened

    def join(self, name: str, spec: StreamSpec) -> PipedStream:
        """A new stream; raises SettingsError if it does not suit the bundle, or there is no room."""
        if name in self.streams:
            raise SettingsError(f"{name}: a stream of this name is there already; another name wanted")
        if len(self.streams) == self._n_slots:
            raise SettingsError(f"{name}: {self._n_slots} streams are there; no more is allowed")
        try:
            pipeline = open_pipeline(self._opened.bundle, spec, self._opened.engine)
        except SettingsError as error:
            raise SettingsError(f"{name}: {error}") from error
        bound = max(1, round(self._queue_s * spec.rate_hz))
        stream = self.streams[name] = PipedStream(name, spec, pipeline, bound, self._brought)
        return stream

    def swap(self, model: Opened) -> None:
        """Go on with another bundle; raises BundleError if its readings would mean something else.

        Each stream gets a pipeline of it, one stream a step, which hears the signal for as long as a reading rests on
        and then takes over: readings go on where those of the old one end, and no sample counts as scored twice.
        """
        refuse_other_words(self._opened.bundle, model.bundle)
        self._opened = model
        self._changing = deque(self.streams.values())

    def ledger(self, stream: PipedStream) -> Ledger:
        """Where the stream's samples went so far; what is not scored yet counts as neither."""
        now = self.so_far(stream)
        now.dropped -= waiting(stream.pipeline)
        return now

    def so_far(self, stream: PipedStream) -> Ledger:
        """The ledger as if the stream ended now; it balances."""
        now = total((stream.ledger, stream.earlier, stream.pipeline.so_far()))
        now.dropped += stream.unheard
        now.gap -= stream.unheard
        if stream.newest is not None and stream.stop is not None:
            now.received += stream.stop - stream.newest
            now.dropped += stream.lost
            now.gap += stream.stop - stream.newest - stream.lost
        return now

    def lag_s(self, stream: PipedStream) -> float:
        """Signal of the stream that waits for its turn, in seconds."""
        return stream.inbox.queued / stream.rate_hz

    def step(self, now_ns: int) -> list[tuple[PipedStream, Reading]]:
        """A turn for every stream that brought something, of at most a second of its signal; who ends leaves."""
        while self._brought:
            self._busy[self._brought.popleft()] = None
        out: list[tuple[PipedStream, Reading]] = []
        for stream in list(self._busy):
            item = None if stream.is_over or stream.inbox.first() is None else stream.inbox.take()
            if item is not None:
                out += [(stream, reading) for reading in self._turn(stream, item)]
            if stream.is_over or len(stream.inbox) == 0:
                del self._busy[stream]
        if self._changing:
            self._change(self._changing.popleft())
        return out

    def wait_s(self, now_ns: int) -> float | None:
        """How long until `step` has something to do: 0 if it has now, None if only after an offer."""
        return 0.0 if self._brought or self._busy or self._changing else None

    def _turn(self, s: PipedStream, item: Item) -> list[Reading]:
        if isinstance(item, End):
            readings = self._new(s, s.pipeline.finish())
            self._leave(s, item.error)
            return readings
        if isinstance(item, Lost):
            s.newest = item.start if s.newest is None else s.newest
            s.lost, s.stop = s.lost + item.n, item.stop
            return []
        most = max(1, round(TURN_S * s.rate_hz))
        if len(item.samples) > most:
            item, rest = _cut(item, most)
            s.inbox.put_back([rest])
        return self._feed(s, item)

    def _feed(self, s: PipedStream, block: Block) -> list[Reading]:
        was = s.pipeline.ledger
        received, gap = was.received, was.gap
        try:
            readings = self._new(s, s.pipeline.feed(block))
        except EdgeError as error:
            is_counted = s.pipeline.ledger.received > received
            return self._break(s, error, 0 if is_counted else len(block.samples))
        if s.stop is not None:
            # Where the bundle fills gaps, this one may have been filled, and then nothing of it is lost.
            s.unheard += min(s.lost, s.pipeline.ledger.gap - gap)
            s.lost, s.stop = 0, None
        s.newest = block.stop
        if s.next is not None:
            readings += self._hear_next(s, s.next, block)
        return readings

    def _hear_next(self, s: PipedStream, coming: Takeover, block: Block) -> list[Reading]:
        """Let the coming pipeline hear a block too, and speak if it has heard enough."""
        try:
            is_warm = coming.feed(block)
        except EdgeError as error:
            log.error("%s: %s; the bundle before goes on", s.name, error)
            s.next = None
            return []
        unsaid = coming.unsaid(0 if s.said is None else s.said + 1)
        if not is_warm:
            return []
        s.earlier = total((s.earlier, joined(s.pipeline, coming.pipeline)))
        s.pipeline, s.next = coming.pipeline, None
        return self._new(s, unsaid)

    def _change(self, s: PipedStream) -> None:
        """Open a pipeline of the newest bundle beside the stream's own."""
        if s.is_over:
            return
        bundle = self._opened.bundle
        try:
            pipeline = open_pipeline(bundle, s.spec, self._opened.engine)
        except EdgeError as error:
            log.error("%s: %s; the bundle before goes on", s.name, error)
            return
        s.next = Takeover(pipeline, round(warm_s(bundle) * s.rate_hz))

    def _new(self, s: PipedStream, readings: list[Reading]) -> list[Reading]:
        """Readings of what was not spoken of before: two pipelines may find one beat a sample apart."""
        apart = round(APART_S * s.rate_hz) - 1 if isinstance(self._opened.bundle.manifest, BeatManifest) else 1
        out = []
        for reading in readings:
            if s.said is None or reading.sample - s.said >= apart:
                s.said = reading.sample
                out.append(reading)
        return out

    def _break(self, s: PipedStream, error: EdgeError, n_refused: int) -> list[Reading]:
        """The stream cannot go on; the others can."""
        readings = self._new(s, s.pipeline.finish())
        left = sum(_n_samples(item) for item in s.inbox.empty(error))
        s.ledger.received += n_refused + left
        s.ledger.dropped += n_refused + left
        s.inbox.take()  # its end
        self._leave(s, error)
        return readings

    def _leave(self, s: PipedStream, error: Exception | None) -> None:
        s.ledger, s.error, s.is_over = self.so_far(s), error, True
        s.earlier, s.unheard, s.stop = Ledger(), 0, None
        s.pipeline.reset()
        s.next = None
        del self.streams[s.name]


def _n_samples(item: Item) -> int:
    return item.n if isinstance(item, Lost) else len(item.samples) if isinstance(item, Block) else 0


def _cut(block: Block, n: int) -> tuple[Block, Block]:
    """The first n samples, and the rest."""
    return _part(block, slice(0, n)), _part(block, slice(n, len(block.samples)))


def _part(block: Block, part: slice) -> Block:
    start, samples = block.start + part.start, block.samples[part]
    if not isinstance(block, SensorBlock):
        return Block(start=start, samples=samples, t_ns=block.t_ns)
    quality = None if block.quality is None else block.quality[part]
    return SensorBlock(start=start, samples=samples, t_ns=block.t_ns, contact=block.contact[part], quality=quality)
