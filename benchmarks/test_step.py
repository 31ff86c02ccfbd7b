"""What a step, a window and a second of signal take: single timings, only comparable within one quiet run.

How a step compares with what one would do otherwise is measured in turns in test_hot_path.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers
from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.signal import Block, StreamSpec


def test_streaming_step(benchmark: Any, step: Callable[[], None]) -> None:
    """A step alone."""
    benchmark.pedantic(step, rounds=5000, iterations=1, warmup_rounds=200)
    _percentiles(benchmark)


def test_window_recomputed(benchmark: Any, window_model: Path) -> None:
    """The window alone: 10 s, fp32."""
    benchmark.pedantic(peers.windowed(window_model), rounds=2000, iterations=1, warmup_rounds=100)
    _percentiles(benchmark)


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


def _percentiles(benchmark: Any) -> None:
    """pytest-benchmark has no p95 or p99, so they are taken from the raw values."""
    values = np.array(benchmark.stats.stats.data)
    for p in (50, 95, 99):
        benchmark.extra_info[f"p{p}_us"] = round(float(np.percentile(values, p)) * 1e6, 2)
