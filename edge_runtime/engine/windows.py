"""The stage that collects windows of samples and runs a graph over each."""

from __future__ import annotations

from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph
from edge_runtime.contract.signal import Block, Frames
from edge_runtime.engine.engine import Stepper


class Windower:
    """Stage: blocks (n, channels) in, one row of logits a window out; windows begin `hop` samples apart.

    A jump of the counter starts afresh behind it, so no window spans a gap; what is shorter than a window gives none.
    """

    def __init__(self, stepper: Stepper, graph: Graph, n_channels: int, window_samples: int, hop_samples: int) -> None:
        tensor = stepper.inputs[graph.inputs[0].name]
        if tensor.size != n_channels * window_samples:
            raise EngineError(
                f"graph '{graph.name}' takes {tensor.size} values; {n_channels} channels of {window_samples} wanted"
            )
        self._stepper, self._hop, self._length = stepper, hop_samples, window_samples
        self._window = tensor.reshape(n_channels, window_samples)  # the graph's own memory
        self._logits = stepper.outputs[graph.outputs[0].name]
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._stepper.reset()
        self._filled = 0
        self._next: int | None = None

    def feed(self, block: Block) -> list[Frames]:
        """Run the graph over each window that is full."""
        if block.start != self._next:
            self.reset()
        self._next = block.stop
        out: list[Frames] = []
        position = 0
        while position < len(block.samples):
            take = min(self._length - self._filled, len(block.samples) - position)
            self._window[:, self._filled : self._filled + take] = block.samples[position : position + take].T
            self._filled += take
            position += take
            if self._filled == self._length:
                self._stepper.step()
                first = block.start + position - self._length
                out.append(Frames(start=first, scores=self._logits.reshape(1, -1).copy(), t_ns=block.t_ns))
                self._filled = self._length - self._hop
                self._window[:, : self._filled] = self._window[:, self._hop :].copy()
        return out
