"""What a bundle costs on this device, found out in a second: its golden signal once more, each block timed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_runtime import probes
from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.manifest import WindowManifest
from edge_runtime.contract.signal import Block, Float32Array
from edge_runtime.engine.engine import Engine
from edge_runtime.golden import from_microvolts, stream_spec

WARM_UP = 5  # hops that are not counted: they load what the later ones find; of few, a quarter


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of blocks of one hop each: how long all stages took; and the most memory this process had."""

    n_blocks: int
    block_p50_ns: int
    block_p99_ns: int
    block_max_ns: int
    peak_rss_bytes: int | None

    def to_text(self) -> str:
        """For people."""
        memory = "not known" if self.peak_rss_bytes is None else f"{self.peak_rss_bytes / (1 << 20):.0f} MiB"
        return (
            f"a hop takes {self.block_p50_ns / 1e6:.3f} ms (p99 {self.block_p99_ns / 1e6:.3f} ms, "
            f"{self.n_blocks} hops), memory {memory}"
        )


def measure_cost(bundle: Bundle, engine: Engine, clock: Callable[[], int] = time.perf_counter_ns) -> Cost:
    """Time the golden signal hop by hop; raises BundleError if it is too short for that."""
    m = bundle.manifest
    samples, rate_hz = _signal(bundle), m.golden.rate_hz
    size = max(1, round(m.hop_samples * rate_hz / m.rate_hz))
    pipeline = open_pipeline(bundle, stream_spec(bundle, rate_hz), engine)
    took = []
    for start in range(0, len(samples) - size + 1, size):
        block = Block(start=start, samples=samples[start : start + size])
        began_ns = clock()
        pipeline.feed(block)
        took.append(clock() - began_ns)
    timed = np.array(took[min(WARM_UP, len(took) // 4) :], np.int64)
    if not len(timed):
        raise BundleError(f"{bundle.path}: the golden signal is shorter than one hop; nothing to time")
    p50, p99 = np.percentile(timed, [50, 99], method="higher")
    return Cost(
        n_blocks=len(timed),
        block_p50_ns=int(p50),
        block_p99_ns=int(p99),
        block_max_ns=int(timed.max()),
        peak_rss_bytes=probes.memory().peak_rss_bytes,
    )


def _signal(bundle: Bundle) -> Float32Array:
    """The golden signal float32 (n, channels); `golden.check` has found it sound."""
    m = bundle.manifest
    with np.load(io.BytesIO(bundle.file(m.golden.file).read_bytes()), allow_pickle=False) as stored:
        samples: Float32Array = (
            stored["samples"] if isinstance(m, WindowManifest) else from_microvolts(stored["signal_uv"])
        )
        return samples
