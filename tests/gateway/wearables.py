"""Wearables on their way to a gateway, and the oracle: each one's samples through a pipeline of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.signal import Block, Float32Array, Ledger, Reading, StreamSpec
from edge_runtime.engine.engine import Engine
from edge_runtime.gateway import Gateway, Stream
from edge_runtime.sensors.synthetic import simulate

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


def alone(bundle: Bundle, engine: Engine, spec: StreamSpec, blocks: Sequence[Block]) -> tuple[list[Reading], Ledger]:
    """The oracle: the same blocks through a pipeline that knows of no gateway."""
    pipeline = open_pipeline(bundle, spec, engine)
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
