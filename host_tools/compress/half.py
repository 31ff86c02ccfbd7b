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
    from onnxruntime.transformers.float16 import convert_float_to_float16

    constants = {c.name: numpy_helper.to_array(c) for c in graph.graph.initializer}
    reached: set[str] = set()
    wide = []
    for node in graph.graph.node:
        if node.op_type in (*LAYERS, "ConvTranspose", "LSTM", "GRU") or reached & set(node.input):
            reached |= set(node.output)
            for name in node.input:
                if name in constants and constants[name].dtype == np.float32:
                    _narrow(name, constants[name])
        else:
            wide.append(node.name)
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    # 2^-24 is the least number that 16 bits hold: below it the converter rounds away from zero.
    halved = convert_float_to_float16(copy, keep_io_types=True, node_block_list=wide, min_positive_val=2.0**-24)
    return _sorted(halved)


def _sorted(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same with every node behind those it reads; the converter leaves its own at the end."""
    known = {"", *(i.name for i in graph.graph.input), *(c.name for c in graph.graph.initializer)}
    waiting, nodes = list(graph.graph.node), []
    while waiting:
        ready = [n for n in waiting if known.issuperset(n.input)]
        if not ready:
            raise SettingsError(f"half: node {waiting[0].name} reads what no node gives")
        nodes.append(ready[0])
        waiting.remove(ready[0])
        known.update(ready[0].output)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph


def _narrow(name: str, value: np.ndarray) -> np.ndarray:
    most = float(np.abs(value[np.isfinite(value)]).max(initial=0.0))
    if most > np.finfo(np.float16).max:
        raise SettingsError(f"half: constant {name} reaches {most:g}; at most 65504 fits 16 bits")
    return value.astype(np.float16)
