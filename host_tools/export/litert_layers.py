"""Convolutions, matrix products and pools of an ONNX graph as LiteRT's, in floats and in integers.

Integers: ONNX has uint8 activations, LiteRT int8, so zero points move by 128 and the integers with them; weights are
int8 with a scale per output channel in both, biases int32 in units of input scale times weight scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from host_tools.export.litert_file import FileOperator, FileTensor, Quantization, constant, ints
from host_tools.export.litert_net import Net, Node, quantization

SAME, VALID = 0, 1  # the schema's Padding
NO_ACTIVATION, RELU = 0, 1  # the schema's ActivationFunctionType
SMALLEST = np.finfo(np.float32).min


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """A layer's constants as ONNX has them, and what its integers stand for; None for floats.

    packed  integers int8 and scales (out,) of weights (out, in) that are stored so and computed with in floats
    """

    weight: np.ndarray
    bias: np.ndarray | None
    scales: np.ndarray | None = None
    output: Quantization | None = None
    packed: tuple[np.ndarray, np.ndarray] | None = None

    def tensors(self, net: Net, weight: np.ndarray, given: FileTensor, axis: int) -> tuple[FileTensor, FileTensor]:
        """Weights (in the file's order; channels along `axis`) and biases as constants."""
        n = weight.shape[axis]
        if self.scales is None:
            bias = np.zeros(n, np.float32) if self.bias is None else self.bias.reshape(-1).astype(np.float32)
            if self.packed is not None:
                return unpacked(net, *self.packed), constant(net.fresh(), bias)
            return constant(net.fresh(), weight.astype(np.float32)), constant(net.fresh(), bias)
        assert given.quantization is not None
        scales = _scales(self.scales)
        units = scales * np.float32(given.quantization.scales[0])
        integers = np.zeros(n, np.int32) if self.bias is None else self.bias.reshape(-1).astype(np.int32)
        return (
            constant(net.fresh(), weight, Quantization(scales=tuple(map(float, scales)), axis=axis)),
            constant(net.fresh(), integers, Quantization(scales=tuple(map(float, units)))),
        )


def _scales(given: np.ndarray) -> np.ndarray:
    """Scales float32 (out,), or the one that all share: in the file each takes 12 bytes, and its bias' as many."""
    scales = given.reshape(-1).astype(np.float32)
    return scales[:1] if (scales == scales[0]).all() else scales


def unpacked(net: Net, integers: np.ndarray, scales: np.ndarray) -> FileTensor:
    """Weights (out, in) as floats, stored as int8 with a scale for each output; engines unpack them at load."""
    stored = constant(net.fresh(), integers, Quantization(scales=tuple(map(float, _scales(scales)))))
    return net.emit("DEQUANTIZE", [stored], stored.shape, "float32", ("Dequantize", {}))


def conv(net: Net, node: Node) -> None:
    """Conv, also with the ReLU that an optimizer put into it."""
    weight = net.constant(node.inputs[1], node)
    bias = net.optional(node.input(2), node)
    activation = {"": NO_ACTIVATION, "Relu": RELU}.get(node.settings.get("activation", b"").decode())
    if activation is None or node.input(3):
        raise node.refused("a sum or another activation than ReLU is in it")
    _conv(net, node, Weights(weight=weight, bias=bias), activation)


def integer_conv(net: Net, node: Node) -> None:
    """QLinearConv, of ONNX and of ONNX Runtime with channels last."""
    net.scale(node.inputs[0], *_pair(net, node, 1), node)
    weight, scales = _weight(net, node, 3)
    bias = net.optional(node.input(8), node)
    _conv(net, node, Weights(weight=weight, bias=bias, scales=scales, output=_output(net, node, 6)), NO_ACTIVATION)


def _conv(net: Net, node: Node, weights: Weights, activation: int) -> None:
    is_last = bool(node.settings.get("channels_last", 0))
    given = net.first(node.inputs[0]) if is_last else net.last(node.inputs[0])
    kernel = weights.weight
    if kernel.ndim == 3:
        kernel = kernel[:, :, None, :]
    elif kernel.ndim != 4:
        raise node.refused(f"{kernel.ndim - 2} dimensions; 1 or 2 wanted")
    if len(given.shape) == 3:  # a signal with channels last
        given = net.reshape(given, (given.shape[0], 1, *given.shape[1:]))
    n_out, n_in, *size = kernel.shape
    strides, dilations = _two(node, "strides"), _two(node, "dilations")
    given, padding = _padded(net, node, given, size, strides, dilations)
    height, width = (
        -(-(given.shape[1 + i] - (0 if padding == SAME else (size[i] - 1) * dilations[i])) // strides[i])
        for i in range(2)
    )
    options: dict[str, int] = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": activation,
    }
    groups = int(node.settings.get("group", 1))
    is_depthwise = groups == given.shape[3] and groups > 1 and n_in == 1
    if is_depthwise:
        kind, name = "DEPTHWISE_CONV_2D", "DepthwiseConv2D"
        options["depthMultiplier"] = n_out // groups
        weight, bias = weights.tensors(net, kernel.transpose(1, 2, 3, 0), given, axis=3)
    else:
        kind, name = "CONV_2D", "Conv2D"
        weight, bias = weights.tensors(net, kernel.transpose(0, 2, 3, 1), given, axis=0)
    dtype = "float32" if weights.output is None else "int8"
    shape = (given.shape[0], height, width, n_out)
    made = net.emit(kind, [given, weight, bias], shape, dtype, (name, options), weights.output)
    if is_last:
        made = net.reshape(made, net.shapes[node.outputs[0]])
    net.say(node.outputs[0], made, is_last=not is_last)


def _two(node: Node, name: str) -> list[int]:
    values = [int(v) for v in node.settings.get(name, [1, 1])]
    return [1, *values] if len(values) == 1 else values


def _pads(node: Node) -> list[tuple[int, int]]:
    if node.settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or node.settings.get("ceil_mode", 0):
        raise node.refused("padding is chosen by the engine; explicit pads wanted")
    pads = [int(v) for v in node.settings.get("pads", [0, 0, 0, 0])]
    if len(pads) == 2:
        pads = [0, pads[0], 0, pads[1]]
    return [(pads[0], pads[2]), (pads[1], pads[3])]


def _padded(
    net: Net,
    node: Node,
    given: FileTensor,
    size: list[int],
    strides: list[int],
    dilations: list[int],
    filler: float | None = None,
) -> tuple[FileTensor, int]:
    """The input and LiteRT's word for the padding: what it has no word for becomes an operator in front.

    filler  what a pool pads with; None is zero
    """
    pads = _pads(node)
    if not any(map(any, pads)):
        return given, VALID
    same = []
    for i in range(2):
        n = given.shape[1 + i]
        total = max((-(-n // strides[i]) - 1) * strides[i] + (size[i] - 1) * dilations[i] + 1 - n, 0)
        same.append((total // 2, total - total // 2))
    if same == pads:
        return given, SAME
    around = [(0, 0), *pads, (0, 0)]
    shape = tuple(n + a + b for n, (a, b) in zip(given.shape, around, strict=True))
    paddings = constant(net.fresh(), np.array(around, np.int32))
    if filler is None:
        return net.emit("PAD", [given, paddings], shape, given.dtype, ("Pad", {}), given.quantization), VALID
    value = constant(net.fresh(), np.array([filler], given.dtype), given.quantization)
    return net.emit("PADV2", [given, paddings, value], shape, given.dtype, ("PadV2", {}), given.quantization), VALID


def gemm(net: Net, node: Node) -> None:
    """Gemm with constant weights."""
    weight = net.constant(node.inputs[1], node)
    bias = net.optional(node.input(2), node)
    alpha, beta = float(node.settings.get("alpha", 1.0)), float(node.settings.get("beta", 1.0))
    if node.settings.get("transA", 0):
        raise node.refused("its input is transposed")
    rows = weight if node.settings.get("transB", 0) else weight.T
    bias = None if bias is None else np.broadcast_to(bias.reshape(-1), (len(rows),)) * np.float32(beta)
    activation = RELU if node.settings.get("activation", b"") == b"Relu" else NO_ACTIVATION
    packed = net.packed.get(node.inputs[1]) if node.settings.get("transB", 0) and alpha == 1.0 else None
    _dense(net, node, Weights(weight=rows * np.float32(alpha), bias=bias, packed=packed), activation)


def matmul(net: Net, node: Node) -> None:
    """MatMul of a value with a constant matrix, or of two values."""
    if node.inputs[1] in net.constants and net.constants[node.inputs[1]].ndim == 2:
        _dense(net, node, Weights(weight=net.constants[node.inputs[1]].T, bias=None))
        return
    inputs = [net.first(name) for name in node.inputs]
    shape = net.shapes[node.outputs[0]]
    net.say(node.outputs[0], net.emit("BATCH_MATMUL", inputs, shape, "float32", ("BatchMatMul", {})))


def integer_gemm(net: Net, node: Node) -> None:
    """QGemm; one that gives real numbers is computed in floats, which LiteRT has no integer operator for."""
    if node.settings.get("transA", 0) or float(node.settings.get("alpha", 1.0)) != 1.0:
        raise node.refused("its input is transposed or it has a factor")
    found = net.scale(node.inputs[0], *_pair(net, node, 1), node)
    weight, scales = _weight(net, node, 3)
    rows = weight if node.settings.get("transB", 0) else weight.T
    bias = net.optional(node.input(6), node)
    weights = Weights(weight=rows, bias=bias, scales=scales)
    if node.input(7):
        _dense(net, node, replace(weights, output=_output(net, node, 7)))
        return
    real = None if bias is None else (bias * (scales.astype(np.float64) * found.scales[0])).astype(np.float32)
    _real(net, node, weights, real)


def integer_matmul(net: Net, node: Node) -> None:
    """QLinearMatMul with a constant matrix."""
    net.scale(node.inputs[0], *_pair(net, node, 1), node)
    weight, scales = _weight(net, node, 3)
    _dense(net, node, Weights(weight=weight.T, bias=None, scales=scales, output=_output(net, node, 6)))


def integer_to_float(net: Net, node: Node) -> None:
    """MatMulIntegerToFloat: integers in, real numbers out; computed in floats, see `integer_gemm`."""
    zero = net.optional(node.input(4), node)
    scale, weight = net.constant(node.inputs[2], node), net.constant(node.inputs[1], node)
    net.scale(node.inputs[0], scale, np.zeros((), np.uint8) if zero is None else zero, node)
    if np.any(net.constant(node.input(5), node) if node.input(5) else 0):
        raise node.refused("its weights have a zero point; 0 wanted")
    weights = Weights(weight=weight.T, bias=None, scales=net.constant(node.inputs[3], node))
    _real(net, node, weights, net.optional(node.input(6), node))


def _real(net: Net, node: Node, weights: Weights, bias: np.ndarray | None) -> None:
    """A matrix product of integers as one of the real numbers that they stand for."""
    assert weights.scales is not None
    given = net.first(node.inputs[0])
    real = net.emit("DEQUANTIZE", [given], given.shape, "float32", ("Dequantize", {}))
    packed = (weights.weight, weights.scales)
    _dense(net, node, Weights(weight=weights.weight, bias=bias, packed=packed), given=real)


def _dense(
    net: Net, node: Node, weights: Weights, activation: int = NO_ACTIVATION, given: FileTensor | None = None
) -> None:
    given = net.first(node.inputs[0]) if given is None else given
    if weights.output is not None and given.quantization is None:
        raise node.refused("its input has no scale")
    weight, bias = weights.tensors(net, weights.weight, given, axis=0)
    dtype = "float32" if weights.output is None else "int8"
    shape = net.shapes[node.outputs[0]]
    options = {"fusedActivationFunction": activation, "keepNumDims": len(shape) > 2}
    made = net.emit("FULLY_CONNECTED", [given, weight, bias], shape, dtype, ("FullyConnected", options), weights.output)
    net.say(node.outputs[0], made)


def max_pool(net: Net, node: Node) -> None:
    """MaxPool; integers keep their scale."""
    filler = -128.0 if net.value(node.inputs[0]).tensor.dtype == "int8" else float(SMALLEST)
    _pool(net, node, "MAX_POOL_2D", net.last(node.inputs[0]), filler)


def average_pool(net: Net, node: Node) -> None:
    """AveragePool in floats, without zeros counted in."""
    if any(map(any, _pads(node))) and node.settings.get("count_include_pad", 0):
        raise node.refused("counts padding in")
    _pool(net, node, "AVERAGE_POOL_2D", net.last(node.inputs[0]), None)


def integer_average_pool(net: Net, node: Node) -> None:
    """QLinearAveragePool: x, scale, zero, scale, zero; rounded to the result's scale behind it."""
    if node.settings.get("channels_last", 0) or any(map(any, _pads(node))):
        raise node.refused("has channels last or pads")
    net.scale(node.inputs[0], *_pair(net, node, 1), node)
    output = _output(net, node, 3)
    _pool(net, node, "AVERAGE_POOL_2D", net.last(node.inputs[0]), None)
    made = net.value(node.outputs[0]).tensor
    if made.quantization != output:
        made = net.emit("QUANTIZE", [made], made.shape, "int8", ("Quantize", {}), output)
    net.say(node.outputs[0], made, is_last=True)


def _pool(net: Net, node: Node, kind: str, given: FileTensor, filler: float | None) -> None:
    size, strides = _two(node, "kernel_shape"), _two(node, "strides")
    if _two(node, "dilations") != [1, 1]:
        raise node.refused("is dilated")
    given, padding = _padded(net, node, given, size, strides, [1, 1], filler)
    if filler is None and padding == VALID and any(map(any, _pads(node))):
        raise node.refused(f"pads are {_pads(node)}; none, or those that keep the size wanted")
    steps = [-(-(given.shape[1 + i] - (0 if padding == SAME else size[i] - 1)) // strides[i]) for i in range(2)]
    options = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "filterHeight": size[0],
        "filterWidth": size[1],
    }
    shape = (given.shape[0], *steps, given.shape[3])
    made = net.emit(kind, [given], shape, given.dtype, ("Pool2D", options), given.quantization)
    net.say(node.outputs[0], made, is_last=True)


def mean_of_all(net: Net, node: Node) -> None:
    """GlobalAveragePool."""
    _over_all(net, node, "MEAN", None)


def max_of_all(net: Net, node: Node) -> None:
    """GlobalMaxPool."""
    _over_all(net, node, "REDUCE_MAX", net.value(node.inputs[0]).tensor.quantization)


def integer_mean_of_all(net: Net, node: Node) -> None:
    """QLinearGlobalAveragePool."""
    net.scale(node.inputs[0], *_pair(net, node, 1), node)
    _over_all(net, node, "MEAN", _output(net, node, 3))


def _over_all(net: Net, node: Node, kind: str, output: Quantization | None) -> None:
    """Everything but examples and channels, which lie where the value has them."""
    value = net.value(node.inputs[0])
    n = len(value.tensor.shape)
    is_last = value.is_last or bool(node.settings.get("channels_last", 0))
    axes = list(range(1, n - 1)) if is_last else list(range(2, n))
    shape = tuple(1 if i in axes else s for i, s in enumerate(value.tensor.shape))
    options = ("Reducer", {"keepDims": True})
    inputs = [value.tensor, ints(net.fresh(), axes)]
    net.say(
        node.outputs[0],
        net.emit(kind, inputs, shape, value.tensor.dtype, options, output),
        is_last=value.is_last,
    )


def _pair(net: Net, node: Node, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point, inputs i and i + 1; without one it is 0, as uint8."""
    zero = net.optional(node.input(i + 1), node)
    return net.constant(node.inputs[i], node), np.zeros((), np.uint8) if zero is None else zero


def _output(net: Net, node: Node, i: int) -> Quantization:
    return quantization(*_pair(net, node, i))


def _weight(net: Net, node: Node, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers and their scales; raises SettingsError unless they are int8 around 0."""
    weight, scales = net.constant(node.inputs[i], node), net.constant(node.inputs[i + 1], node)
    zero = net.optional(node.input(i + 2), node)
    if weight.dtype != np.int8 or (zero is not None and np.any(zero)):
        raise node.refused(f"weights are {weight.dtype} with a zero point; int8 around 0 wanted")
    return weight, scales


def fused_relu(operator: FileOperator) -> FileOperator | None:
    """The operator with ReLU in it, if it has room for one."""
    if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "DIV"):
        return None
    name, fields = operator.options or (operator.kind.capitalize(), {})
    if fields.get("fusedActivationFunction", NO_ACTIVATION) != NO_ACTIVATION:
        return None
    return replace(operator, options=(name, {**fields, "fusedActivationFunction": RELU}))


LAYERS: dict[str, Callable[[Net, Node], None]] = {
    "Conv": conv,
    "FusedConv": conv,
    "QLinearConv": integer_conv,
    "Gemm": gemm,
    "FusedGemm": gemm,
    "MatMul": matmul,
    "QGemm": integer_gemm,
    "QLinearMatMul": integer_matmul,
    "MatMulIntegerToFloat": integer_to_float,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": mean_of_all,
    "GlobalMaxPool": max_of_all,
    "QLinearAveragePool": integer_average_pool,
    "QLinearGlobalAveragePool": integer_mean_of_all,
}
