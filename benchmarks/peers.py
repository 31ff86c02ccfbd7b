"""What one would use without this project, each in the form that its own documentation recommends.

All carry the shipped student's weights. A peer that is not installed, or whose file is not there, is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.manifest import Graph

HERE = Path(__file__).resolve().parent
STEM_TAPS, STRIDE, DILATIONS = 25, 5, (1, 5, 28)
Call = Callable[[], object]


def options() -> Any:
    """One thread, not spinning; ONNX Runtime's own choice of optimizations, which is all of them."""
    found = onnxruntime.SessionOptions()
    found.intra_op_num_threads = 1
    found.log_severity_level = 3
    found.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return found


def windowed(path: Path) -> Call:
    """One call over a window, its buffers bound once."""
    if not path.is_file():
        pytest.skip(f"needs {path}")
    session = onnxruntime.InferenceSession(str(path), options(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    owned: list[Any] = []
    binding = session.io_binding()
    for bind, tensors in (
        (binding.bind_ortvalue_input, session.get_inputs()),
        (binding.bind_ortvalue_output, session.get_outputs()),
    ):
        for tensor in tensors:
            value = rng.standard_normal(tensor.shape).astype(np.float32)
            owned.append(onnxruntime.OrtValue.ortvalue_from_numpy(value))
            bind(tensor.name, owned[-1])

    def call(keep: object = owned) -> None:
        session.run_with_iobinding(binding)

    return call


class Naive:
    """ONNX Runtime with explicit state as its examples show it: `run` with a dict of arrays, the state handed back.

    frames  of one call; samples are collected until there are enough
    """

    def __init__(self, bundle: Bundle, graph: Graph, frames: int) -> None:
        path = str(bundle.file(graph.file))
        self._session = onnxruntime.InferenceSession(path, options(), providers=["CPUExecutionProvider"])
        self._states = graph.states
        self._names = [graph.outputs[0].name, *(s.output for s in graph.states)]
        self._x, (*outer, _, per_row) = graph.inputs[0].name, graph.inputs[0].shape
        self._shape, self._size = (*outer, frames, per_row), frames * per_row
        self._feed = {s.input: np.full(s.shape, s.initial, s.dtype) for s in graph.states}
        self._samples: list[float] = []

    def push(self, sample: float) -> np.ndarray | None:
        """One sample in; scores (frames, outputs) where it was the last one that a call needs."""
        self._samples.append(sample)
        if len(self._samples) < self._size:
            return None
        self._feed[self._x] = np.array(self._samples, np.float32).reshape(self._shape)
        self._samples = []
        scores, *written = self._session.run(self._names, self._feed)
        for state, value in zip(self._states, written, strict=True):
            self._feed[state.input] = value[:, :, -state.shape[2] :]
        return np.asarray(scores.reshape(-1, scores.shape[-1]))


def continual_step(weights: Path) -> Callable[[float], object]:
    """`continual-inference`: the network of Conv1d modules, stepped sample by sample without gradients.

    Release 1.2.4 refuses dilation in time, so the kernels get the zeros between their taps written out.
    """
    torch, co = pytest.importorskip("torch"), pytest.importorskip("continual")
    onnx = pytest.importorskip("onnx")
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(str(weights)).graph.initializer}
    layers: list[Any] = []
    for name, dilation, stride in (("s", 1, STRIDE), *((f"p{i}", d, 1) for i, d in enumerate(DILATIONS)), ("y", 1, 1)):
        taps = torch.from_numpy(stored[f"{name}_w"][:, :, 0].copy())
        weight = torch.zeros(*taps.shape[:2], (taps.shape[2] - 1) * dilation + 1)
        weight[:, :, ::dilation] = taps
        conv = co.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2], stride=stride)
        conv.weight.data, conv.bias.data = weight, torch.from_numpy(stored[f"{name}_b"].copy())
        layers += [conv] if name == "y" else [conv, torch.nn.ReLU()]
    network = co.Sequential(*layers).eval()
    torch.set_num_threads(1)

    def step(sample: float) -> object:
        with torch.inference_mode():
            return network.forward_step(torch.full((1, 1), sample))

    return step
