"""The gateway against N single pipelines: cuts, gaps, missing samples, joining and leaving, floods, stalls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from wearables import MS, Wearable, alone, assert_equal, cut, drain, ecg

from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.contract.rows import rows_of
from edge_runtime.contract.signal import Block, Ledger, StreamSpec
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.gateway import Gateway, Stream
from edge_runtime.sensors.sensor_block import SensorBlock
from edge_runtime.slots import open_model


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
        wanted.append(alone(bundle, engine, StreamSpec(rate_hz=rate), blocks))
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
            readings, ledger = alone(int8_bundle, engine, StreamSpec(rate_hz=w.stream.rate_hz), w.blocks)
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
        readings, ledger = alone(
            int8_bundle, engine, StreamSpec(rate_hz=125.0), [Block(start=0, samples=signals[i, :, None])]
        )
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
        readings, ledger = alone(int8_bundle, engine, StreamSpec(rate_hz=w.stream.rate_hz), w.blocks)
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


def test_the_shipped_bundle_runs_in_batches(engine: OnnxEngine) -> None:
    bundle = open_bundle(Path(__file__).parents[2] / "deploy" / "bundles" / "ecg-beats")
    gateway = Gateway(open_model(bundle, engine, 4), n_slots=4)
    wearables = []
    for i in range(4):
        blocks = cut(ecg(12.0, 250.0, seed=i), [50])
        wearables.append(Wearable(gateway.join(f"bed{i}", StreamSpec(rate_hz=250.0)), blocks, []))
    drain(gateway, wearables)
    for w in wearables:
        readings, ledger = alone(bundle, engine, StreamSpec(rate_hz=250.0), w.blocks)
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
    wanted, _ = alone(int8_bundle, engine, StreamSpec(rate_hz=125.0), blocks)
    assert_equal(w.said, wanted)
    # Of the second before them more than 90 % was called bad.
    assert {r.value is None for r in wanted if 665 < r.sample < 800} == {True}
