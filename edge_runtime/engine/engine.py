"""The engine protocol, and the streaming stage that carries a model's explicit state from hop to hop."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph, State
from edge_runtime.contract.signal import Block, Float32Array, Frames

STREAMS = "streams"  # name of the dimension that a graph leaves free, for the number of streams


class Stepper(Protocol):
    """One loaded graph with its state.

    inputs   arrays to write before `step`, by tensor name
    outputs  arrays to read after `step`; the next step overwrites them
    """

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    def step(self) -> None:
        """Run the graph once and hand its state on."""

    def reset(self) -> None:
        """Put the state back to its initial values."""


@runtime_checkable
class Widening(Protocol):
    """A stepper whose graph takes several hops in a call."""

    def wide(self, n_hops: int) -> Stepper | None:
        """The same weights and state, `n_hops` hops a step; None if this graph cannot."""


class Engine(Protocol):
    """An inference library: loads graphs, says what it is."""

    name: str
    version: str
    provider: str

    def load(self, bundle: Bundle, graph: Graph) -> Stepper:
        """Load one graph of a bundle; raises EngineError if the library refuses it."""


class Batch(Protocol):
    """One loaded graph that takes many streams in a call; it keeps no state.

    reads   arrays to write before `run`, by tensor name: (n_streams, *shape of one stream)
    writes  arrays to read after it; the next run overwrites them
    """

    n_streams: int
    reads: dict[str, np.ndarray]
    writes: dict[str, np.ndarray]

    def run(self) -> None:
        """Run the graph once, for all streams."""


@runtime_checkable
class BatchEngine(Protocol):
    """An engine that can take many streams in a call."""

    def load_batch(self, bundle: Bundle, graph: Graph, n_streams: int) -> Batch:
        """Load one graph for that many streams; raises EngineError if it takes one only."""


def check_tensors(
    inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], graph: Graph, where: str
) -> None:
    """Compare names and shapes found in a file with the manifest's; raises EngineError naming what differs."""
    wanted_in = {t.name: t.shape for t in graph.inputs} | {s.input: s.shape for s in graph.states}
    wanted_out = {t.name: t.shape for t in graph.outputs} | {s.output: s.output_shape for s in graph.states}
    for kind, found, wanted in (("inputs", inputs, wanted_in), ("outputs", outputs, wanted_out)):
        if found != wanted:
            raise EngineError(f"{where}: {kind} are {found}; manifest says {wanted}")


def state_tail(array: np.ndarray, state: State) -> np.ndarray:
    """The part of a state's output that is its next input; one contiguous piece of the same memory."""
    for axis, (total, kept) in enumerate(zip(state.output_shape, state.shape, strict=True)):
        if total != kept:
            tail = array[(slice(None),) * axis + (slice(total - kept, None),)]
            if not tail.flags.c_contiguous:
                raise EngineError(f"state {state.input}: its tail in {state.output} is not one piece of memory")
            return tail
    return array


WIDE_HOPS = 25


class StreamingTrunk:
    """Stage: conditioned blocks in, scores per frame out; one graph call every `hop` samples.

    Where a block brings WIDE_HOPS or more, as a replay's do, they go through in one call if the graph takes that; how
    the input is cut still changes nothing.
    """

    def __init__(self, stepper: Stepper, graph: Graph, hop_samples: int, stride: int) -> None:
        self._stepper, self._hop, self._stride = stepper, hop_samples, stride
        self._input = stepper.inputs[graph.inputs[0].name].reshape(-1)
        scores = stepper.outputs[graph.outputs[0].name]
        self._scores = scores.reshape(-1, scores.shape[-1])
        if len(self._scores) != hop_samples // stride:
            raise EngineError(
                f"graph '{graph.name}' gives {len(self._scores)} frames a step; {hop_samples // stride} wanted"
            )
        if self._input.size != hop_samples:
            raise EngineError(
                f"graph '{graph.name}' takes {self._input.size} samples a step; manifest says {hop_samples}"
            )
        self._input_name, self._scores_name = graph.inputs[0].name, graph.outputs[0].name
        self._can_widen = isinstance(stepper, Widening)
        self._wide: Stepper | None = None  # made when it is first of use
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._stepper.reset()
        self._filled = 0
        self._next: int | None = None

    def feed(self, block: Block) -> list[Frames]:
        """Score as many whole hops as there are; a jump of the counter starts afresh behind it."""
        x, start = block.samples[:, 0], block.start
        n = len(x)
        if start != self._next:
            self.reset()
        self._next = start + n
        if n == self._hop and self._filled == 0:  # one hop at a time is how a wearable's samples come
            self._input[:] = x
            self._stepper.step()
            return [Frames(start=start, scores=self._scores.copy(), t_ns=block.t_ns)]
        out: list[Frames] = []
        position = 0
        while position < len(x):
            if self._filled == 0 and len(x) - position >= WIDE_HOPS * self._hop and self._can_widen:
                stop = position + WIDE_HOPS * self._hop
                scores = self._step_wide(x[position:stop])
                if scores is not None:
                    out.append(Frames(start=block.start + position, scores=scores, t_ns=block.t_ns))
                    position = stop
                    continue
            take = min(self._hop - self._filled, len(x) - position)
            self._input[self._filled : self._filled + take] = x[position : position + take]
            self._filled += take
            position += take
            if self._filled == self._hop:
                self._stepper.step()
                self._filled = 0
                first = block.start + position - self._hop
                out.append(Frames(start=first, scores=self._scores.copy(), t_ns=block.t_ns))
        return out

    def _step_wide(self, x: Float32Array) -> Float32Array | None:
        """Scores of WIDE_HOPS hops; None if the graph takes one only."""
        if self._wide is None:
            self._wide = self._stepper.wide(WIDE_HOPS) if isinstance(self._stepper, Widening) else None
            self._can_widen = self._wide is not None
        if self._wide is None:
            return None
        self._wide.inputs[self._input_name].reshape(-1)[:] = x
        self._wide.step()
        return self._wide.outputs[self._scores_name].reshape(-1, self._scores.shape[-1]).copy()
