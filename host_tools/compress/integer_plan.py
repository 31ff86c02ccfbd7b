"""Which layers of a float graph become integer arithmetic, and which tensors need a scale for it.

Layers are Conv, Gemm and MatMul with constant weights. What moves or joins their outputs on the way to another
layer stays in integers too, so that no tensor is turned into floats in between. Everything in front of the first
layer (imputation of missing values, scaling of inputs) stays float.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from edge_runtime.contract.errors import SettingsError

LAYERS = ("Conv", "Gemm", "MatMul")
ARITHMETIC = ("Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu")
MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
WIDE_WORDS = ("none", "first", "last", "first-and-last")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weighted node. `axis` is that of the weights' output channels; `output` after its ReLU, if it has one."""

    name: str
    node: str
    kind: str
    input: str
    weight: str
    bias: str | None
    output: str
    axis: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is written in integers.

    layers   in order
    wide     layers that stay float by wish
    entries  float tensors that only layers read in integers
    inner    tensors that exist in integers only
    ties     inner tensors that have the scale of another, because values only move between them
    relus    the activation node that the rounding of each tensor replaces, and its upper limit
    """

    layers: tuple[Layer, ...]
    wide: tuple[str, ...]
    entries: tuple[str, ...]
    inner: tuple[str, ...]
    ties: dict[str, str]
    relus: dict[str, tuple[str, float | None]]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Those that need a scale of their own."""
        return tuple(t for t in (*self.entries, *self.inner) if t not in self.ties)

    def root(self, tensor: str) -> str:
        """The tensor whose scale this one has."""
        while tensor in self.ties:
            tensor = self.ties[tensor]
        return tensor


def plan_integers(graph: onnx.ModelProto, keep_wide: str | Sequence[str] = "none") -> Plan:
    """Plan for a simplified graph (`export.simplify`).

    keep_wide  first, last, first-and-last, none, or names of layers
    Raises SettingsError if no layer is left or a named layer does not exist.
    """
    return _Planner(graph, keep_wide).plan()


class _Planner:
    def __init__(self, graph: onnx.ModelProto, keep_wide: str | Sequence[str]) -> None:
        self.nodes = list(graph.graph.node)
        self.constants = {c.name: c for c in graph.graph.initializer}
        self.outputs = {o.name for o in graph.graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.relus: dict[str, tuple[str, float | None]] = {}
        found = [layer for node in self.nodes if (layer := self.layer(node)) is not None]
        self.wide = _wide([layer.name for layer in found], keep_wide)
        self.layers = {layer.node: layer for layer in found if layer.name not in self.wide}
        if not self.layers:
            raise SettingsError(
                f"keep_wide is {keep_wide!r}, layers are {', '.join(n.name for n in found) or 'none'}: "
                "nothing is left to quantize; a Conv, Gemm or MatMul with constant weights wanted"
            )
        self.memory: dict[str, bool] = {}

    def layer(self, node: onnx.NodeProto) -> Layer | None:
        if node.op_type not in LAYERS or node.input[0] in self.constants or node.input[1] not in self.constants:
            return None
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Gemm" and (
            settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0 or settings.get("transA", 0)
        ):
            return None
        if bias is not None and bias not in self.constants:
            return None
        axis = {"Conv": 0, "Gemm": 0 if settings.get("transB", 0) else 1, "MatMul": -1}[node.op_type]
        axis %= len(self.constants[node.input[1]].dims)
        return Layer(
            name=self.name(node, bias),
            node=node.name,
            kind=node.op_type,
            input=node.input[0],
            weight=node.input[1],
            bias=bias,
            output=node.output[0] if node.op_type == "MatMul" else self.after_relu(node.output[0]),
            axis=axis,
        )

    def name(self, node: onnx.NodeProto, bias: str | None) -> str:
        """The torch module's name, where the exporter kept it for the weight or the bias."""
        added = [i for r in self.readers.get(node.output[0], []) if r.op_type == "Add" for i in r.input]
        for constant in (node.input[1], bias, *added):
            if constant in self.constants and constant is not None:
                for ending in (".weight", ".bias"):
                    if constant.endswith(ending):
                        return str(constant).removesuffix(ending)
        return str(node.output[0])

    def after_relu(self, tensor: str) -> str:
        """The output of the ReLU (or Clip from 0) that alone reads a tensor, else the tensor."""
        readers = self.readers.get(tensor, [])
        if len(readers) != 1 or tensor in self.outputs:
            return tensor
        (reader,) = readers
        limits = [self.constants.get(name) for name in reader.input[1:]]
        if reader.op_type == "Clip" and len(limits) == 2 and None not in limits:
            low, high = (float(numpy_helper.to_array(c)) for c in limits)
            if low != 0.0:
                return tensor
            self.relus[reader.output[0]] = reader.name, high
            return str(reader.output[0])
        if reader.op_type == "Relu":
            self.relus[reader.output[0]] = reader.name, None
            return str(reader.output[0])
        return tensor

    def reaches_layer(self, tensor: str) -> bool:
        """Whether an integer layer reads a tensor, directly or through what can stay in integers."""
        if tensor not in self.memory:
            self.memory[tensor] = any(
                (r.name in self.layers and tensor == r.input[0])
                or (r.op_type in (*ARITHMETIC, *MOVES, "Relu") and self.reaches_layer(r.output[0]))
                for r in self.readers.get(tensor, [])
            )
        return self.memory[tensor]

    def plan(self) -> Plan:
        inner: dict[str, None] = {}
        ties: dict[str, str] = {}
        for node in self.nodes:
            if node.name in self.layers:
                output = self.layers[node.name].output
                if node.op_type == "Conv" or (node.op_type == "Gemm" and self.reaches_layer(output)):
                    inner[output] = None
            elif node.op_type in (*ARITHMETIC, *MOVES):
                moves = node.op_type in MOVES
                read = node.input[:1] if moves else node.input
                output = node.output[0] if moves else self.after_relu(node.output[0])
                if all(i in inner for i in read) and output not in self.outputs and self.reaches_layer(output):
                    inner[output] = None
                    if moves:
                        ties[output] = node.input[0]
        return Plan(
            layers=tuple(self.layers.values()),
            wide=self.wide,
            entries=tuple(dict.fromkeys(layer.input for layer in self.layers.values() if layer.input not in inner)),
            inner=tuple(inner),
            ties=ties,
            relus={output: relu for output, relu in self.relus.items() if output in inner},
        )


def _wide(names: list[str], keep_wide: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(keep_wide, str):
        unknown = sorted(set(keep_wide) - set(names))
        if unknown:
            raise SettingsError(f"keep_wide names {unknown[0]!r}; layers are {', '.join(names)}")
        return tuple(n for n in names if n in keep_wide)
    if keep_wide not in WIDE_WORDS:
        raise SettingsError(f"keep_wide is {keep_wide!r}; one of {', '.join(WIDE_WORDS)} or a list of layers wanted")
    ends = {"none": [], "first": names[:1], "last": names[-1:], "first-and-last": [*names[:1], *names[-1:]]}
    return tuple(dict.fromkeys(ends[keep_wide]))
