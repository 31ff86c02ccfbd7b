"""Streams with a pipeline each in one process: bundles of windows, LiteRT, bundles that fill gaps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from wearables import alone, cut, ecg

from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.contract.errors import BundleError, EngineError, SettingsError, SourceError
from edge_runtime.contract.manifest import Graph
from edge_runtime.contract.signal import Block, Float32Array, Ledger, Reading, StreamSpec
from edge_runtime.engine.engine import Engine, Stepper
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.gateway_ways import why_one_by_one
from edge_runtime.inbox import Inlet
from edge_runtime.one_by_one import OneByOne, open_alone
from edge_runtime.sensors.sensor_block import SensorBlock

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "deploy" / "bundles"
PULSES = StreamSpec(rate_hz=50.0, unit="NU", channels=("PLETH", "RESP"))


def pulses(seconds: float, seed: int) -> Float32Array:
    """float32 (n, 2): two waves with noise, at 50 Hz."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * 50.0)) / 50.0
    x = np.stack([np.sin(2 * np.pi * f * t) for f in (1.2 + 0.1 * seed, 0.3)], axis=1)
    return np.asarray(x + 0.1 * rng.standard_normal(x.shape), np.float32)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A bundle in the form to run, its engine, and streams that suit it."""

    bundle: Bundle
    engine: Engine
    streams: list[tuple[StreamSpec, Float32Array]]


def leads(*rates: float) -> list[tuple[StreamSpec, Float32Array]]:
    return [(StreamSpec(rate_hz=r), ecg(14.0, r, seed)) for seed, r in enumerate(rates)]


@pytest.fixture(params=["windows of a lead", "windows of two channels", "beats on LiteRT", "beats across gaps"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param.startswith("windows"):
        bundles = request.getfixturevalue("window_bundles")
        if request.param.endswith("lead"):
            return Case(bundle=bundles["rhythm"], engine=OnnxEngine(), streams=leads(125.0, 250.0, 360.0))
        streams = [(PULSES, pulses(14.0, seed)) for seed in range(3)]
        return Case(bundle=bundles["rate"], engine=OnnxEngine(), streams=streams)
    if request.param == "beats on LiteRT":
        bundle: Bundle = request.getfixturevalue("all_forms_bundle")
        form = next(f for f in bundle.manifest.all_forms if (f.engine, f.precision) == ("litert", "int8"))
        return Case(bundle=bundle.in_form(form), engine=open_engine(1, "litert"), streams=leads(125.0, 250.0))
    bundle = request.getfixturevalue("int8_bundle")
    filling = replace(bundle, manifest=replace(bundle.manifest, fill_gap_s=0.3))
    return Case(bundle=filling, engine=OnnxEngine(), streams=leads(125.0, 250.0))


def drain(gateway: OneByOne) -> list[tuple[Inlet, Reading]]:
    said: list[tuple[Inlet, Reading]] = []
    while gateway.wait_s(0) == 0.0:
        said += gateway.step(0)
    return said


def test_streams_read_as_each_would_alone(case: Case) -> None:
    gateway, rng = OneByOne(open_alone(case.bundle, case.engine), n_slots=4, queue_s=100.0), np.random.default_rng(1)
    wanted, waiting, said = {}, [], {}
    for i, (spec, x) in enumerate(case.streams):
        x[round(6.0 * spec.rate_hz)] = np.nan
        blocks = cut(x, rng.integers(1, round(1.6 * spec.rate_hz), 50).tolist(), lost=[9 + i])
        stream = gateway.join(f"bed{i}", spec)
        wanted[stream] = alone(case.bundle, case.engine, spec, blocks)
        said[stream] = list[Reading]()
        waiting.append((stream, blocks))
    while any(blocks for _, blocks in waiting):
        stream, blocks = waiting[int(rng.integers(len(waiting)))]
        if blocks:
            assert stream.offer(blocks.pop(0))
        for who, reading in gateway.step(0) if rng.random() < 0.5 else []:
            said[who].append(reading)
    for stream, _ in waiting:
        stream.end()
    for who, reading in drain(gateway):
        said[who].append(reading)
    for stream, (readings, ledger) in wanted.items():
        assert said[stream] == readings
        assert len(readings) > 3
        assert stream.ledger == ledger
        assert ledger.is_balanced
        assert min(ledger.dropped, ledger.gap + ledger.interpolated) > 0
    assert not gateway.streams


def test_one_turn_serves_everybody_however_much_one_brought(window_bundles: dict[str, Bundle]) -> None:
    gateway = OneByOne(open_alone(window_bundles["rhythm"], OnnxEngine()), n_slots=3, queue_s=600.0)
    flood, calm = (gateway.join(name, StreamSpec(rate_hz=125.0)) for name in ("flood", "calm"))
    flood.offer(Block(start=0, samples=ecg(300.0, 125.0, 1)))
    calm.offer(Block(start=0, samples=ecg(1.0, 125.0, 2)))
    gateway.step(0)
    assert gateway.ledger(calm).received == 125
    assert gateway.ledger(flood).received == 125  # a second of it
    assert gateway.lag_s(calm) == 0.0
    assert gateway.lag_s(flood) == pytest.approx(299.0)


def test_what_a_sensor_says_is_cut_with_its_block(window_bundles: dict[str, Bundle]) -> None:
    x, spec = ecg(12.0, 125.0, 3), StreamSpec(rate_hz=125.0)
    quality = np.where(np.arange(len(x)) < 700, 0.1, 0.9).astype(np.float32)
    block = SensorBlock(start=0, samples=x, quality=quality, contact=np.ones(len(x), np.bool_))
    gateway = OneByOne(open_alone(window_bundles["rhythm"], OnnxEngine()), n_slots=1, queue_s=600.0)
    stream = gateway.join("bed", spec)
    stream.offer(block)
    stream.end()
    given = [r for _, r in drain(gateway)]
    assert given == alone(window_bundles["rhythm"], OnnxEngine(), spec, [block])[0]
    assert {r.value is None for r in given if r.sample < 700} == {True}
    assert {r.value is None for r in given if r.sample > 1250} == {False}


@pytest.mark.parametrize("is_last", [False, True])
def test_what_finds_no_room_is_dropped_and_no_gap(window_bundles: dict[str, Bundle], *, is_last: bool) -> None:
    bundle, spec, x = window_bundles["rhythm"], StreamSpec(rate_hz=125.0), ecg(16.0, 125.0, 2)
    gateway = OneByOne(open_alone(bundle, OnnxEngine()), n_slots=1, queue_s=2.0)  # 250 samples
    stream, taken, said = gateway.join("bed", spec), [], []
    blocks = [b for b in cut(x, [50]) if b.start != 100]  # one never arrives
    for i, block in enumerate(blocks):
        if stream.offer(block):
            taken.append(block)
        if is_last and i == len(blocks) - 1:
            break
        if not 20 <= i < 32:  # nobody comes for 13 blocks: 5 fit
            said += [r for _, r in drain(gateway)]
            assert gateway.so_far(stream).is_balanced
    if is_last:  # a flood at the very end, in which 25 samples never arrive
        for i in range(8):
            stream.offer(Block(start=len(x) + 50 * i + 25 * (i == 7), samples=x[:50]))
    stream.end()
    said += [r for _, r in drain(gateway)]
    assert stream.ledger.is_balanced
    assert stream.ledger.gap == (75 if is_last else 50)
    if not is_last:
        readings, ledger = alone(bundle, OnnxEngine(), spec, taken)
        assert said == readings
        assert stream.inbox.dropped == ledger.gap - 50 == 400
        assert stream.ledger.dropped == ledger.dropped + 400
        assert stream.ledger.scored == ledger.scored
    assert stream.ledger.received == len(x) + (425 if is_last else 0)


@pytest.mark.parametrize(
    ("broken", "words", "counted"),
    [
        (Block(start=5, samples=np.zeros((9, 1), np.float32)), "goes back from 130 to 5", 9),
        (Block(start=130, samples=np.zeros((9, 2), np.float32)), "has 2 columns; 1 wanted", 9),
    ],
)
def test_a_stream_that_breaks_ends_with_its_ledger_and_the_others_go_on(
    window_bundles: dict[str, Bundle], broken: Block, words: str, counted: int
) -> None:
    bundle, spec, x = window_bundles["rhythm"], StreamSpec(rate_hz=125.0), ecg(10.0, 125.0, 1)
    gateway = OneByOne(open_alone(bundle, OnnxEngine()), n_slots=2, queue_s=60.0)
    bad, good = (gateway.join(name, spec) for name in ("bad", "good"))
    for block in (Block(start=0, samples=x[:130]), broken, Block(start=5000, samples=x[:10])):
        bad.offer(block)
    for block in cut(x, [40]):
        good.offer(block)
    good.end()
    said = drain(gateway)
    assert isinstance(bad.error, SourceError)
    assert words in str(bad.error)
    assert bad.ledger.is_balanced
    assert bad.ledger.received == 130 + counted + 10
    assert not bad.offer(Block(start=9000, samples=x[:10]))
    assert gateway.step(0) == []
    assert [r for s, r in said if s is good] == alone(bundle, OnnxEngine(), spec, cut(x, [40]))[0]


def test_a_signal_that_is_mostly_not_numbers_ends_its_stream(window_bundles: dict[str, Bundle]) -> None:
    gateway = OneByOne(open_alone(window_bundles["rhythm"], OnnxEngine()), n_slots=1, queue_s=60.0)
    stream = gateway.join("bed", StreamSpec(rate_hz=125.0))
    stream.offer(Block(start=0, samples=np.full((1500, 1), np.nan, np.float32)))
    drain(gateway)
    assert "are not numbers" in str(stream.error)
    assert stream.ledger == Ledger(received=1500, scored=0, dropped=1500, gap=0)


def test_who_does_not_suit_or_finds_no_room_is_refused(window_bundles: dict[str, Bundle]) -> None:
    gateway = OneByOne(open_alone(window_bundles["rate"], OnnxEngine()), n_slots=1)
    with pytest.raises(SettingsError, match="bed: stream is in mV; the bundle tiny-rate wants NU"):
        gateway.join("bed", StreamSpec(rate_hz=50.0))
    with pytest.raises(SettingsError, match="bed: stream has 1 channels"):
        gateway.join("bed", StreamSpec(rate_hz=50.0, unit="NU"))
    gateway.join("bed", PULSES)
    with pytest.raises(SettingsError, match="of this name is there already"):
        gateway.join("bed", PULSES)
    with pytest.raises(SettingsError, match="1 streams are there; no more is allowed"):
        gateway.join("other", PULSES)


class Counting:
    """An engine that counts what it loads."""

    def __init__(self) -> None:
        self._engine = OnnxEngine()
        self.name, self.version, self.provider = "onnxruntime", self._engine.version, self._engine.provider
        self.n_loaded = 0

    def load(self, bundle: Bundle, graph: Graph) -> Stepper:
        self.n_loaded += 1
        return self._engine.load(bundle, graph)


def test_a_graph_without_state_is_loaded_once_for_all_streams(
    window_bundles: dict[str, Bundle], int8_bundle: Bundle
) -> None:
    for bundle, spec, wanted in (
        (window_bundles["rate"], PULSES, 1),
        (int8_bundle, StreamSpec(rate_hz=125.0), 2 + 4 * 2),  # a trunk and a head each
    ):
        engine = Counting()
        gateway = OneByOne(open_alone(bundle, engine), n_slots=4)
        for i in range(4):
            gateway.join(f"bed{i}", spec)
        assert engine.n_loaded == wanted


def played(gateway: OneByOne, x: Float32Array, other: Bundle, at: int, size: int = 25) -> tuple[list[Reading], Inlet]:
    """Readings of one stream, a block at a time, with another bundle from some sample on."""
    stream, said = gateway.join("bed", StreamSpec(rate_hz=125.0)), []
    for block in cut(x, [size]):
        if block.start <= at < block.stop:
            gateway.swap(open_alone(other, OnnxEngine()))
        stream.offer(block)
        said += [r for _, r in gateway.step(0)]
        assert gateway.so_far(stream).is_balanced
    stream.end()
    said += [r for _, r in drain(gateway)]
    return said, stream


def test_beats_go_on_where_another_bundle_with_the_same_weights_takes_over(int8_bundle: Bundle) -> None:
    """Any difference would be a sample lost, or a beat that is said twice."""
    x = ecg(60.0, 125.0, 7)
    bundle = replace(int8_bundle, manifest=replace(int8_bundle.manifest, fill_gap_s=0.1))
    wanted, ledger = alone(bundle, OnnxEngine(), StreamSpec(rate_hz=125.0), cut(x, [25]))
    for at in (1250, 2175, 3125):
        gateway = OneByOne(open_alone(bundle, OnnxEngine()), n_slots=1)
        given, stream = played(gateway, x, replace(bundle), at)
        assert [r.sample for r in given] == [r.sample for r in wanted]
        assert stream.ledger == ledger
        assert gateway.model.bundle is not bundle


def test_no_beat_is_said_twice_or_lost_where_the_new_bundle_counts_its_hops_from_another_sample(
    int8_bundle: Bundle,
) -> None:
    x, opened = ecg(30.0, 125.0, 7), open_alone(int8_bundle, OnnxEngine())
    wanted, _ = alone(int8_bundle, OnnxEngine(), StreamSpec(rate_hz=125.0), cut(x, [13]))
    for at in range(1000, 1130, 13):
        given, stream = played(OneByOne(opened, n_slots=1), x, replace(int8_bundle), at, size=13)
        assert stream.ledger.is_balanced
        assert len(given) == len(wanted)
        # Its frames of 5 samples lie elsewhere, so it may find a peak some samples away.
        assert np.abs(np.subtract([r.sample for r in given], [r.sample for r in wanted])).max() <= 5


def test_windows_of_a_new_bundle_follow_the_old_ones_and_no_sample_counts_twice(
    window_bundles: dict[str, Bundle],
) -> None:
    bundle, x = window_bundles["rhythm"], ecg(40.0, 125.0, 7)
    given, stream = played(OneByOne(open_alone(bundle, OnnxEngine()), n_slots=1), x, replace(bundle), 1425)
    samples = [r.sample for r in given]
    # One a second, but where the new bundle's windows begin at other samples; 4 s of signal in each.
    steps = [b - a for a, b in pairwise(samples)]
    assert samples[0] == 499
    assert [s for s in steps if s != 125] == [s for s in steps if 0 < s < 125]
    assert len([s for s in steps if s != 125]) == 1
    assert stream.ledger.is_balanced
    assert stream.ledger.received == len(x)
    # All but what is left of the last window.
    assert len(x) - 125 < stream.ledger.scored <= len(x)


def test_a_bundle_that_says_something_else_is_refused_and_the_old_one_goes_on(
    window_bundles: dict[str, Bundle],
) -> None:
    bundle = window_bundles["rhythm"]
    gateway = OneByOne(open_alone(bundle, OnnxEngine()), n_slots=1)
    other = replace(bundle, manifest=replace(bundle.manifest, classes=("N", "A", "X")))
    with pytest.raises(BundleError, match=r"classes is .*; the running bundle has"):
        gateway.swap(open_alone(other, OnnxEngine()))
    with pytest.raises(BundleError, match="task is"):
        gateway.swap(open_alone(window_bundles["rate"], OnnxEngine()))
    assert gateway.model.bundle is bundle


def test_a_graph_that_does_not_load_is_refused_before_any_stream_joins(window_bundles: dict[str, Bundle]) -> None:
    bundle = window_bundles["rhythm"]
    with pytest.raises(EngineError):
        open_alone(replace(bundle, path=Path("/nowhere")), OnnxEngine())


def test_which_way_a_gateway_goes(window_bundles: dict[str, Bundle], int8_bundle: Bundle) -> None:
    shipped = open_bundle(BUNDLES / "ecg-beats").manifest
    assert why_one_by_one(shipped, "auto") is None
    assert why_one_by_one(shipped, "onnxruntime") is None
    assert why_one_by_one(shipped, "litert") == "LiteRT takes one stream in a call"
    assert "fills gaps up to 0.2 s" in str(why_one_by_one(replace(shipped, fill_gap_s=0.2), "auto"))
    assert "task respiration-rate" in str(why_one_by_one(window_bundles["rate"].manifest, "auto"))


def test_the_command_runs_a_bundle_of_windows_and_says_which_way(
    window_bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    """A receiver on standard input would be one stream; two files that are played in real time are two."""
    np.save(tmp_path / "x.npy", ecg(5.0, 125.0, 1))
    url = f"npy:{tmp_path}/x.npy?rate_hz=125"
    command = [sys.executable, "-m", "edge_runtime", "gateway", str(window_bundles["rhythm"].path), f"a={url}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(tmp_path)}
    begun = time.monotonic()
    done = subprocess.run(
        [*command, f"b={url}", "--json"], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "a pipeline for each stream (task rhythm has no form for many streams)" in done.stderr
    assert done.stdout.count('"name": "rhythm"') == 4  # seconds 4 and 5 of each
    assert done.stdout.count('"name": "ledger"') == 2
    assert time.monotonic() - begun > 4.0
