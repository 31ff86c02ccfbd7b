"""A causal trunk as a list of folded operators: what is calibrated, quantized and written to ONNX.

Batch norm is folded into the convolutions; every activation but the network's input and its output is
non-negative, which later makes ReLU part of the quantization.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edge_runtime.contract.signal import Float32Array
from host_tools.nets.beats import CausalBlock, Trunk

INPUT = "x"


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv:
    """Causal convolution: weight float32 (out, in / groups, kernel), bias float32 (out,).

    history  samples of its input that it needs from earlier steps
    """

    name: str
    input: str
    weight: Float32Array
    bias: Float32Array
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    history: int = 0
    is_relu: bool = False

    @property
    def in_channels(self) -> int:
        """Channels of its input."""
        return int(self.weight.shape[1] * self.groups)


@dataclass(frozen=True, kw_only=True)
class Add:
    """Sum of two tensors of one shape."""

    name: str
    left: str
    right: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """Operators in order of execution; the last one's output is the trunk's."""

    operators: tuple[Conv | Add, ...]

    @property
    def output(self) -> str:
        """Name of the result."""
        return self.operators[-1].name

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """The operators with weights."""
        return tuple(o for o in self.operators if isinstance(o, Conv))

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(c.weight.size + c.bias.size for c in self.convolutions)

    def macs(self, samples: int) -> int:
        """Multiply-accumulates for that many input samples."""
        total, length = 0, {INPUT: samples}
        for o in self.operators:
            if isinstance(o, Conv):
                length[o.name] = length[o.input] // o.stride
                total += length[o.name] * int(o.weight.size)
            else:
                length[o.name] = length[o.left]
        return total


def fold(trunk: Trunk) -> Program:
    """The trunk in eval mode as a program; names are short because every byte of a file travels."""
    operators: list[Conv | Add] = [_conv("s", INPUT, trunk.stem, trunk.stem_norm, history=trunk.history, is_relu=True)]
    last = "s"
    for i, block in enumerate(trunk.blocks):
        assert isinstance(block, CausalBlock)
        operators.append(_conv(f"p{i}", last, block.conv, block.norm, history=block.history, is_relu=True))
        if block.is_residual:
            operators.append(Add(name=f"a{i}", left=last, right=f"p{i}"))
        last = operators[-1].name
    operators.append(_conv("y", last, trunk.out, None))
    return Program(operators=tuple(operators))


def in_rows(conv: Conv) -> Conv | None:
    """The same convolution of one channel over rows of `stride` samples, one row a step: the same products.

    None where the kernel is no whole number of strides, or sees more of the past than its own length.
    """
    out, channels, kernel = conv.weight.shape
    rows, rest = divmod(kernel, conv.stride)
    if channels != 1 or rest or conv.dilation != 1 or conv.history != kernel - conv.stride:
        return None
    weight = np.ascontiguousarray(conv.weight.reshape(out, rows, conv.stride).transpose(0, 2, 1))
    return replace(conv, weight=weight, stride=1, history=rows - 1)


def _conv(
    name: str,
    source: str,
    conv: nn.Conv1d,
    norm: nn.BatchNorm1d | None,
    history: int = 0,
    is_relu: bool = False,
) -> Conv:
    weight = conv.weight.detach().double()
    bias = torch.zeros(conv.out_channels, dtype=torch.float64) if conv.bias is None else conv.bias.detach().double()
    if norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = weight * scale[:, None, None]
        bias = (bias - norm.running_mean.double()) * scale + norm.bias.detach().double()
    return Conv(
        name=name,
        input=source,
        weight=weight.float().numpy(),
        bias=bias.float().numpy(),
        stride=int(conv.stride[0]),
        dilation=int(conv.dilation[0]),
        groups=conv.groups,
        history=history,
        is_relu=is_relu,
    )


def run(program: Program, x: Float32Array) -> dict[str, Float32Array]:
    """Every tensor of the program over a whole signal that starts from zero state.

    x  float32 (samples,); returns float32 (channels, frames) by operator name, and the input as (1, samples)
    """
    values: dict[str, torch.Tensor] = {INPUT: torch.from_numpy(np.ascontiguousarray(x)).reshape(1, 1, -1)}
    with torch.no_grad():
        for o in program.operators:
            if isinstance(o, Add):
                values[o.name] = values[o.left] + values[o.right]
                continue
            y = F.conv1d(
                F.pad(values[o.input], (o.history, 0)),
                torch.from_numpy(o.weight),
                torch.from_numpy(o.bias),
                stride=o.stride,
                dilation=o.dilation,
                groups=o.groups,
            )
            values[o.name] = F.relu(y) if o.is_relu else y
    return {name: value[0].numpy() for name, value in values.items()}
