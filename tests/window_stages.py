"""The stages of windows, each with its food for the laws."""

from __future__ import annotations

import numpy as np
import tiny_windows
from stage_cases import Case, blocks_case, read_only

from edge_runtime import golden
from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.channels import AsTheyAre
from edge_runtime.contract.signal import Block, Frames
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.engine.windows import Windower
from edge_runtime.vitals.windows import WindowReader

WINDOWS = [
    "as they are rate",
    "windower rhythm",
    "windower rate",
    "window reader rate",
    "pipeline rhythm",
    "pipeline rate",
    "pipeline table",
]


def window_reader_case(bundle: Bundle) -> Case:
    """Items of one window each, as the pipeline calls it: a hop of samples, then the window that ends with it."""
    w, hop = bundle.manifest.window, bundle.manifest.hop_samples
    n = 12
    samples = read_only(np.concatenate([tiny_windows.rate().given.samples] * 2)[: w.window_samples + n * hop])
    logits = read_only(np.random.default_rng(2).standard_normal((n, len(w.values))).astype(np.float32) * 3)

    def item(i: int) -> tuple[Block, Frames]:
        begin = 0 if i == 0 else w.window_samples + (i - 1) * hop
        return (
            Block(start=begin, samples=samples[begin : w.window_samples + i * hop]),
            Frames(start=i * hop, scores=logits[i : i + 1]),
        )

    class Several:
        """Takes several windows in one item; a window that was not seen from its begin has no samples."""

        def __init__(self) -> None:
            self._stage = WindowReader(w, (), lambda position: 2 * position, 100.0)
            self.reset, self.interrupt = self._stage.reset, self._stage.interrupt

        def feed(self, items: tuple[tuple[Block, Frames], ...]) -> list[object]:
            said: list[object] = []
            for block, frames in items:
                self._stage.watch(block)
                said += self._stage.feed(frames)
            return said

    return Case(Several, n, lambda a, b: tuple(item(i) for i in range(a, b)))


def windower(bundle: Bundle, engine: OnnxEngine) -> Windower:
    m = bundle.manifest
    graph = m.step_graph
    return Windower(engine.load(bundle, graph), graph, m.n_channels, m.window.window_samples, m.hop_samples)


def window_case(name: str, bundles: dict[str, Bundle], engine: OnnxEngine) -> Case:
    kind = name.split()[-1]
    given, bundle = tiny_windows.KINDS[kind]().given, bundles[kind]
    if name.startswith("window reader"):
        return window_reader_case(bundle)
    if name.startswith("windower"):
        return blocks_case(lambda: windower(bundle, engine), given.samples, first=3)
    if name.startswith("as they are"):
        return blocks_case(lambda: AsTheyAre(takes_missing=True), given.samples, first=3)
    return blocks_case(
        lambda: open_pipeline(bundle, golden.stream_spec(bundle, given.rate_hz), engine),
        given.samples,
        first=40,
        has_end=True,
    )
