"""A session of ONNX Runtime that runs one graph over many streams in one call; imports no onnxruntime itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph


class OnnxBatch:
    """Bound buffers of all streams: write `reads`, `run`, read `writes`; the state is the caller's.

    Every array has the streams first: (n_streams, *shape of one stream in the manifest), one piece of memory each.
    """

    def __init__(self, ort: Any, session: Any, graph: Graph, n_streams: int, where: str) -> None:
        wanted_in = {t.name: (t.shape, t.dtype) for t in graph.inputs}
        wanted_in |= {s.input: (s.shape, s.dtype) for s in graph.states}
        wanted_out = {t.name: (t.shape, t.dtype) for t in graph.outputs}
        wanted_out |= {s.output: (s.output_shape, s.dtype) for s in graph.states}
        self.n_streams = n_streams
        self._session, self._binding = session, session.io_binding()
        self._values: list[Any] = []  # keeps the bound memory alive
        self.reads = self._bound(ort, session.get_inputs(), wanted_in, self._binding.bind_ortvalue_input, where)
        self.writes = self._bound(ort, session.get_outputs(), wanted_out, self._binding.bind_ortvalue_output, where)

    def run(self) -> None:
        """Run the graph once, for all streams."""
        self._session.run_with_iobinding(self._binding)

    def _bound(
        self, ort: Any, found: Any, wanted: dict[str, tuple[tuple[int, ...], str]], bind: Any, where: str
    ) -> dict[str, np.ndarray]:
        given = {tensor.name: tuple(tensor.shape) for tensor in found}
        if set(given) != set(wanted):
            raise EngineError(f"{where}: tensors are {sorted(given)}; manifest says {sorted(wanted)}")
        # A length that the file leaves free is the manifest's.
        shapes = {
            name: tuple(o if isinstance(f, str) else f for f, o in zip(given[name], shape, strict=False))
            for name, (shape, _) in wanted.items()
        }
        arrays = {}
        for name, (shape, dtype) in wanted.items():
            if not _holds(shapes[name], shape, self.n_streams):
                raise EngineError(
                    f"{where}: {name} is {shapes[name]}; {self.n_streams} streams of {shape} wanted, so pack it anew"
                )
            memory = np.zeros(shapes[name], dtype)
            self._values.append(ort.OrtValue.ortvalue_from_numpy(memory))
            bind(name, self._values[-1])
            arrays[name] = memory.reshape(self.n_streams, *shape)
        return arrays


def _holds(found: tuple[int, ...], one: tuple[int, ...], n_streams: int) -> bool:
    """Whether a tensor is that many streams of a shape, one behind the other in memory."""
    axis = next((i for i, (f, o) in enumerate(zip(found, one, strict=False)) if f != o), 0)
    many = (*one[:axis], n_streams * one[axis], *one[axis + 1 :])
    return found == many and math.prod(one[:axis]) == 1
