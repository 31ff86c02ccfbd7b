"""The beat head -> ONNX: runs once per beat, with the patient's template and a GRU memory as explicit state."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.contract.manifest import Graph, State, Tensor
from edge_runtime.contract.rhythm import N_FEATURES
from edge_runtime.engine.engine import STREAMS
from host_tools.export.onnx_trunk import IR_VERSION, OPSET
from host_tools.nets.beats import N_CLASSES, TEMPLATE_RATE, BeatHead


def write_head(head: BeatHead, *, weights_int8: bool) -> tuple[onnx.ModelProto, Graph]:
    """The ONNX file and its manifest entry.

    weights_int8  store the matrices as int8 with one scale per output row; they are computed with in fp32,
                  because one call a heart beat costs nothing and memory over beats must not lose precision
    """
    embedding = (head.inner.in_features - N_FEATURES) // 2
    hidden = head.inner.out_features
    w = {k: v.detach().numpy() for k, v in head.state_dict().items()}
    writer = _Constants(weights_int8)
    node = helper.make_node
    # PyTorch orders a GRU's gates reset, update, new; ONNX update, reset, hidden.
    gates = np.concatenate([np.arange(hidden, 2 * hidden), np.arange(hidden), np.arange(2 * hidden, 3 * hidden)])
    gru_bias = np.concatenate([w["memory.bias_ih_l0"][gates], w["memory.bias_hh_l0"][gates]])
    inner, bias1 = writer.matrix("w1", w["inner.weight"]), writer.plain("b1", w["inner.bias"])
    gru_in = writer.matrix("wi", w["memory.weight_ih_l0"][gates], stacked=True)
    gru_memory = writer.matrix("wh", w["memory.weight_hh_l0"][gates], stacked=True)
    classes, bias2 = writer.matrix("w2", w["classes.weight"]), writer.plain("b2", w["classes.bias"])
    nodes = [
        *writer.nodes,
        # The template starts at the first beat and follows with a fixed rate.
        node("Sub", [writer.plain("one", np.ones((1, 1), np.float32)), "seen_i"], ["new"]),
        node("Max", ["new", writer.plain("rate", np.full((1, 1), TEMPLATE_RATE, np.float32))], ["step"]),
        node("Max", ["seen_i", "one"], ["seen_o"]),
        node("Sub", ["e", "t_i"], ["away"]),
        node("Mul", ["away", "step"], ["move"]),
        node("Add", ["t_i", "move"], ["t_o"]),
        node("Sub", ["e", "t_o"], ["diff"]),
        node("Concat", ["e", "diff", "r"], ["z"], axis=1),
        node("Gemm", ["z", inner, bias1], ["z1"], transB=1),
        node("Relu", ["z1"], ["z2"]),
        node("Reshape", ["z2", writer.plain("shape", np.array([1, -1, hidden], np.int64))], ["z3"]),
        node(
            "GRU",
            ["z3", gru_in, gru_memory, writer.plain("bg", gru_bias[None]), "", "h_i"],
            ["", "h_o"],
            hidden_size=hidden,
            linear_before_reset=1,
        ),
        node("Reshape", ["h_o", writer.plain("flat", np.array([-1, hidden], np.int64))], ["h1"]),
        node("Gemm", ["h1", classes, bias2], ["z4"], transB=1),
        node("Softmax", ["z4"], ["p"], axis=1),
    ]
    states = (
        State(
            input="t_i",
            output="t_o",
            shape=(1, embedding),
            output_shape=(1, embedding),
            dtype="float32",
            initial=0.0,
        ),
        State(input="seen_i", output="seen_o", shape=(1, 1), output_shape=(1, 1), dtype="float32", initial=0.0),
        State(
            input="h_i",
            output="h_o",
            shape=(1, 1, hidden),
            output_shape=(1, 1, hidden),
            dtype="float32",
            initial=0.0,
        ),
    )
    inputs = (
        Tensor(name="e", shape=(1, embedding), dtype="float32"),
        Tensor(name="r", shape=(1, N_FEATURES), dtype="float32"),
    )
    outputs = (Tensor(name="p", shape=(1, N_CLASSES), dtype="float32"),)
    graph = helper.make_graph(
        nodes,
        "head",
        [_info(n, s) for n, s in [(t.name, t.shape) for t in inputs] + [(s.input, s.shape) for s in states]],
        [_info(n, s) for n, s in [(t.name, t.shape) for t in outputs] + [(s.output, s.shape) for s in states]],
        writer.initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="vitaledge",
    )
    onnx.checker.check_model(model)
    entry = Graph(
        name="head",
        file="head.onnx",
        runs="once per beat",
        precision="int8" if weights_int8 else "fp32",
        inputs=inputs,
        outputs=outputs,
        states=states,
        parameters=sum(v.size for v in w.values()),
        macs=sum(v.size for v in w.values() if v.ndim == 2),
        integer_operators=0,
        operators=4,
    )
    return model, entry


def _info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    """A tensor of the graph: its last but one axis is the streams', any number of them."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (*shape[:-2], STREAMS, shape[-1]))


class _Constants:
    def __init__(self, weights_int8: bool) -> None:
        self._int8 = weights_int8
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def plain(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def matrix(self, name: str, value: np.ndarray, *, stacked: bool = False) -> str:
        """A weight (out, in), stored as int8 with a scale per row if asked; `stacked` adds ONNX's direction axis."""
        value = value[None] if stacked else value
        if not self._int8:
            return self.plain(name, np.ascontiguousarray(value))
        axis = value.ndim - 2
        scale = np.maximum(np.abs(value).max(axis=tuple(i for i in range(value.ndim) if i != axis)) / 127, 1e-8)
        shape = [1] * value.ndim
        shape[axis] = -1
        integers = np.clip(np.rint(value / scale.reshape(shape)), -127, 127).astype(np.int8)
        names = [self.plain(f"{name}_q", integers), self.plain(f"{name}_s", scale.astype(np.float32))]
        self.nodes.append(helper.make_node("DequantizeLinear", names, [name], axis=axis))
        return name
