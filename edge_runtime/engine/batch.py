"""One graph for many streams: each owns a slot with its state, and those that are due run in one engine call."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph, State
from edge_runtime.contract.rows import Rows, rows_of
from edge_runtime.engine.engine import Batch, BatchEngine

SIZES = (1, 2, 4, 8, 16, 32, 64)


class SlottedGraph:
    """State of `n_slots` streams, and batches of fixed sizes that any of them can step in together.

    A call takes the smallest batch that holds all; rows of it that no stream uses compute and are not kept.
    Each state tensor is one array (n_slots, bytes or values of one stream). As long as the same streams step
    together, their state stays in the batch's own memory: one copy a step, from its outputs to its inputs.
    """

    def __init__(
        self, engine: BatchEngine, bundle: Bundle, graph: Graph, n_slots: int, sizes: Sequence[int] = SIZES
    ) -> None:
        smallest = next((s for s in sizes if s >= n_slots), sizes[-1])
        self._graph = graph
        self._batches = [_Batch(engine.load_batch(bundle, graph, s), graph) for s in sizes if s <= smallest]
        self._states = [np.full((n_slots, math.prod(s.shape)), s.initial, s.dtype) for s in graph.states]
        self._sizes = [b.n_streams for b in self._batches]
        self._newest: _Batch | None = None  # which ran last
        self.largest = self._batches[-1].n_streams

    def reset(self, slot: int) -> None:
        """Put one stream's state back to its initial values."""
        self._settle(None)
        for state, stored in zip(self._graph.states, self._states, strict=True):
            stored[slot] = state.initial

    def copy_state(self, other: SlottedGraph) -> None:
        """Take over the state of another graph with the same slots and states."""
        other._settle(None)
        for own, theirs in zip(self._states, other._states, strict=True):
            own[...] = theirs

    def step(self, rows: Rows, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Run once for some slots (n,); their inputs are (n, values of one stream), in the graph's order.

        Returns the first output as (n, values of one stream); the next step may overwrite it.
        """
        if len(rows) > self.largest:
            n = self.largest
            parts = [slice(i, i + n) for i in range(0, len(rows), n)]
            return np.concatenate([self.step(rows_of(rows.slots[p]), [x[p] for x in inputs]).copy() for p in parts])
        batch = self._newest
        if batch is None or batch.kept is not rows:
            batch = self._newest = self._batches[bisect_left(self._sizes, len(rows))]
            self._settle(batch)
        return batch.step(rows, inputs, self._states)

    def _settle(self, but: _Batch | None) -> None:
        """Bring state that lies in batches home."""
        for batch in self._batches:
            if batch is not but:
                batch.give_back(self._states)


class _Batch:
    """A batch with the slots that stepped in it last, whose newest state is in its outputs."""

    def __init__(self, batch: Batch, graph: Graph) -> None:
        n = self.n_streams = batch.n_streams
        self._batch = batch
        self._inputs = [batch.reads[t.name].reshape(n, -1) for t in graph.inputs]
        self._read = [batch.reads[s.input].reshape(n, -1) for s in graph.states]
        self._written = [_tail(batch.writes[s.output], s) for s in graph.states]
        self._output = batch.writes[graph.outputs[0].name].reshape(n, -1)
        self.kept: Rows | None = None  # whose newest state lies here

    def step(self, rows: Rows, inputs: Sequence[np.ndarray], states: list[np.ndarray]) -> np.ndarray:
        """Run for these slots; their state stays here."""
        n = len(rows)
        if self.kept is not None and rows.is_same(self.kept):
            for read, written in zip(self._read, self._written, strict=True):
                read[:n] = written[:n]
        else:
            self.give_back(states)
            for read, stored in zip(self._read, states, strict=True):
                np.take(stored, rows.slots, axis=0, out=read[:n], mode="clip")
        for own, given in zip(self._inputs, inputs, strict=True):
            own[:n] = given
        self._batch.run()
        self.kept = rows
        return self._output[:n]

    def give_back(self, states: list[np.ndarray]) -> None:
        """Store the newest state of the slots that stepped here last."""
        if self.kept is not None:
            for stored, written in zip(states, self._written, strict=True):
                stored[self.kept.at] = written[: len(self.kept)]
            self.kept = None


def _tail(written: np.ndarray, state: State) -> np.ndarray:
    """The part of each stream's state output that is its next input, as (n_streams, values), in the same memory."""
    axis = next((i for i, (t, k) in enumerate(zip(state.output_shape, state.shape, strict=True)) if t != k), 0)
    if math.prod(state.output_shape[:axis]) != 1:
        raise EngineError(f"state {state.input}: a stream's tail in {state.output} is not one piece of memory")
    return written.reshape(len(written), -1)[:, math.prod(state.output_shape) - math.prod(state.shape) :]
