"""What tests of LiteRT share: ONNX graphs turned into files and run with the library itself."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.contract.manifest import Graph, Tensor
from host_tools.export.litert import LiteRt, to_litert

NUMPY = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
NEEDED = "needs ai_edge_litert (pip install 'vitaledge[host]')"


def needs_litert() -> None:
    """Skip where the library is not installed."""
    pytest.importorskip("ai_edge_litert.interpreter", reason=NEEDED)


def entry(model: onnx.ModelProto) -> Graph:
    """A manifest entry of a graph without states."""
    constants = {i.name for i in model.graph.initializer}

    def tensors(values: object) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                name=v.name,
                shape=tuple(d.dim_value or 1 for d in v.type.tensor_type.shape.dim),
                dtype=NUMPY[v.type.tensor_type.elem_type],
            )
            for v in values  # type: ignore[attr-defined]
            if v.name not in constants
        )

    return Graph(
        name="model",
        file="model.onnx",
        runs="every hop",
        precision="fp32",
        inputs=tensors(model.graph.input),
        outputs=tensors(model.graph.output),
        states=(),
        parameters=0,
        macs=0,
        integer_operators=0,
        operators=0,
    )


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...]],
    constants: dict[str, np.ndarray] | None = None,
    kinds: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """An ONNX model; tensors are float32 unless `kinds` says otherwise."""
    kinds = kinds or {}

    def info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [info(*i) for i in inputs.items()],
        [info(*o) for o in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def by_onnx(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of ONNX Runtime, nothing rewritten."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, given)]


def by_litert(made: LiteRt, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of LiteRT; uint8 becomes int8 and back, as the files have it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=made.data, num_threads=1)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        value = given[tensor["name"]].reshape(tensor["shape"])
        if value.dtype == np.uint8:
            value = (value.astype(np.int16) - 128).astype(np.int8)
        interpreter.set_tensor(tensor["index"], value)
    interpreter.invoke()
    rows = []
    for tensor in interpreter.get_output_details():
        value = interpreter.get_tensor(tensor["index"])
        rows.append((value.astype(np.int16) + 128).astype(np.uint8) if value.dtype == np.int8 else value)
    return rows


def both(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray], LiteRt]:
    """Outputs of both engines, and the file."""
    made = to_litert(model, entry(model))
    return by_onnx(model, given), by_litert(made, given), made
