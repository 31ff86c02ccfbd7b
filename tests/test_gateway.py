"""The gateway against N single pipelines: cuts, gaps, missing samples, joining and leaving, floods, stalls, swaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.contract.errors import BundleError, SettingsError, SourceError
from edge_runtime.contract.rows import rows_of
from edge_runtime.contract.signal import Block, Float32Array, Ledger, Reading, StreamSpec
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.gateway import Gateway, Stream
from edge_runtime.inbox import Inbox, Lost
from edge_runtime.sensors.sensor_block import SensorBlock
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.slots import Model, open_model

MS = 1_000_000
TOLERANCE = 1e-5  # the law of the project for fp32; the heads of INT8 bundles compute in fp32 too


def ecg(seconds: float, rate_hz: float, seed: int) -> Float32Array:
    """float32 (n, 1), mV."""
    return np.asarray(simulate(seconds, rate_hz=rate_hz, seed=seed, pvc=0.1, pac=0.1).samples[:, :1], np.float32).copy()


def cut(x: Float32Array, sizes: Sequence[int], lost: Sequence[int] = ()) -> list[Block]:
    """Blocks of these sizes, in turns; those whose number is in `lost` never arrive."""
    blocks, start, i = [], 0, 0
    while start < len(x):
        n = sizes[i % len(sizes)]
        if i not in lost:
            blocks.append(Block(start=start, samples=x[start : start + n]))
        start, i = start + n, i + 1
    return blocks


def alone(bundle: Bundle, engine: OnnxEngine, rate_hz: float, blocks: Sequence[Block]) -> tuple[list[Reading], Ledger]:
    """The oracle: the same blocks through a pipeline of their own."""
    pipeline = open_pipeline(bundle, StreamSpec(rate_hz=rate_hz), engine)
    readings = [r for block in blocks for r in pipeline.feed(block)] + pipeline.finish()
    return readings, pipeline.ledger


def assert_equal(given: Sequence[Reading], wanted: Sequence[Reading]) -> None:
    """The same readings; confidences but for the rounding of a batch."""
    assert [(r.name, r.sample, r.t_s, r.value, r.quality) for r in given] == [
        (r.name, r.sample, r.t_s, r.value, r.quality) for r in wanted
    ]
    for g, w in zip(given, wanted, strict=True):
        assert (g.confidence is None) == (w.confidence is None)
        assert g.confidence == pytest.approx(w.confidence, abs=TOLERANCE)


@dataclass
class Wearable:
    """A stream's blocks on their way to a gateway."""

    stream: Stream
    blocks: list[Block]
    said: list[Reading]
    sent: int = 0

    def send(self) -> None:
        """The next block, or the end."""
        if self.sent < len(self.blocks):
            assert self.stream.offer(self.blocks[self.sent])
        elif self.sent == len(self.blocks):
            self.stream.end()
        self.sent += 1


def drain(gateway: Gateway, wearables: Sequence[Wearable], pick: Callable[[Wearable], bool] = lambda w: True) -> None:
    """Send and step until all streams are over; whoever has something queued waits."""
    of = {w.stream: w for w in wearables}
    now_ns = 0
    while gateway.streams:
        now_ns += 10 * MS
        for w in wearables:
            if len(w.stream.inbox) == 0 and pick(w):
                w.send()
        for stream, reading in gateway.step(now_ns):
            if stream in of:
                of[stream].said.append(reading)


@pytest.fixture(params=["int8", "fp32"])
def bundle(request: pytest.FixtureRequest, int8_bundle: Bundle, fp32_bundle: Bundle) -> Bundle:
    return int8_bundle if request.param == "int8" else fp32_bundle


@pytest.fixture
def gateway_of(engine: OnnxEngine) -> Callable[..., Gateway]:
    def make(bundle: Bundle, n_slots: int = 8, **named: float) -> Gateway:
        return Gateway(open_model(bundle, engine, n_slots), n_slots=n_slots, **named)

    return make


def test_streams_of_any_rates_read_as_each_would_alone(
    bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(bundle)
    wearables, wanted = [], []
    rng = np.random.default_rng(1)
    for i, rate in enumerate((125.0, 250.0, 360.0, 125.0, 130.0, 500.0)):
        x = ecg(20.0, rate, seed=i)
        x[int(8 * rate) : int(8 * rate) + 7] = np.nan
        blocks = cut(x, rng.integers(1, int(rate * 0.7), 50).tolist(), lost=rng.choice(60, 3).tolist())
        wanted.append(alone(bundle, engine, rate, blocks))
        wearables.append(Wearable(gateway.join(f"bed{i}", StreamSpec(rate_hz=rate)), blocks, []))
    drain(gateway, wearables, lambda w: rng.random() < 0.6)
    for w, (readings, ledger) in zip(wearables, wanted, strict=True):
        assert len(readings) > 5
        assert_equal(w.said, readings)
        assert w.stream.ledger == ledger
        assert ledger.is_balanced
        assert min(ledger.gap, ledger.dropped) > 0
    assert gateway.n_calls < 0.5 * gateway.n_steps  # steps did share calls


def test_cutting_streams_in_any_way_changes_nothing(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    model = open_model(int8_bundle, engine, 3)
    signals = [ecg(6.0, rate, seed=i) for i, rate in enumerate((125.0, 250.0, 125.0))]
    sizes = st.lists(st.integers(1, 200), min_size=1, max_size=8)

    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(st.tuples(sizes, sizes, sizes), st.sets(st.integers(1, 30), max_size=3), st.integers(0, 2**16))
    def check(pattern: tuple[list[int], ...], lost: set[int], seed: int) -> None:
        gateway, rng = Gateway(model, n_slots=3), np.random.default_rng(seed)
        wearables = []
        for i, (x, rate) in enumerate(zip(signals, (125.0, 250.0, 125.0), strict=True)):
            stream = gateway.join(f"bed{i}", StreamSpec(rate_hz=rate))
            wearables.append(Wearable(stream, cut(x, pattern[i], sorted(lost)), []))
        drain(gateway, wearables, lambda w: rng.random() < 0.7)
        for w in wearables:
            readings, ledger = alone(int8_bundle, engine, w.stream.rate_hz, w.blocks)
            assert_equal(w.said, readings)
            assert w.stream.ledger == ledger

    check()


def test_rows_of_many_streams_are_blocks_of_each(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway, n = gateway_of(int8_bundle), 5
    signals = np.stack([ecg(12.0, 125.0, seed=i)[:, 0] for i in range(n)])
    streams = sorted((gateway.join(f"bed{i}", StreamSpec(rate_hz=125.0)) for i in range(n)), key=lambda s: s.slot)
    rows, said = rows_of(np.array([s.slot for s in streams])), {s: [] for s in streams}
    signals[2, 700] = np.nan
    for k, start in enumerate(range(0, 1500, 25)):
        gateway.offer_rows(streams, rows, [start] * n, signals[:, start : start + 25], k * 200 * MS)
        for stream, reading in gateway.step(k * 200 * MS):
            said[stream].append(reading)
    for s in streams:
        s.end()
    while gateway.streams:
        for stream, reading in gateway.step(10**12):
            said[stream].append(reading)
    for i, s in enumerate(streams):
        readings, ledger = alone(int8_bundle, engine, 125.0, [Block(start=0, samples=signals[i, :, None])])
        assert_equal(said[s], readings)
        assert s.ledger == ledger


class Ward:
    """64 streams that join and leave at random times, driven by a clock of its own, 20 ms a tick."""

    def __init__(self, gateway: Gateway, seed: int) -> None:
        self.gateway, self.rng = gateway, np.random.default_rng(seed)
        self.now_ns = 0
        self.over: list[Wearable] = []
        self.there: dict[Stream, Wearable] = {}
        self._n = 0

    def admit(self) -> None:
        """One more wearable, for 5 to 12 s, with a gap in it."""
        rate = float(self.rng.choice([125.0, 250.0]))
        stream = self.gateway.join(f"w{self._n}", StreamSpec(rate_hz=rate))
        x = ecg(float(self.rng.uniform(5.0, 12.0)), rate, seed=self._n % 8)
        # A tenth of a second a block; one in twenty never arrives.
        n = int(rate / 10)
        lost = [i for i in range(len(x) // n) if self.rng.random() < 0.02]
        self.there[stream] = Wearable(stream, cut(x, [n], lost), [])
        self._n += 1

    def tick(self) -> None:
        """20 ms: whoever's block is due sends it."""
        self.now_ns += 20 * MS
        for w in list(self.there.values()):
            if w.sent == len(w.blocks) or self.now_ns >= self._due_ns(w):
                w.send()
        said = self.gateway.step(self.now_ns)
        while self.gateway.wait_s(self.now_ns) == 0.0:
            said += self.gateway.step(self.now_ns)
        for stream, reading in said:
            if stream in self.there:
                self.there[stream].said.append(reading)
        for stream in [s for s in self.there if s.is_over]:
            self.over.append(self.there.pop(stream))

    def _due_ns(self, w: Wearable) -> int:
        return w.sent * 100 * MS + (w.stream.slot % 5) * 20 * MS


def test_64_streams_join_and_leave_while_one_stalls_and_one_floods(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle, n_slots=64, queue_s=2.0)
    ward = Ward(gateway, seed=3)
    stalled = gateway.join("stalled", StreamSpec(rate_hz=125.0))
    flood = gateway.join("flood", StreamSpec(rate_hz=125.0))
    stalled.offer(Block(start=0, samples=ecg(1.1, 125.0, seed=9)))
    torrent, sent, last = ecg(60.0, 125.0, seed=8), 0, 0
    for _ in range(62):
        ward.admit()
    for _ in range(600):
        ward.tick()
        while ward.rng.random() < 0.6 and sent < 100 * len(torrent):
            at = sent % len(torrent)
            block = Block(start=sent, samples=torrent[at : at + 500])
            flood.offer(block)
            sent, last = sent + len(block.samples), block.stop
        if len(gateway.streams) < 64 and ward.rng.random() < 0.3:
            ward.admit()
        for w in ward.there.values():
            # A hop, a block, and what the resampler looks ahead: nobody waits for the two.
            assert gateway.lag_s(w.stream) < 0.4
    assert len(ward.over) > 50
    for w in ward.over[:24]:
        readings, ledger = alone(int8_bundle, engine, w.stream.rate_hz, w.blocks)
        assert_equal(w.said, readings)
        assert w.stream.ledger == ledger
    for w in ward.over:
        assert w.stream.ledger.is_balanced
    stalled.end()
    flood.end()
    while not (stalled.is_over and flood.is_over):
        ward.tick()
    assert stalled.ledger == Ledger(received=138, scored=138, dropped=0, gap=0)
    assert flood.ledger.is_balanced
    assert flood.ledger.received == last
    assert flood.ledger.dropped == flood.inbox.dropped > 0
    assert flood.ledger.gap == 0


def test_what_finds_no_room_is_dropped_counted_and_a_gap(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle, queue_s=2.0)  # 250 samples
    stream = gateway.join("bed", StreamSpec(rate_hz=125.0))
    x = ecg(16.0, 125.0, seed=2)
    blocks = cut(x, [50])
    taken, said, now_ns = [], [], 0
    for i, block in enumerate(blocks):
        if stream.offer(block):
            taken.append(block)
        if not 10 <= i < 22:  # the gateway does not come to it for 13 blocks: 5 fit
            for _ in range(20):
                now_ns += 50 * MS
                said += [r for _, r in gateway.step(now_ns)]
    stream.end()
    while not stream.is_over:
        now_ns += 50 * MS
        said += [r for _, r in gateway.step(now_ns)]
    assert len(blocks) - len(taken) == 8
    readings, ledger = alone(int8_bundle, engine, 125.0, taken)
    assert_equal(said, readings)
    assert (ledger.gap, stream.ledger.dropped, stream.ledger.gap) == (400, 400, 0)
    assert stream.ledger.scored == ledger.scored
    assert stream.ledger.is_balanced


def test_lost_blocks_that_follow_each_other_take_no_room() -> None:
    inbox = Inbox(10)
    for start in range(0, 5000, 5):
        inbox.offer(Block(start=start, samples=np.zeros((5, 1), np.float32)))
    inbox.offer(Block(start=6000, samples=np.zeros((5, 1), np.float32)))
    items = [inbox.take() for _ in range(len(inbox))]
    assert len(items) == 3
    assert items[2] == Lost(10, 6005, 4995)
    assert inbox.queued == 0


def test_a_partial_batch_runs_at_the_deadline_and_a_full_one_at_once(
    int8_bundle: Bundle, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle, deadline_s=0.02)
    a, b = (gateway.join(name, StreamSpec(rate_hz=125.0)) for name in "ab")

    def hop(i: int) -> Block:
        return Block(start=25 * i, samples=np.zeros((25, 1), np.float32))

    for stream in (a, b):
        stream.offer(hop(0))
    gateway.step(0)
    assert (gateway.n_calls, gateway.n_steps) == (1, 2)
    a.offer(hop(1))
    gateway.step(100 * MS)
    assert gateway.n_calls == 1
    assert gateway.wait_s(105 * MS) == pytest.approx(0.015)
    gateway.step(119 * MS)
    assert gateway.n_calls == 1
    gateway.step(120 * MS)
    assert (gateway.n_calls, gateway.n_steps) == (2, 3)
    # The other comes in time: one call for both.
    a.offer(hop(2))
    gateway.step(200 * MS)
    b.offer(hop(1))
    gateway.step(210 * MS)
    assert (gateway.n_calls, gateway.n_steps) == (3, 5)
    # Who has been silent for a second is not waited for.
    a.offer(hop(3))
    gateway.step(1300 * MS)
    assert (gateway.n_calls, gateway.n_steps) == (4, 6)
    assert gateway.wait_s(1300 * MS) is None


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Block(start=5, samples=np.zeros((9, 1), np.float32)), "goes back from 130 to 5"),
        (Block(start=130, samples=np.zeros((9, 2), np.float32)), "has 2 columns; 1 wanted"),
        (Block(start=130, samples=np.full((1500, 1), np.nan, np.float32)), "1500 of 1630 samples are not numbers"),
    ],
)
def test_a_stream_that_breaks_ends_with_its_ledger_and_the_others_go_on(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway], broken: Block, words: str
) -> None:
    gateway = gateway_of(int8_bundle, queue_s=30.0)
    bad, good = (gateway.join(name, StreamSpec(rate_hz=125.0)) for name in ("bad", "good"))
    x = ecg(8.0, 125.0, seed=1)
    bad.offer(Block(start=0, samples=x[:130]))
    bad.offer(broken)
    bad.offer(Block(start=5000, samples=x[:10]))
    w = Wearable(good, cut(x, [40]), [])
    drain(gateway, [w])
    assert isinstance(bad.error, SourceError)
    assert words in str(bad.error)
    assert bad.ledger.is_balanced
    assert bad.ledger.scored == 130
    assert not bad.offer(Block(start=9000, samples=x[:10]))
    assert_equal(w.said, alone(int8_bundle, engine, 125.0, w.blocks)[0])


def test_who_does_not_suit_or_finds_no_room_is_refused(int8_bundle: Bundle, gateway_of: Callable[..., Gateway]) -> None:
    gateway = gateway_of(int8_bundle, n_slots=1)
    with pytest.raises(SettingsError, match="1 channels in V; the bundle ecg-beats wants 1 in mV"):
        gateway.join("bed", StreamSpec(rate_hz=125.0, unit="V"))
    with pytest.raises(SettingsError, match="stream rate is 10 Hz"):
        gateway.join("bed", StreamSpec(rate_hz=10.0))
    gateway.join("bed", StreamSpec(rate_hz=125.0))
    with pytest.raises(SettingsError, match="of this name is there already"):
        gateway.join("bed", StreamSpec(rate_hz=125.0))
    with pytest.raises(SettingsError, match="1 streams are there; no more is allowed"):
        gateway.join("other", StreamSpec(rate_hz=125.0))


def swapped(
    gateway: Gateway, model: Model, streams: Sequence[Stream], signals: Sequence[Float32Array], at: int
) -> list[list[Reading]]:
    """Readings of streams that are fed 0.1 s at a time, with another model from the given block on."""
    said: dict[Stream, list[Reading]] = {s: [] for s in streams}
    now_ns = 0
    for i in range(0, max(map(len, signals)) // 13 + 1):
        if i == at:
            gateway.swap(model)
        for stream, x in zip(streams, signals, strict=True):
            if len(part := x[13 * i : 13 * i + 13]):
                assert stream.offer(Block(start=13 * i, samples=part))
        now_ns += 104 * MS
        for stream, reading in gateway.step(now_ns):
            said[stream].append(reading)
    for stream in streams:
        stream.end()
    while gateway.streams:
        now_ns += 30 * MS
        for stream, reading in gateway.step(now_ns):
            said[stream].append(reading)
    return list(said.values())


def test_a_bundle_with_the_same_weights_takes_over_unnoticed(
    bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    """Any difference between the swapped and the unswapped run would be a sample lost, or seen twice."""
    gateway = gateway_of(bundle)
    streams = [gateway.join(f"bed{i}", StreamSpec(rate_hz=125.0)) for i in range(5)]
    signals = [ecg(25.0 - 4.0 * i, 125.0, seed=i) for i in range(5)]
    said = swapped(gateway, open_model(bundle, engine, 8), streams, signals, at=115)
    for stream, x, readings in zip(streams, signals, said, strict=True):
        wanted, ledger = alone(bundle, engine, 125.0, cut(x, [13]))
        assert_equal(readings, wanted)
        assert stream.ledger == ledger


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same shape and contract with other weights."""
    student = tiny_models.trained_student(steps=80)
    return tiny_models.packed(student, tmp_path_factory.mktemp("other") / "bundle", is_int8=True).bundle


def test_a_new_bundle_finds_the_beats_it_would_have_found_had_it_always_run(
    int8_bundle: Bundle, other_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle)
    streams = [gateway.join(f"bed{i}", StreamSpec(rate_hz=125.0)) for i in range(3)]
    signals = [ecg(30.0, 125.0, seed=20 + i) for i in range(3)]
    at = 120
    said = swapped(gateway, open_model(other_bundle, engine, 8), streams, signals, at)
    differ = 0
    for stream, x, readings in zip(streams, signals, said, strict=True):
        boundary, m = 13 * at, int8_bundle.manifest
        # A peak is certain ten frames behind it, at most a hop later than its last sample.
        before = [r.sample for r in readings if r.sample < boundary - m.delay_samples - m.hop_samples]
        after = [r.sample for r in readings if r.sample > boundary + m.hop_samples]
        old, new = ([r.sample for r in alone(b, engine, 125.0, cut(x, [13]))[0]] for b in (int8_bundle, other_bundle))
        assert before == [s for s in old if s < boundary - m.delay_samples - m.hop_samples]
        assert after == [s for s in new if s > boundary + m.hop_samples]
        assert min(len(before), len(after)) > 8
        assert np.all(np.diff([r.sample for r in readings]) > 20)  # no beat twice at the seam
        assert stream.ledger.is_balanced
        assert stream.ledger.scored == len(x)
        differ += old != new
    assert differ  # the two bundles can be told apart


def test_a_bundle_with_another_contract_is_refused_and_the_old_one_goes_on(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle)
    model = open_model(int8_bundle, engine, 8)
    for change, words in (
        ({"classes": ("N", "S", "V", "X")}, "classes is"),
        ({"unit": "uV"}, "unit is uV; the running bundle has mV"),
        ({"receptive_field_samples": 10**6}, "receptive_field_samples is 1000000"),
    ):
        with pytest.raises(BundleError, match=words):
            gateway.swap(replace(model, manifest=replace(model.manifest, **change)))
    assert gateway.model is not model


def test_a_bundle_of_one_stream_only_says_what_to_do(int8_bundle: Bundle, engine: OnnxEngine, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(int8_bundle.file("trunk.onnx"))
    for value in [*model.graph.input, *model.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == "streams":
                dimension.dim_value = 1
    onnx.save(model, tmp_path / "trunk.onnx")
    with pytest.raises(Exception, match="so pack it anew"):
        open_model(replace(int8_bundle, path=tmp_path), engine, 2)


def test_the_shipped_bundle_runs_in_batches(engine: OnnxEngine) -> None:
    bundle = open_bundle(Path(__file__).parents[1] / "deploy" / "bundles" / "ecg-beats")
    gateway = Gateway(open_model(bundle, engine, 4), n_slots=4)
    wearables = []
    for i in range(4):
        blocks = cut(ecg(12.0, 250.0, seed=i), [50])
        wearables.append(Wearable(gateway.join(f"bed{i}", StreamSpec(rate_hz=250.0)), blocks, []))
    drain(gateway, wearables)
    for w in wearables:
        readings, ledger = alone(bundle, engine, 250.0, w.blocks)
        assert len(readings) > 8
        assert_equal(w.said, readings)
        assert w.stream.ledger == ledger


def test_what_a_sensor_says_of_its_signal_reaches_the_readings(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    x, gateway = ecg(16.0, 125.0, seed=4), gateway_of(int8_bundle)
    x[900] = np.nan  # a block that is cut is heard once
    blocks: list[Block] = [
        SensorBlock(start=b.start, samples=b.samples, quality=np.full(len(b.samples), word, np.float32))
        for b in cut(x, [40])
        for word in [0.1 if 500 < b.start < 800 else 0.9]
    ]
    w = Wearable(gateway.join("bed", StreamSpec(rate_hz=125.0)), blocks, [])
    drain(gateway, [w])
    wanted, _ = alone(int8_bundle, engine, 125.0, blocks)
    assert_equal(w.said, wanted)
    # Of the second before them more than 90 % was called bad.
    assert {r.value is None for r in wanted if 665 < r.sample < 800} == {True}
