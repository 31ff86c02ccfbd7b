"""A session of ONNX Runtime that carries its state in bound buffers; imports no onnxruntime itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.contract.manifest import Graph, State
from edge_runtime.engine.engine import check_tensors, state_tail

FRAMES = "frames"  # name of the dimension that a graph leaves free, for the length in time


class OnnxStepper:
    """A session whose inputs, outputs and state live in bound buffers.

    Two bindings share the plain inputs and outputs and swap the state buffers: what one step writes, the next
    one reads in place, and nothing is allocated or copied in between.
    """

    def __init__(self, ort: Any, session: Any, graph: Graph, where: str) -> None:
        wanted = {t.name: t.shape for t in (*graph.inputs, *graph.outputs)}
        wanted |= {s.input: s.shape for s in graph.states} | {s.output: s.output_shape for s in graph.states}
        inputs = {i.name: _closed(i.shape, wanted.get(i.name)) for i in session.get_inputs()}
        outputs = {o.name: _closed(o.shape, wanted.get(o.name)) for o in session.get_outputs()}
        check_tensors(inputs, outputs, graph, where)
        self._ort, self._session, self._graph = ort, session, graph
        self.inputs = {t.name: np.zeros(t.shape, t.dtype) for t in graph.inputs}
        self.outputs = {t.name: np.zeros(t.shape, t.dtype) for t in graph.outputs}
        written = [{s.output: np.zeros(s.output_shape, s.dtype) for s in graph.states} for _ in range(2)]
        self._read = [{s.input: state_tail(w[s.output], s) for s in graph.states} for w in written]
        self._bindings = [
            _Binding(ort, session, self.inputs | self._read[source], self.outputs | written[1 - source])
            for source in (0, 1)
        ]
        self._run, self._bound = session.run_with_iobinding, [b.binding for b in self._bindings]
        self.reset()

    def step(self) -> None:
        """Run the graph once and hand its state on."""
        self._run(self._bound[self._turn])
        self._turn ^= 1

    def reset(self) -> None:
        """Put the state back to its initial values."""
        self._turn = 0
        for state in self._graph.states:
            self._read[0][state.input][...] = state.initial

    def wide(self, n_hops: int) -> WideStepper | None:
        """The same session and state, `n_hops` hops a step; None if the graph's length is fixed."""
        first = self._session.get_inputs()[0]
        if FRAMES not in first.shape:
            return None
        return WideStepper(self._ort, self._session, self._graph, first.shape.index(FRAMES), n_hops, self)

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What the next step reads, by the name of its input."""
        return self._read[self._turn]


class WideStepper:
    """Several hops in a call, for when they wait: weights and state are those of `narrow`.

    Between calls the state lies in the narrow one's buffers, so that the two may step in any order.
    """

    def __init__(self, ort: Any, session: Any, graph: Graph, axis: int, n_hops: int, narrow: OnnxStepper) -> None:
        self._narrow = narrow
        self.inputs = {t.name: np.zeros(_longer(t.shape, axis, n_hops), t.dtype) for t in graph.inputs}
        self.outputs = {t.name: np.zeros(_longer(t.shape, axis, n_hops), t.dtype) for t in graph.outputs}
        read = {s.input: np.zeros(s.shape, s.dtype) for s in graph.states}
        written = {s.output: np.zeros(_grown(s, n_hops), s.dtype) for s in graph.states}
        self._pairs = [(s.input, read[s.input], _tail(written[s.output], s)) for s in graph.states]
        self._session, self._binding = session, _Binding(ort, session, self.inputs | read, self.outputs | written)

    def step(self) -> None:
        """Run the graph over all hops and hand the state on."""
        state = self._narrow.state
        for name, read, _ in self._pairs:
            np.copyto(read, state[name])
        self._session.run_with_iobinding(self._binding.binding)
        for name, _, tail in self._pairs:
            np.copyto(state[name], tail)

    def reset(self) -> None:
        """Put the state back to its initial values."""
        self._narrow.reset()


class _Binding:
    """Arrays bound to a session's names; keeps their memory alive."""

    def __init__(self, ort: Any, session: Any, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
        self.binding, self._values = session.io_binding(), []
        for bind, arrays in (
            (self.binding.bind_ortvalue_input, inputs),
            (self.binding.bind_ortvalue_output, outputs),
        ):
            for name, array in arrays.items():
                self._values.append(ort.OrtValue.ortvalue_from_numpy(array))
                bind(name, self._values[-1])


def _closed(found: list[int | str], wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """A shape in which lengths that the file leaves free are those of the manifest."""
    if wanted is None or len(wanted) != len(found):
        return tuple(-1 if isinstance(f, str) else f for f in found)
    return tuple(w if isinstance(f, str) else f for f, w in zip(found, wanted, strict=True))


def _longer(shape: tuple[int, ...], axis: int, times: int) -> tuple[int, ...]:
    return (*shape[:axis], shape[axis] * times, *shape[axis + 1 :])


def _grown(state: State, n_hops: int) -> tuple[int, ...]:
    """The output's shape after several hops: what is new comes as many times, what is kept once."""
    return tuple(kept + n_hops * (total - kept) for total, kept in zip(state.output_shape, state.shape, strict=True))


def _tail(array: np.ndarray, state: State) -> np.ndarray:
    """The last elements, as many as the state keeps."""
    return array[tuple(slice(total - kept, None) for total, kept in zip(array.shape, state.shape, strict=True))]
