"""An ONNX graph as a torch module that can be trained: what is learnt is exactly what will be shipped.

The weights and biases of Conv, Gemm and MatMul are parameters; every other constant is fixed.
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.export.torch_operators import OPERATORS, Values

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class GraphNetwork(nn.Module):
    """Runs a graph of one input and one output; raises SettingsError for operators it does not know."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        super().__init__()
        self.nodes = [_Node(n) for n in graph.graph.node]
        unknown = sorted({n.kind for n in self.nodes} - set(OPERATORS))
        if unknown:
            raise SettingsError(f"operator {unknown[0]} cannot be trained; those that can: {', '.join(OPERATORS)}")
        self.input, self.output = graph.graph.input[0].name, graph.graph.output[0].name
        self.fixed: Values = {}
        self.slots: dict[str, str] = {}  # a constant's name, and the module's name for it
        trained = {i for n in self.nodes if n.kind in WEIGHTED for i in n.inputs[1:]}
        outputs = {n.outputs[0] for n in self.nodes if n.kind == "MatMul"}
        trained |= {i for n in self.nodes if n.kind == "Add" and outputs & set(n.inputs) for i in n.inputs}
        for constant in graph.graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(constant).copy())
            slot = f"constant_{len(self.slots)}"
            if not value.is_floating_point():
                self.fixed[constant.name] = value  # shapes and axes, read on the CPU
            elif constant.name in trained:
                self.register_parameter(slot, nn.Parameter(value))
                self.slots[constant.name] = slot
            else:
                self.register_buffer(slot, value)
                self.slots[constant.name] = slot

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (n, channels, *size) -> (n, classes)."""
        values: Values = {**self.fixed, **{name: getattr(self, slot) for name, slot in self.slots.items()}}
        values[self.input] = self.after(self.input, x)
        for node in self.nodes:
            out = OPERATORS[node.kind](node.settings, *self.read(node.name, node.inputs, values))
            for name, value in zip(node.outputs, out if isinstance(out, tuple) else (out,), strict=False):
                values[name] = self.after(name, value)
        return values[self.output]

    def read(self, node: str, names: list[str], values: Values) -> list[Any]:
        """What a node reads; quantization puts rounded weights here."""
        return [values[name] if name else None for name in names]

    def after(self, tensor: str, value: torch.Tensor) -> torch.Tensor:
        """What is kept of a tensor; quantization rounds it here."""
        return value

    def into(self, graph: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of the graph with what was learnt."""
        learnt = onnx.ModelProto()
        learnt.CopyFrom(graph)
        for constant in learnt.graph.initializer:
            if constant.name in self.slots:
                value = getattr(self, self.slots[constant.name]).detach().cpu().numpy()
                constant.CopyFrom(numpy_helper.from_array(value, constant.name))
        return learnt


class _Node:
    def __init__(self, node: onnx.NodeProto) -> None:
        self.name, self.kind = node.name, node.op_type
        self.inputs, self.outputs = list(node.input), list(node.output)
        self.settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            self.settings = {"value": torch.from_numpy(numpy_helper.to_array(self.settings["value"]).copy())}
