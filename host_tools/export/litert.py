"""An ONNX graph, in floats or integers, windowed or streaming -> a LiteRT file that computes the same."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.manifest import Graph, State, Tensor
from host_tools.export.litert_elements import ELEMENTS
from host_tools.export.litert_file import FileGraph, FileOperator, FileTensor, file_bytes, ints
from host_tools.export.litert_layers import LAYERS
from host_tools.export.litert_net import SHIFT, Net, Node, Value, stored
from host_tools.export.litert_recurrence import RECURRENCE
from host_tools.export.litert_shapes import SHAPES
from host_tools.export.simplify import rewrite

OPERATORS: dict[str, Callable[[Net, Node], None]] = {**LAYERS, **ELEMENTS, **SHAPES, **RECURRENCE}
# Operators whose outputs stand for the same numbers as their inputs.
KEEP_SCALE = ("RESHAPE", "TRANSPOSE", "CONCATENATION", "SPLIT_V", "STRIDED_SLICE", "PAD", "MAX_POOL_2D", "REDUCE_MAX")
INTEGER_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
SUFFIX = ".tflite"


@dataclass(frozen=True, kw_only=True, eq=False)
class LiteRt:
    """The file's bytes, its manifest entry, and what it is made of."""

    data: bytes
    graph: Graph
    operators: Counter[str]


def to_litert(model: onnx.ModelProto, graph: Graph) -> LiteRt:
    """Write a LiteRT file that computes what an ONNX one does.

    model  opset 13 or later; floats, Quantize and Dequantize nodes, or ONNX Runtime's integer operators
    graph  its manifest entry: fixes free dimensions; says which inputs and outputs are states, whose shape may change
    Raises SettingsError naming an operator that is not known, EngineError without `ai_edge_litert`.
    """
    simple = _rewritten(_fixed(model, graph))
    net = _net(simple, graph)
    for node in simple.graph.node:
        known = OPERATORS.get(node.op_type)
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        read = Node(kind=node.op_type, inputs=tuple(node.input), outputs=tuple(node.output), settings=settings)
        if known is None:
            names = ", ".join(sorted(OPERATORS))
            raise SettingsError(f"LiteRT: operator {node.op_type} '{node.output[0]}' is not known; known are {names}")
        known(net, read)
    file = net.file
    for name in (t.name for t in simple.graph.output):
        value = net.value(name)
        is_state = name in net.state_outputs
        file.outputs.append(_named(net, value.tensor if is_state else net.first(name), name))
    _drop_unused(file)
    _spread_scales(file)
    entry = _entry(graph, net, file)
    return LiteRt(data=file_bytes(file), graph=entry, operators=Counter(o.kind for o in file.operators))


def entry_of(model: onnx.ModelProto) -> Graph:
    """A manifest entry with the shapes of a graph that has fixed ones and no state, for `to_litert`."""
    constants = {i.name for i in model.graph.initializer}
    sides = [[t for t in model.graph.input if t.name not in constants], list(model.graph.output)]
    inputs, outputs = (
        tuple(
            Tensor(name=t.name, shape=tuple(d.dim_value for d in t.type.tensor_type.shape.dim), dtype="float32")
            for t in side
        )
        for side in sides
    )
    return Graph(
        name="model",
        file="model.onnx",
        runs="every hop",
        precision="fp32",
        inputs=inputs,
        outputs=outputs,
        states=(),
        parameters=0,
        macs=0,
        integer_operators=0,
        operators=0,
    )


def _fixed(model: onnx.ModelProto, graph: Graph) -> onnx.ModelProto:
    """The model for one stream and one hop, as the manifest says."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    shapes = {t.name: t.shape for t in (*graph.inputs, *graph.outputs)}
    shapes |= {s.input: s.shape for s in graph.states} | {s.output: s.output_shape for s in graph.states}
    for tensor in (*fixed.graph.input, *fixed.graph.output):
        if tensor.name in shapes:
            del tensor.type.tensor_type.shape.dim[:]
            for n in shapes[tensor.name]:
                tensor.type.tensor_type.shape.dim.add().dim_value = n
    del fixed.graph.value_info[:]
    return fixed


def _rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constants folded; Quantize and Dequantize nodes joined with the layers between them."""
    is_quantized = any(n.op_type == "QuantizeLinear" for n in model.graph.node)
    level = onnxruntime.GraphOptimizationLevel
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rewritten.onnx"
        rewrite(model, path, level.ORT_ENABLE_EXTENDED if is_quantized else level.ORT_ENABLE_BASIC)
        return onnx.load(path)


def _net(model: onnx.ModelProto, graph: Graph) -> Net:
    constants = {c.name: np.asarray(numpy_helper.to_array(c)) for c in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            raise SettingsError(f"LiteRT: constant '{node.output[0]}' was not folded")
    shapes, dtypes = _shapes(model, constants)
    uses = Counter(i for n in model.graph.node for i in n.input)
    uses.update(o.name for o in model.graph.output)
    net = Net(
        constants=constants,
        shapes=shapes,
        dtypes=dtypes,
        uses=uses,
        state_outputs=frozenset(s.output for s in graph.states),
    )
    states = {s.input: s for s in graph.states}
    for given in model.graph.input:
        if given.name in constants:
            continue
        name, shape = given.name, shapes[given.name]
        # The state of a convolution in floats lies as LiteRT reads it; integers of the trunk lie so in ONNX too.
        is_last = name in states and len(shape) == 4 and dtypes[name] == "float32"
        tensor = FileTensor(name=name, shape=stored(shape) if is_last else shape, dtype=dtypes[name])
        net.file.inputs.append(tensor)
        net.values[name] = Value(shape=shape, tensor=tensor, is_last=is_last)
    return net


def _shapes(
    model: onnx.ModelProto, constants: dict[str, np.ndarray]
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shape and dtype (LiteRT's) of every tensor, from a run: inference knows nothing of ONNX Runtime's operators."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    own = {o.name for o in model.graph.output}
    inner = [o for n in model.graph.node for o in n.output if o and o not in own]
    shown.graph.output.extend(onnx.ValueInfoProto(name=o) for o in inner)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {}
    for tensor in session.get_inputs():
        if not all(isinstance(n, int) and n > 0 for n in tensor.shape):
            raise SettingsError(f"LiteRT: input {tensor.name} is {tensor.shape}; fixed sizes wanted")
        kind = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}.get(tensor.type)
        if kind is None:
            raise SettingsError(f"LiteRT: input {tensor.name} is {tensor.type}; float, uint8 or int8 wanted")
        given[tensor.name] = np.zeros(tensor.shape, kind)
    names = [*own, *inner]
    values = {**given, **dict(zip(names, session.run(names, given), strict=True)), **constants}
    dtypes = {"uint8": "int8", "int64": "int32"}
    return (
        {k: tuple(v.shape) for k, v in values.items()},
        {k: dtypes.get(str(v.dtype), str(v.dtype)) for k, v in values.items()},
    )


def _named(net: Net, tensor: FileTensor, name: str) -> FileTensor:
    """The tensor under an output's name; a copy where it has another name already."""
    if tensor in net.file.inputs or tensor in net.file.outputs or tensor.constant is not None:
        shape = tensor.shape
        tensor = net.emit(
            "RESHAPE",
            [tensor, ints(net.fresh(), shape)],
            shape,
            tensor.dtype,
            ("Reshape", {"newShape": list(shape)}),
            tensor.quantization,
        )
    tensor.name = name
    return tensor


def _drop_unused(file: FileGraph) -> None:
    wanted = {id(t) for t in file.outputs}
    kept: list[FileOperator] = []
    for operator in reversed(file.operators):
        if any(id(t) in wanted for t in operator.outputs):
            kept.append(operator)
            wanted |= {id(t) for t in operator.inputs if t is not None}
    file.operators = kept[::-1]


def _spread_scales(file: FileGraph) -> None:
    """Give integers that were moved before their scale was known the scale of what they were moved to.

    Raises SettingsError for integers that nobody gave a scale.
    """
    for operators in (file.operators, file.operators[::-1]):
        for operator in operators:
            tensors = _integers(operator)
            scales = {t.quantization for t in tensors} - {None}
            if operator.kind in KEEP_SCALE and len(scales) == 1:
                for tensor in tensors:
                    tensor.quantization = next(iter(scales))
    for operator in file.operators:
        for tensor in _integers(operator):
            if tensor.quantization is None:
                raise SettingsError(f"LiteRT: tensor '{tensor.name}' holds integers of no known scale")


def _integers(operator: FileOperator) -> list[FileTensor]:
    return [t for t in (*operator.inputs, *operator.outputs) if t is not None and t.dtype == "int8"]


def _entry(graph: Graph, net: Net, file: FileGraph) -> Graph:
    inputs, outputs = ({t.name: t for t in side} for side in (file.inputs, file.outputs))
    layers = [o for o in file.operators if o.kind in INTEGER_LAYERS]
    integer = [o for o in layers if o.outputs[0].dtype == "int8"]
    states = tuple(
        State(
            input=s.input,
            output=s.output,
            shape=inputs[s.input].shape,
            output_shape=outputs[s.output].shape,
            dtype=inputs[s.input].dtype,
            initial=s.initial - SHIFT if s.dtype == "uint8" else s.initial,
        )
        for s in graph.states
    )
    return replace(
        graph,
        file=Path(graph.file).with_suffix(SUFFIX).name,
        inputs=tuple(_tensor(inputs[t.name]) for t in graph.inputs),
        outputs=tuple(_tensor(outputs[t.name]) for t in graph.outputs),
        states=states,
        integer_operators=len(integer),
        operators=len(layers),
    )


def _tensor(tensor: FileTensor) -> Tensor:
    return Tensor(name=tensor.name, shape=tensor.shape, dtype=tensor.dtype)
