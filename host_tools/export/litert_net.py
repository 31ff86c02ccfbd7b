"""An ONNX graph while it becomes a LiteRT one: its values, in which order each lies in memory, operators so far.

LiteRT's convolutions and pools read channels last. A value is kept as its maker left it and turned round only where a
reader needs the other order; where that moves nothing but axes of size 1, a Reshape does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from edge_runtime.contract.errors import SettingsError
from host_tools.export.litert_file import FileGraph, FileOperator, FileTensor, Quantization, constant, ints

# ONNX axis -> axis of the stored tensor, and back, by rank; signals (n, c, t) are stored as images (n, 1, t, c).
TO_STORED = {2: (1, 0), 3: (0, 3, 2), 4: (0, 3, 1, 2)}
ORDER = {2: (1, 0), 3: (0, 2, 1), 4: (0, 2, 3, 1)}
SHIFT = 128  # from ONNX's uint8 to LiteRT's int8


@dataclass(frozen=True, kw_only=True)
class Node:
    """An ONNX operator: names of its tensors ("" for one that is left out) and its attributes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]

    def input(self, i: int) -> str:
        """Name of an input, "" if there is none."""
        return self.inputs[i] if i < len(self.inputs) else ""

    def refused(self, why: str) -> SettingsError:
        """An error that names the operator."""
        return SettingsError(f"LiteRT: operator {self.kind} '{self.outputs[0]}': {why}")


@dataclass(kw_only=True, eq=False)
class Value:
    """A tensor of the ONNX graph: its shape there, and the file's tensor, channels first as in ONNX or last."""

    shape: tuple[int, ...]
    tensor: FileTensor
    is_last: bool = False
    twin: FileTensor | None = None  # the same in the other order

    @property
    def in_order(self) -> FileTensor | None:
        """A tensor whose elements lie in ONNX's order, if there is one without moving any."""
        if not self.is_last or moves_nothing(self.shape, ORDER[len(self.shape)]):
            return self.tensor
        return None


@dataclass(kw_only=True, eq=False)
class Net:
    """The graph so far.

    shapes, dtypes  of every tensor of the ONNX graph
    uses            how many operators read it; the graph's outputs count as one more
    state_outputs   outputs of which only the tail is wanted
    packed          constants that ONNX has as int8 with a scale per row: integers and scales
    """

    constants: dict[str, np.ndarray]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    uses: Counter[str]
    state_outputs: frozenset[str] = frozenset()
    packed: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    file: FileGraph = field(default_factory=FileGraph)
    n_names: int = 0

    # -- reading

    def constant(self, name: str, node: Node) -> np.ndarray:
        """A constant input; raises SettingsError if it is computed."""
        if name not in self.constants:
            raise node.refused(f"input '{name}' is computed; a constant wanted")
        return self.constants[name]

    def optional(self, name: str, node: Node) -> np.ndarray | None:
        """A constant input, or None where it is left out."""
        return self.constant(name, node) if name else None

    def whole(self, name: str, node: Node) -> list[int]:
        """A constant input as whole numbers."""
        return [int(v) for v in self.constant(name, node).reshape(-1)]

    def value(self, name: str) -> Value:
        """A computed value; a constant becomes one."""
        if name not in self.values:
            array = self.constants[name]
            array = array.astype(np.int32) if array.dtype == np.int64 else array
            self.values[name] = Value(shape=tuple(array.shape), tensor=constant(self.fresh(), array))
        return self.values[name]

    def first(self, name: str) -> FileTensor:
        """The file's tensor in ONNX's order."""
        value = self.value(name)
        if not value.is_last:
            return value.tensor
        if value.twin is None:
            value.twin = self._turned(value.tensor, value.shape)
        return value.twin

    def last(self, name: str) -> FileTensor:
        """The file's tensor with channels last; of signals and images."""
        value = self.value(name)
        if value.is_last:
            return value.tensor
        if value.twin is None:
            wanted = stored(value.shape)
            order = ORDER[len(value.shape)]
            if moves_nothing(value.shape, order):
                value.twin = self.reshape(value.tensor, wanted)
            else:
                value.twin = self.reshape(self.transpose(value.tensor, order), wanted)
        return value.twin

    def _turned(self, tensor: FileTensor, shape: tuple[int, ...]) -> FileTensor:
        order = ORDER[len(shape)]
        if moves_nothing(shape, order):
            return self.reshape(tensor, shape)
        plain = self.reshape(tensor, tuple(shape[i] for i in order))
        return self.transpose(plain, tuple(int(i) for i in np.argsort(order)))

    def together(self, names: Sequence[str], rank: int) -> tuple[list[FileTensor], bool]:
        """Operands of an operator that works element by element, and whether they lie channels last."""
        computed = [n for n in names if n not in self.constants]
        is_last = any(self.value(n).is_last for n in computed if len(self.value(n).shape) == rank)
        found = []
        for name in names:
            if name in self.constants:
                array = self.constants[name]
                lifted = array.reshape((1,) * (rank - array.ndim) + array.shape)
                array = store(lifted) if is_last and array.size > 1 else array.reshape(-1) if array.size == 1 else array
                found.append(constant(self.fresh(), array))
            elif not is_last:
                found.append(self.first(name))
            elif len(self.value(name).shape) == rank:
                found.append(self.last(name))
            else:
                shape = self.value(name).shape
                lifted_shape = (1,) * (rank - len(shape)) + shape
                inner = Value(shape=lifted_shape, tensor=self.reshape(self.first(name), lifted_shape))
                self.values[f"{name}__{rank}"] = inner
                found.append(self.last(f"{name}__{rank}"))
        return found, is_last

    # -- writing

    def fresh(self) -> str:
        """A name for a tensor that nobody asks for by name."""
        self.n_names += 1
        return f"t{self.n_names}"

    def emit(
        self,
        kind: str,
        inputs: Sequence[FileTensor | None],
        shape: tuple[int, ...],
        dtype: str,
        options: tuple[str, dict[str, Any]] | None = None,
        quantization: Quantization | None = None,
    ) -> FileTensor:
        """Append an operator of one output."""
        output = FileTensor(name=self.fresh(), shape=shape, dtype=dtype, quantization=quantization)
        self.file.operators.append(FileOperator(kind=kind, inputs=tuple(inputs), outputs=(output,), options=options))
        return output

    def say(self, name: str, tensor: FileTensor, *, is_last: bool = False) -> None:
        """Let a tensor be the value of an ONNX name."""
        shape = self.shapes[name]
        wanted = stored(shape) if is_last else shape
        if tensor.shape != wanted:
            raise SettingsError(f"LiteRT: tensor '{name}' is {tensor.shape}; {wanted} wanted")
        self.values[name] = Value(shape=shape, tensor=tensor, is_last=is_last)

    def reshape(self, tensor: FileTensor, shape: tuple[int, ...]) -> FileTensor:
        """The same elements in another shape; chains of Reshape become one."""
        if tensor.shape == shape:
            return tensor
        if tensor.constant is not None:
            return constant(self.fresh(), tensor.constant.reshape(shape), tensor.quantization)
        made = next((o for o in reversed(self.file.operators) if tensor in o.outputs), None)
        if made is not None and made.kind == "RESHAPE" and made.inputs[0] is not None:
            return self.reshape(made.inputs[0], shape)
        if prod(shape) != prod(tensor.shape):
            raise SettingsError(f"LiteRT: {tensor.shape} cannot become {shape}")
        known = next(
            (
                o.outputs[0]
                for o in self.file.operators
                if o.kind == "RESHAPE" and o.inputs[0] is tensor and o.outputs[0].shape == shape
            ),
            None,
        )
        if known is not None:
            return known
        options = ("Reshape", {"newShape": list(shape)})
        return self.emit(
            "RESHAPE", [tensor, ints(self.fresh(), shape)], shape, tensor.dtype, options, tensor.quantization
        )

    def transpose(self, tensor: FileTensor, order: Sequence[int]) -> FileTensor:
        """Axes in another order."""
        shape = tuple(tensor.shape[i] for i in order)
        if tensor.constant is not None:
            return constant(self.fresh(), tensor.constant.transpose(order), tensor.quantization)
        if moves_nothing(tensor.shape, order):
            return self.reshape(tensor, shape)
        return self.emit(
            "TRANSPOSE",
            [tensor, ints(self.fresh(), order)],
            shape,
            tensor.dtype,
            ("Transpose", {}),
            tensor.quantization,
        )

    # -- integers

    def scale(self, name: str, scale: np.ndarray, zero: np.ndarray, node: Node) -> Quantization:
        """Note what the integers of a value stand for; raises SettingsError if something else was noted before."""
        found = quantization(scale, zero)
        tensor = self.value(name).tensor
        if tensor.quantization is None:
            tensor.quantization = found
            twin = self.value(name).twin
            if twin is not None:
                twin.quantization = found
        elif tensor.quantization != found:
            raise node.refused(f"input '{name}' has scale {tensor.quantization}; {found} wanted")
        return found


def quantization(scale: np.ndarray, zero: np.ndarray) -> Quantization:
    """ONNX's scale and zero point of an activation as LiteRT's, whose integers are int8."""
    shift = SHIFT if zero.dtype == np.uint8 else 0
    return Quantization(scales=(float(scale.reshape(-1)[0]),), zero_point=int(zero.reshape(-1)[0]) - shift)


def moves_nothing(shape: Sequence[int], order: Sequence[int]) -> bool:
    """Whether a transposition leaves all elements where they are."""
    kept = [i for i in order if shape[i] != 1]
    return kept == sorted(kept)


def stored(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with channels last."""
    if len(shape) not in ORDER:
        raise SettingsError(f"LiteRT: a tensor of shape {shape} has no channels to put last; 2 to 4 axes wanted")
    turned = tuple(shape[i] for i in ORDER[len(shape)])
    return (turned[0], 1, *turned[1:]) if len(shape) == 3 else turned


def store(array: np.ndarray) -> np.ndarray:
    """A constant with channels last."""
    return array.transpose(ORDER[array.ndim]).reshape(stored(array.shape))
