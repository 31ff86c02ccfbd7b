"""A trunk program -> ONNX: windowed or streaming with explicit state, fp32 or INT8, lifted to 2-D convolutions.

Kernels are 1xK. fp32 graphs are channel-first (streams, channels, 1, frames), for which ONNX Runtime has blocked
kernels. INT8 graphs are time-major (1, streams, frames, channels): the tail of a stream's input is then one piece of
memory, so the next step reads its state where the last one wrote it and no slice runs on the device; and streams are
rows of one image, so that many of them are one large matrix product. Every convolution of an INT8 graph computes in
integers by construction: QLinearConv, and an integer matrix product for the outputs.

The number of streams of a streaming graph is the free dimension `streams`, which the engine fixes at load. The
manifest tells the shapes of one stream; in all of them a stream is one piece of memory. A streaming INT8 graph has a
second free dimension, `frames`: the same file runs one hop, or many that wait.

A streaming INT8 graph is shaped for few and cheap operators: the strided first convolution runs over rows of
`stride` samples, channels are filled up with zeros to a multiple of four (ONNX Runtime's fast integer kernels want
that), and nothing only reshapes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.contract.manifest import Graph, State, Tensor
from edge_runtime.contract.signal import Float32Array
from host_tools.compress.quantize import Scale, quantize_weight
from host_tools.export.program import INPUT, Add, Conv, Program, in_rows

Form = Literal["windowed", "streaming"]
OPSET, IR_VERSION = 13, 8  # readable by ONNX Runtime 1.10 and later
MICROSOFT = "com.microsoft"
OUTPUT = "scores"
STREAMS, FRAMES = "streams", "frames"  # free dimensions of streaming graphs
MULTIPLE = 4  # of channels
_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}


def write_trunk(
    program: Program, form: Form, samples: int, scales: dict[str, Scale] | None = None
) -> tuple[onnx.ModelProto, Graph]:
    """The ONNX file and its manifest entry.

    samples  input length: the hop of a streaming graph, the window of a windowed one
    scales   activation scales for INT8; None writes fp32
    Input float32 (streams, 1, 1, samples) and output float32 (streams * frames, outputs), except that a windowed
    fp32 graph keeps the convolution's own (1, outputs, 1, frames), the form one would deploy without this project,
    and that a streaming INT8 graph has (1, streams, frames, stride) and (1, streams, frames, outputs).
    """
    writer = _Fp32(form, samples) if scales is None else _Int8(form, samples, scales, program)
    for operator in program.operators:
        if isinstance(operator, Add):
            writer.add(operator)
        elif operator.name == program.output:
            writer.output(operator)
        else:
            writer.conv(operator)
    return writer.finish(program)


class _Writer:
    """What both precisions share: nodes, constants, states, tensor lengths."""

    precision: Literal["fp32", "int8"]
    state_dtype: str
    time_axis: int

    def __init__(self, form: Form, samples: int) -> None:
        self.form, self.samples = form, samples
        self.length = {INPUT: samples}  # in time steps
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.states: list[State] = []
        self.integer_operators = 0

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(value.copy(order="C"), name))
        return name

    def shape(self, channels: int, length: int) -> tuple[int, ...]:
        """Shape of an activation."""
        raise NotImplementedError

    def initial(self, tensor: str) -> float:
        """What an empty past of this tensor holds."""
        raise NotImplementedError

    def conv(self, conv: Conv) -> None:
        """An inner convolution."""
        raise NotImplementedError

    def add(self, add: Add) -> None:
        """A residual sum."""
        raise NotImplementedError

    def output(self, conv: Conv) -> None:
        """The last, pointwise convolution, whose results are real numbers."""
        raise NotImplementedError

    def with_history(self, conv: Conv, source: str) -> tuple[str, int]:
        """The convolution's input joined with its past, and the padding that stands for an empty past."""
        if not conv.history or self.form == "windowed":
            return source, conv.history
        joined = self.node("Concat", [f"{conv.name}_i", source], f"{conv.name}_c", axis=self.time_axis)
        self.states.append(
            State(
                input=f"{conv.name}_i",
                output=self.tail(conv, joined),
                shape=self.shape(self.width(conv), conv.history),
                output_shape=self.shape(self.width(conv), self.tail_length(conv)),
                dtype=self.state_dtype,
                initial=self.initial(conv.input),
            )
        )
        return joined, 0

    def tail(self, conv: Conv, joined: str) -> str:
        """The tensor that holds the next step's state at its end."""
        raise NotImplementedError

    def tail_length(self, conv: Conv) -> int:
        """Its length in time."""
        raise NotImplementedError

    def width(self, conv: Conv) -> int:
        """Channels of a convolution's input, as they lie in memory."""
        return conv.in_channels

    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return (1, 1, 1, self.samples)

    def output_shape(self, frames: int, scores: int) -> tuple[int, ...]:
        """Shape of the result."""
        return (frames, scores)

    def finish(self, program: Program) -> tuple[onnx.ModelProto, Graph]:
        last = program.convolutions[-1]
        x = Tensor(name=INPUT, shape=self.input_shape(), dtype="float32")
        frames, scores = self.length[last.input], len(last.weight)
        y = Tensor(name=OUTPUT, shape=self.output_shape(frames, scores), dtype="float32")
        inputs = [self._info(x.name, x.shape, x.dtype, FRAMES)]
        inputs += [self._info(s.input, s.shape, s.dtype) for s in self.states]
        outputs = [self._info(y.name, y.shape, y.dtype, FRAMES)]
        outputs += [self._info(s.output, s.output_shape, s.dtype, f"{FRAMES} of {s.output}") for s in self.states]
        graph = helper.make_graph(self.nodes, "trunk", inputs, outputs, list(self.constants.values()))
        domains = [helper.make_opsetid("", OPSET)]
        if any(node.domain for node in self.nodes):
            domains.append(helper.make_opsetid(MICROSOFT, 1))
        model = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="vitaledge")
        onnx.checker.check_model(model)
        entry = Graph(
            name="trunk",
            file="trunk.onnx",
            runs="every hop",
            precision=self.precision,
            inputs=(x,),
            outputs=(y,),
            states=tuple(self.states),
            parameters=program.parameters,
            macs=program.macs(self.samples),
            integer_operators=self.integer_operators,
            operators=len(program.convolutions),
        )
        return model, entry

    def _info(self, name: str, shape: tuple[int, ...], dtype: str, frames: str = "") -> onnx.ValueInfoProto:
        """A tensor of the graph, with its free dimensions by name."""
        dimensions: list[int | str] = list(shape)
        if self.form == "streaming":
            self.set_free(dimensions, frames)
        return helper.make_tensor_value_info(name, _TYPES[dtype], dimensions)

    def set_free(self, dimensions: list[int | str], frames: str) -> None:
        """Name the free dimensions of a streaming graph's tensor; `frames` is empty where its length is fixed."""
        raise NotImplementedError


class _Fp32(_Writer):
    precision = "fp32"
    state_dtype = "float32"
    time_axis = 3

    def shape(self, channels: int, length: int) -> tuple[int, ...]:
        return (1, channels, 1, length)

    def initial(self, tensor: str) -> float:
        return 0.0

    def tail(self, conv: Conv, joined: str) -> str:
        # Time is the innermost axis here, so the tail is scattered in memory and has to be copied out.
        total = conv.history + self.length[conv.input]
        ends = [self.constant(f"k{k}", np.array([k], np.int64)) for k in (total - conv.history, total, 3)]
        return self.node("Slice", [joined, *ends], f"{conv.name}_o")

    def tail_length(self, conv: Conv) -> int:
        return conv.history

    def set_free(self, dimensions: list[int | str], frames: str) -> None:
        # What holds more than one element of a stream there has no name for its length.
        dimensions[0] = STREAMS if dimensions[0] == 1 else f"{STREAMS} x {dimensions[0]}"

    def conv(self, conv: Conv) -> None:
        n = conv.name
        source, padding = self.with_history(conv, conv.input)
        self.length[n] = self.length[conv.input] // conv.stride
        weights = [self.constant(f"{n}_w", conv.weight[:, :, None, :]), self.constant(f"{n}_b", conv.bias)]
        self.node(
            "Conv",
            [source, *weights],
            f"{n}_r" if conv.is_relu else n,
            kernel_shape=[1, conv.weight.shape[2]],
            strides=[1, conv.stride],
            dilations=[1, conv.dilation],
            group=conv.groups,
            pads=[0, padding, 0, 0],
        )
        if conv.is_relu:
            self.node("Relu", [f"{n}_r"], n)

    def add(self, add: Add) -> None:
        self.length[add.name] = self.length[add.left]
        self.node("Add", [add.left, add.right], add.name)

    def output(self, conv: Conv) -> None:
        weights = [self.constant("y_w", conv.weight[:, :, None, :]), self.constant("y_b", conv.bias)]
        if self.form == "windowed":
            self.node("Conv", [conv.input, *weights], OUTPUT, kernel_shape=[1, 1])
            return
        self.node("Conv", [conv.input, *weights], "y_c", kernel_shape=[1, 1])
        self.node("Transpose", ["y_c"], "y_t", perm=[0, 2, 3, 1])
        self.node("Reshape", ["y_t", self.constant("y_f", np.array([-1, len(conv.weight)], np.int64))], OUTPUT)

    def output_shape(self, frames: int, scores: int) -> tuple[int, ...]:
        return (1, scores, 1, frames) if self.form == "windowed" else (frames, scores)


class _Int8(_Writer):
    precision = "int8"
    state_dtype = "uint8"
    time_axis = 2

    def __init__(self, form: Form, samples: int, scales: dict[str, Scale], program: Program) -> None:
        super().__init__(form, samples)
        self._scales = scales
        stem = program.convolutions[0]
        self._stem = in_rows(stem) or stem
        self._multiple = MULTIPLE if all(c.groups == 1 for c in program.convolutions) else 1
        self._width = {INPUT: self._stem.in_channels}
        self.length[INPUT] = samples // self._stem.in_channels
        source = INPUT
        if form == "windowed":
            # With one channel, time-major and channel-first are the same memory.
            shape = self.constant("x_t", np.array(self.shape(self._stem.in_channels, self.length[INPUT]), np.int64))
            source = self.node("Reshape", [INPUT, shape], "x_r")
        self.node("QuantizeLinear", [source, *self._quantized(INPUT)], "x_q")

    def shape(self, channels: int, length: int) -> tuple[int, ...]:
        return (1, 1, length, channels)

    def initial(self, tensor: str) -> float:
        return float(self._scales[tensor].zero_point)

    def tail(self, conv: Conv, joined: str) -> str:
        return joined

    def tail_length(self, conv: Conv) -> int:
        return conv.history + self.length[conv.input]

    def width(self, conv: Conv) -> int:
        return self._width[conv.input]

    def input_shape(self) -> tuple[int, ...]:
        return super().input_shape() if self.form == "windowed" else self.shape(self._width[INPUT], self.length[INPUT])

    def output_shape(self, frames: int, scores: int) -> tuple[int, ...]:
        return super().output_shape(frames, scores) if self.form == "windowed" else self.shape(scores, frames)

    def set_free(self, dimensions: list[int | str], frames: str) -> None:
        dimensions[1], dimensions[2] = STREAMS, frames or dimensions[2]

    def _quantized(self, tensor: str) -> list[str]:
        """Names of a tensor's scale and zero point."""
        scale = self._scales[tensor]
        return [
            self.constant(f"{tensor}_s", np.array(scale.scale, np.float32)),
            self.constant(f"{tensor}_z", np.array(scale.zero_point, np.uint8)),
        ]

    def _weights(self, conv: Conv, width: int) -> tuple[np.ndarray, Float32Array, str]:
        """Integers (width, channels in memory, kernel) and scales (width,), filled up; name of the zero points."""
        integers, scale = quantize_weight(conv)
        more = (width - len(scale), self._width[conv.input] // conv.groups - integers.shape[1])
        integers = np.pad(integers, ((0, more[0]), (0, more[1]), (0, 0)))
        scale = np.pad(scale, (0, more[0]), constant_values=1.0)
        return integers, scale, self.constant(f"z{width}", np.zeros(width, np.int8))

    def conv(self, conv: Conv) -> None:
        n = conv.name
        if conv.input == INPUT:
            conv = self._stem
        source, padding = self.with_history(conv, "x_q" if conv.input == INPUT else conv.input)
        self.length[n] = self.length[conv.input] // conv.stride
        width = self._width[n] = -(-len(conv.weight) // self._multiple) * self._multiple
        integers, scale, zero = self._weights(conv, width)
        unit = scale.astype(np.float64) * self._scales[conv.input].scale
        # Where the input was always zero its unit is tiny; the bias saturates, with room for the sums.
        bias = np.clip(np.rint(np.pad(conv.bias, (0, width - len(conv.bias))) / unit), -(2**30), 2**30).astype(np.int32)
        inputs = [
            source,
            *self._quantized(conv.input),
            self.constant(f"{n}_w", integers[:, :, None, :]),
            self.constant(f"{n}_ws", scale),
            zero,
            *self._quantized(n),
            self.constant(f"{n}_b", bias),
        ]
        self.node(
            "QLinearConv",
            inputs,
            n,
            domain=MICROSOFT,
            channels_last=1,
            kernel_shape=[1, conv.weight.shape[2]],
            strides=[1, conv.stride],
            dilations=[1, conv.dilation],
            group=conv.groups,
            pads=[0, padding, 0, 0],
        )
        self.integer_operators += 1

    def add(self, add: Add) -> None:
        self.length[add.name], self._width[add.name] = self.length[add.left], self._width[add.left]
        terms = [
            *(add.left, *self._quantized(add.left)),
            *(add.right, *self._quantized(add.right)),
            *self._quantized(add.name),
        ]
        self.node("QLinearAdd", terms, add.name, domain=MICROSOFT)

    def output(self, conv: Conv) -> None:
        integers, scale, zero = self._weights(conv, len(conv.weight))
        input_scale, input_zero = self._quantized(conv.input)
        inputs = [
            conv.input,
            self.constant("y_w", integers[:, :, 0].T),
            input_scale,
            self.constant("y_ws", scale),
            input_zero,
            zero,
            self.constant("y_b", conv.bias),
        ]
        is_windowed = self.form == "windowed"
        self.node("MatMulIntegerToFloat", inputs, "y_m" if is_windowed else OUTPUT, domain=MICROSOFT)
        if is_windowed:
            rows = self.constant("y_r", np.array([-1, len(conv.weight)], np.int64))
            self.node("Reshape", ["y_m", rows], OUTPUT)
        self.integer_operators += 1
