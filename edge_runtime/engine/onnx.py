"""ONNX Runtime behind the engine protocol; the only importer of onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.manifest import Graph
from edge_runtime.engine.engine import STREAMS, check_tensors, state_tail
from edge_runtime.engine.onnx_batch import OnnxBatch

FRAMES = "frames"  # name of the dimension that a graph leaves free, for the length in time


class OnnxEngine:
    """ONNX Runtime on the CPU; one thread unless asked, no spinning (it would burn the gateway's cores)."""

    name = "onnxruntime"

    def __init__(self, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(
                f"onnxruntime cannot be imported ({error}); install it with `pip install 'vitaledge[onnx]'`, "
                "or, on a gateway, deploy again"
            ) from error
        self._ort: Any = onnxruntime
        self.version = str(onnxruntime.__version__)
        self.provider = "CPUExecutionProvider"
        self.threads = threads

    def load(self, bundle: Bundle, graph: Graph) -> OnnxStepper:
        """Load one graph of a bundle with its state bound; raises EngineError if it is refused."""
        return OnnxStepper(self._ort, self._open(bundle, graph, 1), graph, str(bundle.file(graph.file)))

    def load_batch(self, bundle: Bundle, graph: Graph, n_streams: int) -> OnnxBatch:
        """Load one graph for that many streams in a call; raises EngineError if it is refused or takes one only."""
        return OnnxBatch(
            self._ort, self._open(bundle, graph, n_streams), graph, n_streams, str(bundle.file(graph.file))
        )

    def _open(self, bundle: Bundle, graph: Graph, n_streams: int, n_hops: int = 1) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_free_dimension_override_by_name(STREAMS, n_streams)
        options.add_free_dimension_override_by_name(FRAMES, n_hops * _frames(graph))
        path = bundle.file(graph.file)
        try:
            session = self._ort.InferenceSession(str(path), options, providers=[self.provider])
        except Exception as error:
            raise EngineError(f"{path}: onnxruntime {self.version} refuses it ({error})") from error
        used = session.get_providers()
        if used != [self.provider]:
            raise EngineError(f"{path}: runs on {used}; {self.provider} wanted")
        return session


class OnnxStepper:
    """A session whose inputs, outputs and state live in bound buffers.

    Two bindings share the plain inputs and outputs and swap the state buffers: what one step writes, the next
    one reads in place, and nothing is allocated or copied in between.
    """

    def __init__(self, ort: Any, session: Any, graph: Graph, where: str) -> None:
        inputs = {i.name: tuple(i.shape) for i in session.get_inputs()}
        outputs = {o.name: tuple(o.shape) for o in session.get_outputs()}
        check_tensors(inputs, outputs, graph, where)
        self._session = session
        self._states = graph.states
        self.inputs = {t.name: np.zeros(t.shape, t.dtype) for t in graph.inputs}
        self.outputs = {t.name: np.zeros(t.shape, t.dtype) for t in graph.outputs}
        written = [{s.output: np.zeros(s.output_shape, s.dtype) for s in graph.states} for _ in range(2)]
        self._read = [{s.input: state_tail(w[s.output], s) for s in graph.states} for w in written]
        self._values: list[Any] = []  # keeps the bound memory alive
        self._bindings = []
        for source, sink in ((0, 1), (1, 0)):
            binding = session.io_binding()
            for name, array in {**self.inputs, **self._read[source]}.items():
                binding.bind_ortvalue_input(name, self._own(ort, array))
            for name, array in {**self.outputs, **written[sink]}.items():
                binding.bind_ortvalue_output(name, self._own(ort, array))
            self._bindings.append(binding)
        self.reset()

    def _own(self, ort: Any, array: np.ndarray) -> Any:
        """An OrtValue over the array's own memory."""
        self._values.append(ort.OrtValue.ortvalue_from_numpy(array))
        return self._values[-1]

    def step(self) -> None:
        """Run the graph once and hand its state on."""
        self._session.run_with_iobinding(self._bindings[self._turn])
        self._turn ^= 1

    def reset(self) -> None:
        """Put the state back to its initial values."""
        self._turn = 0
        for state in self._states:
            self._read[0][state.input][...] = state.initial


def _frames(graph: Graph) -> int:
    """Rows of the first input, where it has rows: the second last axis."""
    return graph.inputs[0].shape[-2] if graph.inputs and len(graph.inputs[0].shape) > 1 else 1
