"""Operators of an ONNX graph that work element by element, as LiteRT's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from host_tools.export.litert_file import FileTensor, constant
from host_tools.export.litert_layers import fused_relu
from host_tools.export.litert_net import Net, Node, Value, quantization

# ONNX name -> LiteRT's, and the schema's name of its options ("" where there are none).
UNARY = {
    "Abs": ("ABS", "Abs"),
    "Ceil": ("CEIL", ""),
    "Cos": ("COS", "Cos"),
    "Exp": ("EXP", "Exp"),
    "Floor": ("FLOOR", ""),
    "Log": ("LOG", ""),
    "Neg": ("NEG", "Neg"),
    "Not": ("LOGICAL_NOT", "LogicalNot"),
    "Round": ("ROUND", ""),
    "Sigmoid": ("LOGISTIC", ""),
    "Sign": ("SIGN", "Sign"),
    "Sin": ("SIN", ""),
    "Sqrt": ("SQRT", ""),
    "Tanh": ("TANH", ""),
}
BINARY = {
    "Add": ("ADD", "Add"),
    "And": ("LOGICAL_AND", "LogicalAnd"),
    "Div": ("DIV", "Div"),
    "Equal": ("EQUAL", "Equal"),
    "Greater": ("GREATER", "Greater"),
    "GreaterOrEqual": ("GREATER_EQUAL", "GreaterEqual"),
    "Less": ("LESS", "Less"),
    "LessOrEqual": ("LESS_EQUAL", "LessEqual"),
    "Max": ("MAXIMUM", "MaximumMinimum"),
    "Min": ("MINIMUM", "MaximumMinimum"),
    "Mul": ("MUL", "Mul"),
    "Or": ("LOGICAL_OR", "LogicalOr"),
    "Pow": ("POW", "Pow"),
    "Sub": ("SUB", "Sub"),
}
INTEGER_BINARY = {"QLinearAdd": ("ADD", "Add"), "QLinearMul": ("MUL", "Mul")}


def unary(net: Net, node: Node) -> None:
    """One operand."""
    kind, options = UNARY[node.kind]
    _each(net, node, kind, options)


def _each(net: Net, node: Node, kind: str, options: str, fields: dict[str, Any] | None = None) -> None:
    value = net.value(node.inputs[0])
    made = net.emit(
        kind,
        [value.tensor],
        value.tensor.shape,
        net.dtypes[node.outputs[0]],
        (options, fields or {}) if options else None,
    )
    net.say(node.outputs[0], made, is_last=value.is_last)


def binary(net: Net, node: Node) -> None:
    """Two operands; of one the value itself, of more one after the other."""
    kind, options = BINARY[node.kind]
    if len(node.inputs) == 1:
        net.values[node.outputs[0]] = net.value(node.inputs[0])
        return
    if node.kind == "Pow" and node.inputs[1] in net.constants and np.all(net.constants[node.inputs[1]] == 2.0):
        tensors, is_last = net.together((node.inputs[0], node.inputs[0]), _rank(net, node))
        kind, options = "MUL", "Mul"
    else:
        tensors, is_last = net.together(node.inputs, _rank(net, node))
    made = tensors[0]
    for tensor in tensors[1:]:
        shape = tuple(np.broadcast_shapes(made.shape, tensor.shape))
        made = net.emit(kind, [made, tensor], shape, net.dtypes[node.outputs[0]], (options, {}))
    net.say(node.outputs[0], _whole_rank(net, made, node, is_last), is_last=is_last)


def _rank(net: Net, node: Node) -> int:
    return len(net.shapes[node.outputs[0]])


def _whole_rank(net: Net, made: FileTensor, node: Node, is_last: bool) -> FileTensor:
    """The result in the output's own rank, where only constants had one."""
    return made if is_last else net.reshape(made, net.shapes[node.outputs[0]])


def integer_binary(net: Net, node: Node) -> None:
    """QLinearAdd and QLinearMul: a, scale, zero, b, scale, zero, scale, zero."""
    kind, options = INTEGER_BINARY[node.kind]
    for i in (0, 3):
        if node.inputs[i] in net.constants:
            raise node.refused("one side is a constant; two computed values wanted")
        net.scale(node.inputs[i], net.constant(node.inputs[i + 1], node), net.constant(node.inputs[i + 2], node), node)
    output = quantization(net.constant(node.inputs[6], node), net.constant(node.inputs[7], node))
    tensors, is_last = net.together((node.inputs[0], node.inputs[3]), _rank(net, node))
    shape = tuple(np.broadcast_shapes(tensors[0].shape, tensors[1].shape))
    net.say(node.outputs[0], net.emit(kind, tensors, shape, "int8", (options, {}), output), is_last=is_last)


def integer_unary(net: Net, node: Node) -> None:
    """QLinearSigmoid and QLinearLeakyRelu: x, scale, zero, scale, zero; computed on the real numbers."""
    net.scale(node.inputs[0], net.constant(node.inputs[1], node), net.constant(node.inputs[2], node), node)
    value = net.value(node.inputs[0])
    output = quantization(net.constant(node.inputs[3], node), net.constant(node.inputs[4], node))
    shape = value.tensor.shape
    real = net.emit("DEQUANTIZE", [value.tensor], shape, "float32", ("Dequantize", {}))
    if node.kind == "QLinearSigmoid":
        made = net.emit("LOGISTIC", [real], shape, "float32")
    else:
        options = ("LeakyRelu", {"alpha": float(node.settings.get("alpha", 0.01))})
        made = net.emit("LEAKY_RELU", [real], shape, "float32", options)
    rounded = net.emit("QUANTIZE", [made], shape, "int8", ("Quantize", {}), output)
    net.say(node.outputs[0], rounded, is_last=value.is_last)


def relu(net: Net, node: Node) -> None:
    """Relu; where only it reads a layer, the layer's own."""
    value = net.value(node.inputs[0])
    last = net.file.operators[-1] if net.file.operators else None
    if last is not None and last.outputs[0] is value.tensor and net.uses[node.inputs[0]] == 1:
        joined = fused_relu(last)
        if joined is not None:
            net.file.operators[-1] = joined
            net.values[node.outputs[0]] = value
            return
    _each(net, node, "RELU", "")


def leaky_relu(net: Net, node: Node) -> None:
    """LeakyRelu."""
    _each(net, node, "LEAKY_RELU", "LeakyRelu", {"alpha": float(node.settings.get("alpha", 0.01))})


def clip(net: Net, node: Node) -> None:
    """Clip, whose ends may be missing; 0 to 6 has an operator of its own."""
    ends = [net.optional(node.input(i), node) for i in (1, 2)]
    if [None if e is None else float(e) for e in ends] == [0.0, 6.0]:
        _each(net, node, "RELU6", "")
        return
    value = net.value(node.inputs[0])
    made = value.tensor
    for kind, end in zip(("MAXIMUM", "MINIMUM"), ends, strict=True):
        if end is not None:
            limit = constant(net.fresh(), end.reshape(1).astype(np.float32))
            made = net.emit(kind, [made, limit], made.shape, "float32", ("MaximumMinimum", {}))
    net.values[node.outputs[0]] = Value(shape=value.shape, tensor=made, is_last=value.is_last)


def hard_sigmoid(net: Net, node: Node) -> None:
    """HardSigmoid: max(0, min(1, alpha x + beta))."""
    value = net.value(node.inputs[0])
    made = value.tensor
    alpha, beta = float(node.settings.get("alpha", 0.2)), float(node.settings.get("beta", 0.5))
    for kind, options, number in (
        ("MUL", "Mul", alpha),
        ("ADD", "Add", beta),
        ("MAXIMUM", "MaximumMinimum", 0.0),
        ("MINIMUM", "MaximumMinimum", 1.0),
    ):
        side = constant(net.fresh(), np.array([number], np.float32))
        made = net.emit(kind, [made, side], made.shape, "float32", (options, {}))
    net.say(node.outputs[0], made, is_last=value.is_last)


def reciprocal(net: Net, node: Node) -> None:
    """Reciprocal, as a quotient."""
    value = net.value(node.inputs[0])
    one = constant(net.fresh(), np.ones(1, np.float32))
    made = net.emit("DIV", [one, value.tensor], value.tensor.shape, "float32", ("Div", {}))
    net.say(node.outputs[0], made, is_last=value.is_last)


def is_nan(net: Net, node: Node) -> None:
    """IsNaN: what differs from itself."""
    value = net.value(node.inputs[0])
    made = net.emit("NOT_EQUAL", [value.tensor, value.tensor], value.tensor.shape, "bool", ("NotEqual", {}))
    net.say(node.outputs[0], made, is_last=value.is_last)


def cast(net: Net, node: Node) -> None:
    """Cast between numbers that LiteRT has; whole numbers have 32 bits there."""
    value = net.value(node.inputs[0])
    wanted = str(onnx.helper.tensor_dtype_to_np_dtype(int(node.settings["to"])))
    dtype = {"int64": "int32"}.get(wanted, wanted)
    if dtype not in ("float32", "int32", "bool"):
        raise node.refused(f"to {wanted}; float32, int32, int64 or bool wanted")
    if dtype == value.tensor.dtype:
        net.values[node.outputs[0]] = value
        return
    made = net.emit("CAST", [value.tensor], value.tensor.shape, dtype, ("Cast", {}))
    net.say(node.outputs[0], made, is_last=value.is_last)


def where(net: Net, node: Node) -> None:
    """Where."""
    tensors, is_last = net.together(node.inputs, _rank(net, node))
    shape = tuple(np.broadcast_shapes(*(t.shape for t in tensors)))
    made = net.emit("SELECT_V2", tensors, shape, tensors[1].dtype, ("SelectV2", {}))
    net.say(node.outputs[0], _whole_rank(net, made, node, is_last), is_last=is_last)


def softmax(net: Net, node: Node) -> None:
    """Softmax over the axis that lies last in memory."""
    value = net.value(node.inputs[0])
    axis = int(node.settings.get("axis", -1)) % len(value.shape)
    is_last = value.is_last and axis == 1
    if not is_last and axis != len(value.shape) - 1:
        raise node.refused(f"axis is {axis}; the last of {len(value.shape)} wanted")
    given = value.tensor if is_last else net.first(node.inputs[0])
    made = net.emit("SOFTMAX", [given], given.shape, "float32", ("Softmax", {"beta": 1.0}))
    net.say(node.outputs[0], made, is_last=is_last)


def quantize(net: Net, node: Node) -> None:
    """QuantizeLinear with one scale."""
    value = net.value(node.inputs[0])
    zero = net.optional(node.input(2), node)
    scale = net.constant(node.inputs[1], node)
    if scale.size != 1:
        raise node.refused("a scale per channel; one wanted")
    found = quantization(scale, np.zeros((), np.uint8) if zero is None else zero)
    made = net.emit("QUANTIZE", [value.tensor], value.tensor.shape, "int8", ("Quantize", {}), found)
    net.say(node.outputs[0], made, is_last=value.is_last)


def dequantize(net: Net, node: Node) -> None:
    """DequantizeLinear; of a constant, its real numbers."""
    scale = net.constant(node.inputs[1], node)
    zero = net.optional(node.input(2), node)
    if node.inputs[0] in net.constants:
        integers = net.constants[node.inputs[0]]
        axis = int(node.settings.get("axis", 1))
        along = [-1 if i == axis % max(integers.ndim, 1) else 1 for i in range(integers.ndim)]
        shape = along if scale.size > 1 else [1] * integers.ndim
        whole = integers.astype(np.int64) - (0 if zero is None else zero.astype(np.int64).reshape(shape))
        rows = integers.reshape(-1, integers.shape[-1]) if integers.ndim > 1 else integers
        if integers.dtype == np.int8 and (zero is None or not np.any(zero)) and scale.size in (1, len(rows)):
            net.packed[node.outputs[0]] = (rows, scale)
        net.constants[node.outputs[0]] = (whole * scale.reshape(shape)).astype(np.float32)
        return
    net.scale(node.inputs[0], scale, np.zeros((), np.uint8) if zero is None else zero, node)
    value = net.value(node.inputs[0])
    known = next(
        (o.outputs[0] for o in net.file.operators if o.kind == "DEQUANTIZE" and o.inputs[0] is value.tensor),
        None,
    )
    made = known or net.emit("DEQUANTIZE", [value.tensor], value.tensor.shape, "float32", ("Dequantize", {}))
    net.say(node.outputs[0], made, is_last=value.is_last)


def batch_norm(net: Net, node: Node) -> None:
    """BatchNormalization that no convolution took in: a product and a sum per channel."""
    value = net.value(node.inputs[0])
    gain, bias, mean, variance = (net.constant(n, node).astype(np.float64) for n in node.inputs[1:5])
    factor = gain / np.sqrt(variance + float(node.settings.get("epsilon", 1e-5)))
    rest = bias - mean * factor
    shape = (-1,) if value.is_last else (1, -1, *([1] * (len(value.shape) - 2)))
    made = value.tensor
    for kind, options, number in (("MUL", "Mul", factor), ("ADD", "Add", rest)):
        side = constant(net.fresh(), number.reshape(shape).astype(np.float32))
        made = net.emit(kind, [made, side], made.shape, "float32", (options, {}))
    net.say(node.outputs[0], made, is_last=value.is_last)


def same(net: Net, node: Node) -> None:
    """Identity and Dropout."""
    net.values[node.outputs[0]] = replace(net.value(node.inputs[0]))


ELEMENTS: dict[str, Callable[[Net, Node], None]] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(INTEGER_BINARY, integer_binary),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu"), integer_unary),
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Clip": clip,
    "DequantizeLinear": dequantize,
    "Dropout": same,
    "HardSigmoid": hard_sigmoid,
    "Identity": same,
    "IsNaN": is_nan,
    "LeakyRelu": leaky_relu,
    "QuantizeLinear": quantize,
    "Reciprocal": reciprocal,
    "Relu": relu,
    "Softmax": softmax,
    "Where": where,
}
