"""Tensors and operators -> the bytes of a LiteRT file, over the schema that `ai_edge_litert` ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_runtime.contract.errors import EngineError

IDENTIFIER = b"TFL3"
# What older runtimes look at to refuse a file: operators on int8 tensors came with these versions.
INT8_VERSIONS = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2,
    "FULLY_CONNECTED": 4,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "SPLIT": 2,
    "STRIDED_SLICE": 2,
    "TRANSPOSE": 2,
}


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """real = scale * (integer - zero_point); several scales run along `axis` and have the zero point 0."""

    scales: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0


@dataclass(kw_only=True, eq=False)
class FileTensor:
    """A tensor as the file has it; `constant` of the same shape and dtype, or None for a value."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    constant: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FileOperator:
    """A built-in operator by its name in the schema; None among the inputs is one that is left out.

    options  name of the schema's options without the word Options, and its fields
    """

    kind: str
    inputs: tuple[FileTensor | None, ...]
    outputs: tuple[FileTensor, ...]
    options: tuple[str, dict[str, Any]] | None = None


@dataclass(kw_only=True, eq=False)
class FileGraph:
    """All of a file, operators in order of execution."""

    inputs: list[FileTensor] = field(default_factory=list)
    outputs: list[FileTensor] = field(default_factory=list)
    operators: list[FileOperator] = field(default_factory=list)


def file_bytes(graph: FileGraph) -> bytes:
    """The file, in which equal bytes lie once; raises EngineError where `ai_edge_litert` is not installed."""
    schema = _schema()
    from host_tools.export.litert_builder import SharingBuilder

    tensors = _tensors(graph)
    number = {id(t): i for i, t in enumerate(tensors)}
    model = schema.ModelT()
    model.version = 3
    model.description = "vitaledge"
    model.buffers = [_buffer(schema, b"")]  # the first one is empty and shared by all values
    model.operatorCodes, codes = [], {}
    shown, held = [], {b"": 0}
    named = {id(t) for t in (*graph.inputs, *graph.outputs)}
    for tensor in tensors:
        data = b"" if tensor.constant is None else np.ascontiguousarray(tensor.constant).tobytes()
        if data not in held:
            held[data] = len(model.buffers)
            model.buffers.append(_buffer(schema, data))
        shown.append(_tensor(schema, tensor, held[data], is_named=id(tensor) in named))
    written = []
    for operator in graph.operators:
        version = _version(operator)
        if (operator.kind, version) not in codes:
            codes[operator.kind, version] = len(model.operatorCodes)
            model.operatorCodes.append(_code(schema, operator.kind, version))
        written.append(_operator(schema, operator, codes[operator.kind, version], number))
    inner = schema.SubGraphT()
    inner.name = "main"
    inner.tensors, inner.operators = shown, written
    inner.inputs = [number[id(t)] for t in graph.inputs]
    inner.outputs = [number[id(t)] for t in graph.outputs]
    model.subgraphs = [inner]
    builder = SharingBuilder()
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise EngineError(
            f"LiteRT files need ai_edge_litert ({error}); install it with `pip install 'vitaledge[host]'`"
        ) from error
    return schema_py_generated


def _tensors(graph: FileGraph) -> list[FileTensor]:
    found: dict[int, FileTensor] = {}
    for tensors in (graph.inputs, *((*o.inputs, *o.outputs) for o in graph.operators), graph.outputs):
        for tensor in tensors:
            if tensor is not None:
                found.setdefault(id(tensor), tensor)
    return list(found.values())


def _buffer(schema: Any, data: bytes) -> Any:
    """A buffer whose bytes begin at a multiple of 16, as the schema asks and its Python code does not do."""

    class Aligned(schema.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:
            vector = None
            if data:
                builder.StartVector(1, len(data), 16)
                builder.head -= len(data)
                builder.Bytes[builder.head : builder.head + len(data)] = data
                vector = builder.EndVector()
            schema.BufferStart(builder)
            if vector is not None:
                schema.BufferAddData(builder, vector)
            return schema.BufferEnd(builder)

    return Aligned()


def _tensor(schema: Any, tensor: FileTensor, buffer: int, *, is_named: bool) -> Any:
    """Only what a caller asks for by name has one."""
    shown = schema.TensorT()
    shown.shape, shown.buffer = list(tensor.shape), buffer
    if is_named:
        shown.name = tensor.name
    shown.type = getattr(schema.TensorType, "BOOL" if tensor.dtype == "bool" else tensor.dtype.upper())
    shown.hasRank = True
    if tensor.quantization is not None:
        q = schema.QuantizationParametersT()
        q.scale = [float(s) for s in tensor.quantization.scales]
        q.zeroPoint = [tensor.quantization.zero_point] * len(q.scale)
        q.quantizedDimension = tensor.quantization.axis
        shown.quantization = q
    return shown


def _version(operator: FileOperator) -> int:
    is_int8 = any(t is not None and t.dtype == "int8" for t in (*operator.inputs, *operator.outputs))
    return INT8_VERSIONS.get(operator.kind, 1) if is_int8 else 1


def _code(schema: Any, kind: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # a byte, which older readers look at
    code.version = version
    return code


def _operator(schema: Any, operator: FileOperator, code: int, number: dict[int, int]) -> Any:
    shown = schema.OperatorT()
    shown.opcodeIndex = code
    shown.inputs = [-1 if t is None else number[id(t)] for t in operator.inputs]
    shown.outputs = [number[id(t)] for t in operator.outputs]
    if operator.options is not None:
        name, fields = operator.options
        options = getattr(schema, f"{name}OptionsT")()
        for key, value in fields.items():
            if not hasattr(options, key):
                raise EngineError(f"the schema's {name}Options have no field {key}")
            setattr(options, key, value)
        shown.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name}Options")
        shown.builtinOptions = options
    return shown


def constant(name: str, value: np.ndarray, quantization: Quantization | None = None) -> FileTensor:
    """A constant tensor."""
    return FileTensor(
        name=name, shape=tuple(value.shape), dtype=str(value.dtype), quantization=quantization, constant=value
    )


def ints(name: str, values: Sequence[int]) -> FileTensor:
    """A constant int32 (n,)."""
    return constant(name, np.array(values, np.int32))
