"""A step allocates nothing that stays, and a stream's memory does not grow with its length."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.engine.onnx import OnnxEngine


def test_a_step_of_the_engine_allocates_nothing(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    step = engine.load(int8_bundle, int8_bundle.manifest.graph("trunk")).step
    grown, high = [], []
    tracemalloc.start()
    try:
        for _ in range(4):
            gc.collect()
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(500):
                step()
            high.append(tracemalloc.get_traced_memory()[1] - before)
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    # Of four turns the quietest: other threads' and the tracer's own integers come now and then. An array of the
    # smallest state would be 112 bytes a step.
    assert min(grown) < 500
    assert min(high) < 1000


def test_what_a_stream_holds_does_not_grow_with_its_length(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    pipeline = open_pipeline(int8_bundle, StreamSpec(rate_hz=125.0), engine)
    beat = np.exp(-((np.arange(100) - 50.0) ** 2) / 8.0).astype(np.float32)
    hop, start = np.tile(beat, 25).reshape(-1, 25, 1), 0

    def feed(n_hops: int) -> None:
        nonlocal start
        for i in range(n_hops):
            pipeline.feed(Block(start=start, samples=hop[i % len(hop)]))
            start += 25

    tracemalloc.start()
    try:
        feed(400)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        feed(2000)
        gc.collect()
        now = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert now - before < 20_000
