"""One streaming step against recomputing a window with the same weights, and the step's own cost.

`make bench` prints the table and keeps the raw values in benchmarks/out/step.json. The ratio is measured with
both sides called in turns; the single timings beside it are only comparable within one quiet run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.signal import Block, StreamSpec

ROUNDS, CALLS = 400, 5


@pytest.fixture
def step(bundle: Bundle) -> Callable[[], None]:
    """One 25-sample step of the bundle's trunk, state carried."""
    graph = bundle.manifest.graph("trunk")
    stepper = open_engine().load(bundle, graph)
    hop = stepper.inputs[graph.inputs[0].name]
    hop[...] = np.random.default_rng(1).standard_normal(hop.shape)
    return stepper.step


@pytest.fixture
def window(window_model: Path) -> Callable[[], None]:
    """One call over 10 s, in the best form ONNX Runtime has: 2-D kernels, all optimizations, bound buffers."""
    if not window_model.is_file():
        pytest.skip(f"needs {window_model}, which `vitaledge run` writes beside its report")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(window_model), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    owned: list[Any] = []
    binding = session.io_binding()
    for bind, tensors in (
        (binding.bind_ortvalue_input, session.get_inputs()),
        (binding.bind_ortvalue_output, session.get_outputs()),
    ):
        for tensor in tensors:
            value = rng.standard_normal(tensor.shape).astype(np.float32)
            owned.append(onnxruntime.OrtValue.ortvalue_from_numpy(value))
            bind(tensor.name, owned[-1])

    def call(keep: object = owned) -> None:
        session.run_with_iobinding(binding)

    return call


def test_streaming_step(benchmark: Any, step: Callable[[], None]) -> None:
    """A step alone."""
    benchmark.pedantic(step, rounds=5000, iterations=1, warmup_rounds=200)
    _percentiles(benchmark)


def test_window_recomputed(benchmark: Any, window: Callable[[], None]) -> None:
    """The window alone."""
    benchmark.pedantic(window, rounds=2000, iterations=1, warmup_rounds=100)
    _percentiles(benchmark)


def test_step_is_cheaper_than_the_window(benchmark: Any, step: Callable[[], None], window: Callable[[], None]) -> None:
    """Ratio window / step, both sides in turns."""
    ratios = benchmark.pedantic(lambda: _ratios(window, step), rounds=1, iterations=1, warmup_rounds=0)
    low, middle, high = np.percentile(ratios, [2.5, 50, 97.5])
    benchmark.extra_info["ratio"] = {"p2.5": low, "p50": middle, "p97.5": high, "rounds": ROUNDS}
    benchmark.extra_info["ratios"] = [round(r, 3) for r in ratios]
    assert middle > 1.0


def test_a_second_of_signal_through_the_pipeline(benchmark: Any, bundle: Bundle) -> None:
    """125 samples in, readings out: conditioning, five steps, picking and classifying beats."""
    from edge_runtime.assemble import open_pipeline
    from edge_runtime.sensors.synthetic import simulate

    rate = bundle.manifest.conditioning.rate_hz
    ecg = simulate(600, rate_hz=float(rate), seed=3, pvc=0.05, pac=0.05).samples[:, :1]
    pipeline = open_pipeline(bundle, StreamSpec(rate_hz=float(rate)), open_engine())
    starts = iter(range(0, len(ecg), rate))

    def second() -> None:
        start = next(starts)
        pipeline.feed(Block(start=start, samples=ecg[start : start + rate]))

    benchmark.pedantic(second, rounds=500, iterations=1, warmup_rounds=20)
    _percentiles(benchmark)


def _ratios(window: Callable[[], None], step: Callable[[], None]) -> list[float]:
    for _ in range(50):
        window()
        step()
    return [_time(window) / _time(step) for _ in range(ROUNDS)]


def _time(call: Callable[[], None]) -> int:
    begun = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return time.perf_counter_ns() - begun


def _percentiles(benchmark: Any) -> None:
    """pytest-benchmark has no p95 or p99, so they are taken from the raw values."""
    values = np.array(benchmark.stats.stats.data)
    for p in (50, 95, 99):
        benchmark.extra_info[f"p{p}_us"] = round(float(np.percentile(values, p)) * 1e6, 2)
