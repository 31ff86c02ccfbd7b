"""Step `half`: 16-bit floating point, half the bytes (Micikevicius et al., "Mixed Precision Training", ICLR 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.integer_plan import LAYERS
from host_tools.compress.ptq import float_graph
from host_tools.compress.quantized_tables import cost_table
from host_tools.compress.step import Candidate, Lab
from host_tools.export.compact import compact
from host_tools.export.simplify import simplified

STARTS = (*LAYERS, "ConvTranspose", "LSTM", "GRU", "RNN")  # arithmetic becomes narrow at the first of these


@dataclass(frozen=True, kw_only=True)
class Half:
    """Step `half`.

    arithmetic  fp16: everything from the first layer on computes in 16 bits, inputs and outputs stay 32;
                fp32: only the file holds 16 bits, the engine widens the weights when it loads them
    """

    arithmetic: Literal["fp16", "fp32"] = "fp16"

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Write the graph; raises SettingsError for a weight beyond 65504."""
        before = float_graph(candidate, lab)
        simple = simplified(before)
        after = compact(half_arithmetic(simple) if self.arithmetic == "fp16" else half_weights(simple))
        return candidate.as_graph(after, cost_table("half", before, after, lab.fold.train.inputs.shape[1:]))


def half_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Weights as 16 bits and a Cast behind each; the arithmetic is as before."""
    halved = onnx.ModelProto()
    halved.CopyFrom(graph)
    casts = []
    for constant in halved.graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.dtype == np.float32 and value.ndim > 1 and value.size > 16:  # below, the node costs more than it saves
            name = constant.name
            constant.CopyFrom(numpy_helper.from_array(_narrow(name, value), f"{name}__half"))
            casts.append(helper.make_node("Cast", [f"{name}__half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def half_arithmetic(graph: onnx.ModelProto) -> onnx.ModelProto:
    """16 bits from the first layer on: what is in front (imputation, scaling of inputs) may need the range of 32."""
    return _Narrower(graph).write()


class _Narrower:
    def __init__(self, graph: onnx.ModelProto) -> None:
        self.graph = graph
        self.constants = {c.name: c for c in graph.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(graph).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        self.real = {v.name for v in known if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
        self.real |= {c.name for c in graph.graph.initializer if c.data_type == onnx.TensorProto.FLOAT}
        self.nodes: list[onnx.NodeProto] = []
        self.narrow: dict[str, str] = {}

    def write(self) -> onnx.ModelProto:
        halved = onnx.ModelProto()
        halved.CopyFrom(self.graph)
        reached: set[str] = set()
        for node in halved.graph.node:
            if node.op_type in STARTS or reached & set(node.input):
                reached |= set(node.output)
                for i, name in enumerate(node.input):
                    if name in self.real:
                        node.input[i] = self.narrowed(name)
                for i, name in enumerate(node.output):
                    self.narrow[name] = node.output[i] = f"{name}__half"
                for setting in node.attribute:
                    if node.op_type == "Cast" and setting.name == "to" and setting.i == onnx.TensorProto.FLOAT:
                        setting.i = onnx.TensorProto.FLOAT16
            self.nodes.append(node)
        for output in halved.graph.output:
            if output.name in reached:
                kind = output.type.tensor_type.elem_type
                self.nodes.append(helper.make_node("Cast", [f"{output.name}__half"], [output.name], to=kind))
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in self.nodes]
        del halved.graph.node[:]
        halved.graph.node.extend(nodes)
        del halved.graph.initializer[:]
        halved.graph.initializer.extend(self.constants.values())
        return halved

    def narrowed(self, name: str) -> str:
        """The 16-bit form of a tensor that a layer or what follows it reads."""
        if name not in self.narrow:
            self.narrow[name] = f"{name}__half"
            if name in self.constants:
                value = _narrow(name, numpy_helper.to_array(self.constants[name]))
                self.constants[f"{name}__half"] = numpy_helper.from_array(value, f"{name}__half")
            else:
                cast = helper.make_node("Cast", [name], [f"{name}__half"], to=onnx.TensorProto.FLOAT16)
                self.nodes.append(cast)
        return self.narrow[name]


def _narrow(name: str, value: np.ndarray) -> np.ndarray:
    most = float(np.abs(value[np.isfinite(value)]).max(initial=0.0))
    if most > float(np.finfo(np.float16).max):
        raise SettingsError(f"half: constant {name} reaches {most:g}; at most 65504 fits 16 bits")
    return value.astype(np.float16)
