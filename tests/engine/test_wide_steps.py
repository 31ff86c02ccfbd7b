"""Several hops in one call of the engine are the same hops one by one."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.engine.engine import WIDE_HOPS, StreamingTrunk
from edge_runtime.engine.onnx import OnnxEngine

HOP, STRIDE = 25, 5
WHOLE = 3 * WIDE_HOPS * HOP + 7 * HOP + 11


def scores(engine: OnnxEngine, bundle: Bundle, x: np.ndarray, sizes: list[int]) -> np.ndarray:
    graph = bundle.manifest.graph("trunk")
    stage = StreamingTrunk(engine.load(bundle, graph), graph, HOP, STRIDE)
    rows, start, i = [], 0, 0
    while start < len(x):
        part = x[start : start + sizes[i % len(sizes)], None]
        rows += [f.scores for f in stage.feed(Block(start=start, samples=part))]
        start, i = start + len(part), i + 1
    return np.concatenate(rows)


@pytest.mark.parametrize("sizes", [[1], [3], [25], [125], [WIDE_HOPS * HOP], [WHOLE], [700, 13, 625, 50]], ids=str)
def test_cutting_the_input_differently_changes_no_bit(
    int8_bundle: Bundle, engine: OnnxEngine, sizes: list[int]
) -> None:
    x = np.random.default_rng(1).standard_normal(WHOLE).astype(np.float32)
    one_by_one = scores(engine, int8_bundle, x, [HOP])
    assert len(one_by_one) == WHOLE // HOP * (HOP // STRIDE)
    np.testing.assert_array_equal(scores(engine, int8_bundle, x, sizes), one_by_one)


def test_a_whole_block_takes_few_calls(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    graph = int8_bundle.manifest.graph("trunk")
    stage = StreamingTrunk(engine.load(int8_bundle, graph), graph, HOP, STRIDE)
    found = stage.feed(Block(start=0, samples=np.zeros((WHOLE, 1), np.float32)))
    assert [len(f.scores) for f in found] == 3 * [WIDE_HOPS * HOP // STRIDE] + 7 * [HOP // STRIDE]
    assert [f.start for f in found[:4]] == [0, 625, 1250, 1875]


def test_a_graph_of_fixed_length_goes_hop_by_hop(fp32_bundle: Bundle, engine: OnnxEngine) -> None:
    graph = fp32_bundle.manifest.graph("trunk")
    stepper = engine.load(fp32_bundle, graph)
    assert stepper.wide(WIDE_HOPS) is None
    stage = StreamingTrunk(stepper, graph, HOP, STRIDE)
    assert len(stage.feed(Block(start=0, samples=np.zeros((WHOLE, 1), np.float32)))) == WHOLE // HOP


def test_a_gap_between_two_wide_blocks_starts_afresh(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    graph = int8_bundle.manifest.graph("trunk")
    stage = StreamingTrunk(engine.load(int8_bundle, graph), graph, HOP, STRIDE)
    x = np.random.default_rng(2).standard_normal((WIDE_HOPS * HOP, 1)).astype(np.float32)
    (first,) = stage.feed(Block(start=0, samples=x))
    (second,) = stage.feed(Block(start=10**6, samples=x))
    np.testing.assert_array_equal(first.scores, second.scores)


def test_the_ledger_of_a_replay_in_large_blocks_balances(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    pipeline = open_pipeline(int8_bundle, StreamSpec(rate_hz=125.0), engine)
    x = np.sin(np.arange(WHOLE) / 9.0).astype(np.float32)[:, None]
    pipeline.feed(Block(start=0, samples=x))
    pipeline.feed(Block(start=WHOLE + 40, samples=x))
    pipeline.finish()
    assert pipeline.ledger.is_balanced
    assert (pipeline.ledger.scored, pipeline.ledger.gap) == (2 * WHOLE, 40)
