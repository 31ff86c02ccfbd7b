"""A planned graph as an INT8 file: uint8 activations, int8 weights, int32 biases, as Quantize and Dequantize nodes.

This is the combination (U8S8) that ONNX Runtime fuses into integer kernels. A ReLU behind a layer disappears: its
output's integers start at 0, so the rounding is the ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.compress.integer_plan import Layer, Plan
from host_tools.compress.quantize import Scale


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How weights become int8: symmetric, from -127 to 127.

    per       one scale for each output channel, or one for the tensor
    rounding  to the nearest, or dropping the fraction
    bits      8; or 7 for x86 processors without VNNI, where sums of two products saturate at 16 bits
    """

    per: Literal["channel", "tensor"] = "channel"
    rounding: Literal["nearest", "drop"] = "nearest"
    bits: int = 8

    @property
    def largest(self) -> int:
        """The largest integer."""
        return int(2 ** (self.bits - 1) - 1)

    def scales(self, weight: Float32Array, axis: int) -> Float32Array:
        """float32 (channels,) along `axis`, or () for the tensor."""
        others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
        most = np.abs(weight).max(axis=others if self.per == "channel" else None)
        return np.asarray(np.maximum(most / self.largest, 1e-12), np.float32)

    def quantize(self, weight: Float32Array, axis: int) -> tuple[np.ndarray, Float32Array]:
        """Integers int8 of the same shape, and their scales."""
        scales = self.scales(weight, axis)
        ratio = weight / _along(scales, axis, weight.ndim)
        whole = np.rint(ratio) if self.rounding == "nearest" else np.trunc(ratio)
        return np.clip(whole, -self.largest, self.largest).astype(np.int8), scales

    def rounded(self, weight: Float32Array, axis: int) -> Float32Array:
        """The real numbers that the integers stand for."""
        integers, scales = self.quantize(weight, axis)
        return np.asarray(integers * _along(scales, axis, weight.ndim), np.float32)


def dequantized(tensor: str) -> str:
    """The name under which a tensor's rounded values are read."""
    return f"{tensor}__rounded"


def write_qdq(graph: onnx.ModelProto, plan: Plan, scales: Mapping[str, Scale], how: Weights) -> onnx.ModelProto:
    """The QDQ graph; tensors keep their names, and `dequantized(name)` are their values after rounding.

    Raises SettingsError if the graph reads a layer's weights elsewhere too.
    """
    return _Writer(graph, plan, scales, how).write()


class _Writer:
    def __init__(self, graph: onnx.ModelProto, plan: Plan, scales: Mapping[str, Scale], how: Weights) -> None:
        self.graph, self.plan, self.scales, self.how = graph, plan, scales, how
        self.constants = {c.name: c for c in graph.graph.initializer}
        self.layers = {layer.node: layer for layer in plan.layers}
        self.dropped = {name for name, _ in plan.relus.values()}
        self.before_relu = {n.input[0]: n.output[0] for n in graph.graph.node if n.name in self.dropped}
        self.nodes: list[onnx.NodeProto] = []

    def write(self) -> onnx.ModelProto:
        done = onnx.ModelProto()
        done.CopyFrom(self.graph)
        for name in (i.name for i in self.graph.graph.input):
            self.round_off(name)
        for node in self.graph.graph.node:
            if node.name in self.dropped:
                continue
            written = onnx.NodeProto()
            written.CopyFrom(node)
            for i, name in enumerate(node.input):
                if name in self.plan.inner:
                    written.input[i] = dequantized(name)
            if node.name in self.layers:
                self.layer(written, self.layers[node.name])
            elif node.op_type in ("Conv", "ConvTranspose", "Gemm") and node.input[0] in self.plan.inner:
                self.keep_wide(written)
            written.output[0] = self.before_relu.get(node.output[0], node.output[0])
            self.nodes.append(written)
            for name in written.output:
                self.round_off(name)
        for output in {o.name for o in self.graph.graph.output} & set(self.plan.inner):
            self.give_rounded(output)
        del done.graph.node[:]
        done.graph.node.extend(self.nodes)
        del done.graph.initializer[:]
        read = {i for n in self.nodes for i in n.input}
        done.graph.initializer.extend(c for c in self.constants.values() if c.name in read)
        del done.graph.value_info[:]
        onnx.checker.check_model(done)
        return done

    def give_rounded(self, output: str) -> None:
        """Let a graph's output be its rounded values: a convolution without rounding would stay float."""
        for node in self.nodes:
            for side in (node.input, node.output):
                for i, name in enumerate(side):
                    side[i] = f"{name}__real" if name == output else name
        self.nodes.append(helper.make_node("Identity", [dequantized(output)], [output]))

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def round_off(self, tensor: str) -> None:
        """Quantize and dequantize a tensor of the plan."""
        if tensor not in self.plan.inner and tensor not in self.plan.entries:
            return
        root = self.plan.root(tensor)
        scale = self.scales[root]
        pair = [
            self.constant(f"{root}__scale", np.array(scale.scale, np.float32)),
            self.constant(f"{root}__zero", np.array(scale.zero_point, np.uint8)),
        ]
        self.nodes.append(helper.make_node("QuantizeLinear", [tensor, *pair], [f"{tensor}__integers"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{tensor}__integers", *pair], [dequantized(tensor)]))

    def layer(self, node: onnx.NodeProto, layer: Layer) -> None:
        """Integer weights and bias for a layer that reads rounded values."""
        if layer.input in self.plan.entries:
            node.input[0] = dequantized(layer.input)
        weight = numpy_helper.to_array(self.constants[layer.weight])
        if weight.dtype != np.float32:
            raise SettingsError(f"layer {layer.name}: weights are {weight.dtype}; float32 wanted")
        integers, scales = self.how.quantize(weight, layer.axis)
        node.input[1] = self.integer(f"{layer.node}__weight", integers, scales, layer.axis)
        if layer.bias is None:
            return
        bias = numpy_helper.to_array(self.constants[layer.bias])
        steps = np.asarray(scales * np.float32(self.scales[self.plan.root(layer.input)].scale), np.float32)
        ends = np.iinfo(np.int32)
        whole = np.clip(np.rint(bias.astype(np.float64) / steps), ends.min, ends.max).astype(np.int32)
        node.input[2] = self.integer(f"{layer.node}__bias", whole, steps, 0)

    def keep_wide(self, node: onnx.NodeProto) -> None:
        """Put the maximum of one tensor, which is itself, in front of a float layer.

        ONNX Runtime gives int8 weights to any float layer between Dequantize and Quantize (WeightBiasQuantization),
        removes an Identity and moves a Reshape; this it leaves alone.
        """
        wide = f"{node.name}__wide"
        self.nodes.append(helper.make_node("Max", [node.input[0]], [wide]))
        node.input[0] = wide

    def integer(self, name: str, integers: np.ndarray, scales: Float32Array, axis: int) -> str:
        inputs = [self.constant(f"{name}__integers", integers), self.constant(f"{name}__scale", scales)]
        if integers.dtype == np.int8:  # without it ONNX Runtime leaves Gemm in floats
            inputs.append(self.constant(f"{name}__zero", np.zeros(scales.shape, np.int8)))
        along = {"axis": axis} if scales.ndim and axis != 1 else {}
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], **along))
        return name


def _along(scales: Float32Array, axis: int, ndim: int) -> Float32Array:
    if not scales.ndim:
        return scales
    return scales.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])
