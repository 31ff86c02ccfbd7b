"""The float graph as quantization wants it: constants folded, batch norms and pads inside their convolutions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime
from onnx import numpy_helper


def simplified(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same function after ONNX Runtime's basic rewrites, which hold on every machine; nodes have unique names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "basic.onnx"
        rewrite(graph, path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
        simple = onnx.load(path)
    for i, node in enumerate(simple.graph.node):
        node.name = f"n{i}"
    del simple.graph.value_info[:]
    return _with_pools(simple)


def _with_pools(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Means over a whole image or signal as GlobalAveragePool, which exists in integers."""
    shapes = onnx.shape_inference.infer_shapes(graph).graph.value_info
    known = {v.name: v.type.tensor_type.shape.dim for v in (*shapes, *graph.graph.input)}
    constants = {c.name: c for c in graph.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        size = known.get(node.input[0], ()) if node.input else ()
        if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in constants or len(size) < 3:
            nodes.append(node)
            continue
        axes = {int(a) % len(size) for a in numpy_helper.to_array(constants[node.input[1]])}
        one = {i for i in range(2, len(size)) if size[i].dim_value == 1}
        keeps = bool(settings.get("keepdims", 1))
        if axes | one != set(range(2, len(size))) or (not keeps and len(axes) < len(size) - 2):
            nodes.append(node)
        elif keeps:
            nodes.append(onnx.helper.make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name))
        else:
            pooled = [f"{node.output[0]}__pooled"]
            nodes.append(onnx.helper.make_node("GlobalAveragePool", node.input[:1], pooled, name=node.name))
            nodes.append(onnx.helper.make_node("Flatten", pooled, node.output, name=f"{node.name}f", axis=1))
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.graph.node[:]
    graph.graph.node.extend(copies)
    return graph


def rewrite(graph: onnx.ModelProto, path: Path, level: object) -> None:
    """Write what ONNX Runtime makes of a graph at an optimization level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
