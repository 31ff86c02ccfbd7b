"""Stages of many streams against the stages of one: the same values for every slot, whoever steps together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.preprocess_many import HopConditioner
from edge_runtime.contract.rows import rows_of
from edge_runtime.contract.signal import Block, Float32Array
from edge_runtime.engine.batch import SlottedGraph
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.vitals.many_quality import ManyQualities
from edge_runtime.vitals.many_support import ManySupports
from edge_runtime.vitals.quality import SignalQuality
from edge_runtime.vitals.recent import RecentSignal
from edge_runtime.vitals.support import BeatSupport

HOP = 25
# Sums in another order differ in the last bits of float64, which float32 shows only near zero.
ROUNDING_MV = 1e-12


def walk(n: int, seed: int) -> Float32Array:
    """A signal that drifts, float32 (n,)."""
    return np.asarray(3.0 + 0.1 * np.random.default_rng(seed).standard_normal(n).cumsum(), np.float32)


@pytest.mark.parametrize("rate_hz", [51.2, 100.0, 125.0, 128.0, 130.0, 250.0, 360.0, 500.0, 1000.0, 4096.0])
def test_hops_of_many_are_what_each_conditioner_gives(rate_hz: float) -> None:
    starts = [0, 0, 7, 1000, 12345]
    many = HopConditioner(Conditioning(), rate_hz, HOP, len(starts))
    signals = [walk(round(6 * rate_hz), seed) for seed in range(len(starts))]
    rng = np.random.default_rng(0)
    taken: list[list[Float32Array]] = [[] for _ in starts]
    done = [0] * len(starts)
    for slot, start in enumerate(starts):
        many.begin(slot, start, float(signals[slot][0]))
    while any(d < len(x) for d, x in zip(done, signals, strict=True)):
        n = int(rng.integers(1, many.most + 1))
        n = min([n, *(len(x) - d for d, x in zip(done, signals, strict=True) if d < len(x))])
        some = [s for s in range(len(starts)) if done[s] < len(signals[s]) and rng.random() < 0.7]
        if some:
            many.put(rows_of(np.array(some)), np.stack([signals[s][done[s] : done[s] + n] for s in some]))
        for s in some:
            done[s] += n
        while len((due := many.due()).slots):
            for slot, hop in zip(due.slots.tolist(), many.take(due), strict=True):
                taken[slot].append(hop)
    for slot, start in enumerate(starts):
        one = Conditioner(Conditioning(), rate_hz)
        wanted = np.concatenate([b.samples[:, 0] for b in one.feed(Block(start=start, samples=signals[slot][:, None]))])
        given_ = np.concatenate(taken[slot])
        assert len(given_) == len(wanted) // HOP * HOP
        np.testing.assert_allclose(given_, wanted[: len(given_)], rtol=1.2e-7, atol=ROUNDING_MV)


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 360.0, 1000.0])
@pytest.mark.parametrize("slots", [[0, 1, 2], [0, 2, 4]])
def test_segments_that_go_in_step_and_part_are_what_each_conditioner_gives(rate_hz: float, slots: list[int]) -> None:
    """In step for four seconds; one ends and begins anew; each comes by itself; one is silent; and in step again."""
    many, hop = HopConditioner(Conditioning(), rate_hz, HOP, 5), round(HOP * rate_hz / 125.0)
    signals = {slot: walk(60 * hop, slot) for slot in slots}
    wanted: list[tuple[Float32Array, list[Float32Array]]] = []  # of a segment: its samples, its hops
    segment: dict[int, tuple[int, list[Float32Array]]] = {}  # of a slot: where it began, its hops

    def begin(slot: int, at: int) -> None:
        many.begin(slot, at, float(signals[slot][at]))
        segment[slot] = at, []

    def end(slot: int, at: int) -> None:
        many.end(slot)
        wanted.append((signals[slot][segment[slot][0] : at], segment[slot][1]))

    def take() -> None:
        while len((due := many.due()).slots):
            for slot, x in zip(due.slots.tolist(), many.take(due), strict=True):
                segment[slot][1].append(x)

    for slot in slots:
        begin(slot, 0)
    for k in range(60):
        at = k * hop
        if k == 20:
            end(slots[1], at)
            begin(slots[1], at)
        if 30 <= k < 33:  # its own way
            for slot in slots:
                many.put(rows_of([slot]), signals[slot][None, at : at + hop])
                take()
            continue
        if 36 <= k < 42:  # one is silent
            many.put(rows_of(slots[:2]), np.stack([signals[s][at : at + hop] for s in slots[:2]]))
            take()
            if k == 41:
                many.put(rows_of(slots[2:]), signals[slots[2]][None, 36 * hop : 42 * hop])
                take()
            continue
        if k == 45:
            assert many.last(slots[0]) == signals[slots[0]][at - 1]
        assert many.takes(rows_of(slots), hop)
        many.put(rows_of(slots), np.stack([signals[s][at : at + hop] for s in slots]))
        take()
    for slot in slots:
        end(slot, 60 * hop)
    assert len(wanted) == 4
    for samples, hops in wanted:
        one, start = Conditioner(Conditioning(), rate_hz), 20 * hop if len(samples) == 40 * hop else 0
        expected = np.concatenate([b.samples[:, 0] for b in one.feed(Block(start=start, samples=samples[:, None]))])
        given_ = np.concatenate(hops)
        assert len(given_) == len(expected) // HOP * HOP
        np.testing.assert_allclose(given_, expected[: len(given_)], rtol=1.2e-7, atol=ROUNDING_MV)


def test_who_waits_is_not_forgotten_by_those_that_go_in_step() -> None:
    many, x = HopConditioner(Conditioning(), 125.0, HOP, 3), walk(10 * HOP, 1)
    for slot in range(3):
        many.begin(slot, 0, float(x[0]))
    many.put(rows_of([2]), x[None, :HOP])
    pair = rows_of([0, 1])
    for k in range(5):
        many.put(pair, np.stack([x[k * HOP : (k + 1) * HOP]] * 2))
        assert many.due().slots.tolist() == [0, 1, 2]
        many.take(pair)
    assert many.due().slots.tolist() == [2]


def test_a_slot_forgets_the_stream_that_was_in_it_before() -> None:
    x = walk(500, 1)

    def hops(many: HopConditioner) -> Float32Array:
        many.begin(0, 10, float(x[0]))
        out = []
        for i in range(0, 500, 20):
            many.put(rows_of(np.array([0])), x[None, i : i + 20])
            while len((due := many.due()).slots):
                out.append(many.take(due))
        many.end(0)
        return np.concatenate(out)

    used = HopConditioner(Conditioning(), 250.0, HOP, 1)
    used.begin(0, 999, 5.0)
    used.put(rows_of(np.array([0])), np.full((1, 30), 5.0, np.float32))
    used.end(0)
    np.testing.assert_array_equal(hops(used), hops(HopConditioner(Conditioning(), 250.0, HOP, 1)))


@pytest.mark.parametrize("kind", ["int8", "fp32"])
@pytest.mark.parametrize("name", ["trunk", "head"])
def test_slots_that_step_together_in_any_groups_are_single_streams(
    int8_bundle: Bundle, fp32_bundle: Bundle, engine: OnnxEngine, kind: str, name: str
) -> None:
    bundle = int8_bundle if kind == "int8" else fp32_bundle
    graph, n = bundle.manifest.graph(name), 7
    singles = [engine.load(bundle, graph) for _ in range(n)]
    # Groups of up to 7 in batches of up to 4: some steps are cut into two calls.
    many = SlottedGraph(engine, bundle, graph, n, sizes=(1, 2, 4))
    rng, slots = np.random.default_rng(2), np.arange(n)
    for turn in range(40):
        if turn == 20:
            singles[3].reset()
            many.reset(3)
        if turn % 3 != 1:  # the same slots twice, so that their state stays in the engine's buffers; then others
            slots = np.sort(rng.permutation(n)[: rng.integers(1, n + 1)])
        inputs = [rng.standard_normal((len(slots), int(np.prod(t.shape)))).astype(np.float32) for t in graph.inputs]
        given_ = many.step(rows_of(slots), inputs).copy()
        for row, slot in enumerate(slots.tolist()):
            for tensor, x in zip(graph.inputs, inputs, strict=True):
                singles[slot].inputs[tensor.name].reshape(-1)[...] = x[row]
            singles[slot].step()
            wanted = singles[slot].outputs[graph.outputs[0].name].reshape(-1)
            if name == "trunk" and kind == "int8":
                np.testing.assert_array_equal(given_[row], wanted)
            else:
                np.testing.assert_allclose(given_[row], wanted, atol=1e-5 * max(1.0, np.abs(wanted).max()))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from([5, 25, 50, 125, 40]), st.integers(0, 2**16), st.integers(0, 10**6))
def test_quality_of_many_is_the_quality_of_each(hop: int, seed: int, start: int) -> None:
    rng, recent = np.random.default_rng(seed), RecentSignal(125)
    one = SignalQuality(125, recent)
    bad = rng.choice([0.0, 0.02, 0.3])  # share of hops that are flat or out of range
    many = ManyQualities(125, hop, 3)
    many.begin(1)
    for i in range(1200 // hop):
        x = rng.standard_normal(hop).astype(np.float32)
        if rng.random() < bad:
            x[:] = rng.choice([0.0, 20.0])
        at = start + i * hop
        recent.watch(Block(start=at, samples=x[:, None]))
        many.watch(rows_of(np.array([1])), x[None])
        where = max(start, at - 100)
        for stop in {at + 1, at + hop // 2, at + hop}:
            is_broken, share = many.judge(np.array([1]), np.array([where - start]), np.array([stop - start]))
            assert share[0] == one.share(stop)
            assert is_broken[0] == one.is_broken(where)


@pytest.mark.parametrize("noise_mv", [0.0, 0.05, 0.3, 2.0])
def test_support_of_many_is_the_support_of_each(noise_mv: float) -> None:
    """Beats of two patients, with more and more noise, and a lead that comes off at the end of one."""
    rng, n, keep = np.random.default_rng(5), 6000, 0.98
    t = np.arange(n)
    signals = np.zeros((2, n), np.float32)
    positions = [np.arange(60, n - 200, 97) + rng.uniform(-0.4, 0.4, len(range(60, n - 200, 97))) for _ in range(2)]
    for row, at in zip(signals, positions, strict=True):
        for p in at:
            row += np.exp(-0.5 * ((t - p) / 2.5) ** 2).astype(np.float32)
        row += (noise_mv * rng.standard_normal(n)).astype(np.float32)
    # What a high-pass makes of a constant value: a decay.
    signals[1, 5000:] = signals[1, 5000] * keep ** np.arange(1000)
    many = ManySupports(125.0, keep, signals)
    singles = [BeatSupport(125.0, keep) for _ in range(2)]
    for slot in range(2):
        many.begin(slot)
    answers = []
    for pair in zip(*positions, strict=True):
        seen = np.array([round(p) + 95 for p in pair])
        given_ = many.holds(np.arange(2), np.rint(pair).astype(np.int64), seen)
        for slot, (p, single) in enumerate(zip(pair, singles, strict=True)):
            x = signals[slot]
            wanted = single.holds(p, int(seen[slot]), lambda a, b, x=x: x[a:b] if a >= 0 else None)  # type: ignore[misc]
            assert given_[slot] == wanted
            answers.append(wanted)
    if noise_mv == 0.05:
        assert set(answers) == {True, False}
