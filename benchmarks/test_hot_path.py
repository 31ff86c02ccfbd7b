"""The hot path of one stream against what one would do otherwise; same weights, one thread, 125 Hz.

Every test measures both sides in turns and keeps ratio, spread and raw values beside floor and goal; it fails below its
floor, or, where that is not reached, when it becomes worse than what was.
`make bench` runs it; docs/hot-path.md tells what was found and where the time goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.conftest import step_of
from benchmarks.interleaved import Comparison, compare, keep
from edge_runtime.assemble import open_engine, open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.manifest import Graph
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.engine.engine import StreamingTrunk
from edge_runtime.sensors.bytestream import Connection
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.sensors.timeline import Timeline
from edge_runtime.sensors.wired import parse_wired
from edge_runtime.sinks.jsonlines import JsonLines

HERE = Path(__file__).resolve().parent
RATE_HZ, HOP, FRAME = 125, 25, 5
HOP_NS = HOP * 10**9 // RATE_HZ
# Against becoming slower; the floor of 3.0 is not reached, see docs/hot-path.md. Lines of text are parsed one by one.
OVERHEAD_GUARD = {"edge": 5.5, "csv": 13.0}
WIRES = {"edge": "protocol=edge&rate_hz=125&samples=25&scale=0.001", "csv": "protocol=csv&rate_hz=125"}


@pytest.fixture
def litert_step(bundle: Bundle) -> Callable[[], None]:
    """The same of the bundle's INT8 form for LiteRT."""
    pytest.importorskip("ai_edge_litert.interpreter")
    form = next(f for f in bundle.manifest.all_forms if (f.engine, f.precision) == ("litert", "int8"))
    return step_of(bundle.in_form(form), open_engine(name="litert"))


def test_step_against_a_window_of_10_s(benchmark: Any, step: Callable[[], None], window_model: Path) -> None:
    """The window in the best form ONNX Runtime has in fp32: 2-D kernels, all optimizations, bound buffers."""
    window = peers.windowed(window_model)
    found = benchmark.pedantic(lambda: compare(window, step), rounds=1, iterations=1)
    assert keep(benchmark, found, floor=12.0, goal=20.0) >= 12.0


def test_litert_step_against_a_window_of_10_s(
    benchmark: Any, litert_step: Callable[[], None], window_model: Path
) -> None:
    """LiteRT's INT8 step against the same window of ONNX Runtime."""
    window = peers.windowed(window_model)
    found = benchmark.pedantic(lambda: compare(window, litert_step), rounds=1, iterations=1)
    assert keep(benchmark, found, floor=12.0, goal=20.0) >= 12.0


def test_step_against_an_int8_window(benchmark: Any, step: Callable[[], None]) -> None:
    """A window of exactly the receptive field and one hop."""
    window = peers.windowed(HERE / "models" / "ecg-beats-window-int8.onnx")
    found = benchmark.pedantic(lambda: compare(window, step), rounds=1, iterations=1)
    assert keep(benchmark, found, floor=1.3, goal=2.0) >= 1.3


def test_step_against_a_litert_window(
    benchmark: Any, step: Callable[[], None], window_model: Path, tmp_path: Path
) -> None:
    """The same 10 s fp32 window as a LiteRT file."""
    from benchmarks.test_engines import window_fp32  # skips where ai_edge_litert is missing

    window = window_fp32(window_model, tmp_path)[1].step
    found = benchmark.pedantic(lambda: compare(window, step), rounds=1, iterations=1)
    keep(benchmark, found, floor=1.0, goal=2.0)


def samples() -> Iterator[float]:
    """An endless signal, one sample at a time."""
    values = np.random.default_rng(2).standard_normal(1000).tolist()
    while True:
        yield from values


def of_one_frame(graph: Graph) -> Graph:
    """The same file with the shortest step it takes: its length in time, axis 2, is free."""

    def short(shape: tuple[int, ...], kept: int) -> tuple[int, ...]:
        return (*shape[:2], kept + 1, shape[3])

    return replace(
        graph,
        inputs=tuple(replace(t, shape=short(t.shape, 0)) for t in graph.inputs),
        outputs=tuple(replace(t, shape=short(t.shape, 0)) for t in graph.outputs),
        states=tuple(replace(s, output_shape=short(s.output_shape, s.shape[2])) for s in graph.states),
    )


class SampleStep:
    """Our engine's step of one frame, its samples written where it reads them, as they come."""

    def __init__(self, bundle: Bundle) -> None:
        graph = of_one_frame(bundle.manifest.graph("trunk"))
        stepper = open_engine().load(bundle, graph)
        self._x, self._step = stepper.inputs[graph.inputs[0].name].reshape(-1), stepper.step
        scores = stepper.outputs[graph.outputs[0].name]
        self._scores, self._n = scores.reshape(-1, scores.shape[-1]), 0

    def push(self, sample: float) -> np.ndarray | None:
        """One sample in; scores (1, outputs) with every fifth."""
        self._x[self._n] = sample
        self._n += 1
        if self._n < FRAME:
            return None
        self._n = 0
        self._step()
        return self._scores.copy()


def block_step(bundle: Bundle) -> Callable[[float], list[np.ndarray]]:
    """The same through the stage, each sample a block."""
    graph = of_one_frame(bundle.manifest.graph("trunk"))
    stage = StreamingTrunk(open_engine().load(bundle, graph), graph, FRAME, FRAME)
    starts = iter(range(10**12))
    block = np.zeros((1, 1), np.float32)

    def push(sample: float) -> list[np.ndarray]:
        block[0, 0] = sample
        return [f.scores for f in stage.feed(Block(start=next(starts), samples=block))]

    return push


def test_sample_by_sample_against_a_naive_state(benchmark: Any, bundle: Bundle) -> None:
    """Scores of a frame as soon as its five samples are there, on both sides; the same scores."""
    naive, ours, blocks = peers.Naive(bundle, bundle.manifest.graph("trunk"), 1), SampleStep(bundle), block_step(bundle)
    first = [float(x) for x, _ in zip(samples(), range(400), strict=False)]
    wanted = np.concatenate([s for s in map(naive.push, first) if s is not None])
    np.testing.assert_array_equal(np.concatenate([s for s in map(ours.push, first) if s is not None]), wanted)
    np.testing.assert_array_equal(np.concatenate([s for x in first for s in blocks(x)]), wanted)
    a, b, c, d = samples(), samples(), samples(), samples()

    def both() -> tuple[Comparison, Comparison]:
        through_blocks = compare(lambda: naive.push(next(a)), lambda: blocks(next(b)), calls=FRAME)
        return compare(lambda: naive.push(next(c)), lambda: ours.push(next(d)), calls=FRAME), through_blocks

    engine, stage = benchmark.pedantic(both, rounds=1, iterations=1)
    keep(benchmark, stage, floor=1.0, goal=3.0, name="through_blocks_ratio")
    assert keep(benchmark, engine, floor=1.0, goal=3.0) >= 1.0


def test_sample_by_sample_against_continual_inference(benchmark: Any, bundle: Bundle, window_model: Path) -> None:
    """PyTorch modules that are stepped; the package is no dependency, so this needs it installed."""
    other, ours = peers.continual_step(window_model), block_step(bundle)
    a, b = samples(), samples()
    found = benchmark.pedantic(
        lambda: compare(lambda: other(next(a)), lambda: ours(next(b)), rounds=60, calls=FRAME), rounds=1, iterations=1
    )
    keep(benchmark, found, floor=1.0, goal=3.0)


class Nowhere:
    """A text stream that keeps nothing."""

    def write(self, text: str) -> int:
        """Take it."""
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""


class Gateway:
    """All of what happens to a wearable's bytes: decode, place, condition, score, read, write lines."""

    def __init__(self, bundle: Bundle, query: str) -> None:
        wired = parse_wired(query, "bench")
        ecg = simulate(1200, rate_hz=RATE_HZ, seed=3, pvc=0.05, pac=0.05).samples[:, :1]
        self.chunks = [self._bytes(wired.name, ecg[i : i + HOP], i) for i in range(0, len(ecg), HOP)]
        self._connection, self._timeline = Connection("bench", wired), Timeline(RATE_HZ)
        self._pipeline = open_pipeline(bundle, StreamSpec(rate_hz=float(RATE_HZ)), open_engine())
        self._sink = JsonLines(Nowhere())  # type: ignore[arg-type]
        self._n, self.n_readings = 0, 0

    def _bytes(self, name: str, ecg: np.ndarray, start: int) -> bytes:
        if name == "edge":
            from edge_runtime.sensors.encoders.edge_frame import encode

            return encode((ecg * 1000).tolist(), first=start // HOP, samples=HOP)
        return PROTOCOLS[name].encode(ecg, start)

    def hop(self) -> None:
        """The next 25 samples' bytes."""
        chunk = self.chunks[self._n]
        self._n += 1
        t_ns = 10**9 + self._n * HOP_NS
        for block in self._connection.feed(chunk, t_ns):
            for reading in self._pipeline.feed(self._timeline.place(block, t_ns)):
                self._sink.write(reading)
                self.n_readings += 1
        self._connection.check_rate(t_ns)


@pytest.mark.parametrize("wire", WIRES)
def test_bytes_in_readings_out_against_the_bare_engine_call(
    benchmark: Any, bundle: Bundle, step: Callable[[], None], wire: str
) -> None:
    """Hop by hop, so the median is that of a hop without a beat; a beat costs more, see docs/hot-path.md."""
    gateway = Gateway(bundle, WIRES[wire])
    found = benchmark.pedantic(
        lambda: compare(step, gateway.hop, rounds=5600, calls=1, warm_up=100), rounds=1, iterations=1
    )
    middle = keep(benchmark, found, floor=3.0, goal=1.6)
    benchmark.extra_info["readings"] = gateway.n_readings
    assert gateway.n_readings > 1000
    assert middle <= OVERHEAD_GUARD[wire]
