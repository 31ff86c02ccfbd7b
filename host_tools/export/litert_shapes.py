"""Operators of an ONNX graph that move, choose or sum up elements, as LiteRT's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from host_tools.export.litert_file import FileOperator, FileTensor, constant, ints
from host_tools.export.litert_net import ORDER, TO_STORED, Net, Node, quantization, stored

REDUCTIONS = {"ReduceMean": "MEAN", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN", "ReduceSum": "SUM"}


def reshape(net: Net, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: elements stay in ONNX's order."""
    name, wanted = node.inputs[0], net.shapes[node.outputs[0]]
    value = net.value(name)
    if value.is_last and _same_signal(value.shape, wanted):
        net.say(node.outputs[0], net.reshape(value.tensor, stored(wanted)), is_last=True)
        return
    given = value.in_order
    net.say(node.outputs[0], net.reshape(net.first(name) if given is None else given, wanted))


def _same_signal(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether both are one signal of the same channels and times, axes of size 1 aside."""
    if len(wanted) not in ORDER:
        return False

    def channels_times(s: tuple[int, ...]) -> tuple[int, int, int] | None:
        if len(s) == 2:
            return 1, s[0], s[1]
        return (s[0], s[1], s[2] * (s[3] if len(s) == 4 else 1)) if len(s) == 3 or 1 in s[2:] else None

    return channels_times(shape) is not None and channels_times(shape) == channels_times(wanted)


def transpose(net: Net, node: Node) -> None:
    """Transpose; none is needed where the elements lie so already."""
    value = net.value(node.inputs[0])
    order = [int(i) for i in node.settings.get("perm", range(len(value.shape))[::-1])]
    if value.is_last and len(value.shape) != 3 and tuple(order) == ORDER[len(value.shape)]:
        net.say(node.outputs[0], value.tensor)
        return
    net.say(node.outputs[0], net.transpose(net.first(node.inputs[0]), order))


def concat(net: Net, node: Node) -> None:
    """Concat; integers have one scale."""
    rank = len(net.shapes[node.outputs[0]])
    tensors, is_last = net.together(node.inputs, rank)
    axis = _axis(int(node.settings["axis"]), rank, is_last)
    known = [t.quantization for t in tensors if t.quantization is not None]
    if any(q != known[0] for q in known):
        raise node.refused(f"its inputs have scales {known}; one for all wanted")
    shape = net.shapes[node.outputs[0]]
    options = ("Concatenation", {"axis": axis})
    quantization = known[0] if known else None
    made = net.emit(
        "CONCATENATION", tensors, stored(shape) if is_last else shape, tensors[0].dtype, options, quantization
    )
    net.say(node.outputs[0], made, is_last=is_last)


def integer_concat(net: Net, node: Node) -> None:
    """QLinearConcat: scale, zero, then x, scale, zero of each; those of other scales are rounded to the result's."""
    output = quantization(net.constant(node.inputs[0], node), net.constant(node.inputs[1], node))
    names = node.inputs[2::3]
    for i, name in enumerate(names):
        scale, zero = (net.constant(node.inputs[3 + 3 * i + k], node) for k in range(2))
        net.scale(name, scale, zero, node)
    shape = net.shapes[node.outputs[0]]
    tensors, is_last = net.together(names, len(shape))
    same = [
        t if t.quantization == output else net.emit("QUANTIZE", [t], t.shape, "int8", ("Quantize", {}), output)
        for t in tensors
    ]
    options = ("Concatenation", {"axis": _axis(int(node.settings["axis"]), len(shape), is_last)})
    made = net.emit("CONCATENATION", same, stored(shape) if is_last else shape, "int8", options, output)
    net.say(node.outputs[0], made, is_last=is_last)


def split(net: Net, node: Node) -> None:
    """Split."""
    value = net.value(node.inputs[0])
    axis = _axis(int(node.settings.get("axis", 0)), len(value.shape), value.is_last)
    outputs = []
    for name in node.outputs:
        shape = stored(net.shapes[name]) if value.is_last else net.shapes[name]
        dtype, quantization = value.tensor.dtype, value.tensor.quantization
        outputs.append(FileTensor(name=net.fresh(), shape=shape, dtype=dtype, quantization=quantization))
    sizes = [t.shape[axis] for t in outputs]
    net.file.operators.append(
        FileOperator(
            kind="SPLIT_V",
            inputs=(value.tensor, ints(net.fresh(), sizes), constant(net.fresh(), np.array(axis, np.int32))),
            outputs=tuple(outputs),
            options=("SplitV", {"numSplits": len(outputs)}),
        )
    )
    for name, tensor in zip(node.outputs, outputs, strict=True):
        net.say(name, tensor, is_last=value.is_last)


def cut(net: Net, node: Node) -> None:
    """Slice; the tail of a state needs none, because the runtime takes the tail."""
    value = net.value(node.inputs[0])
    starts, ends = net.whole(node.inputs[1], node), net.whole(node.inputs[2], node)
    axes = net.whole(node.input(3), node) if node.input(3) else list(range(len(starts)))
    steps = net.whole(node.input(4), node) if node.input(4) else [1] * len(starts)
    n = len(value.tensor.shape)
    begin, end, step = [0] * n, list(value.tensor.shape), [1] * n
    for start, stop, by, axis in zip(starts, ends, steps, axes, strict=True):
        if by < 1:
            raise node.refused(f"step is {by}; 1 or more wanted")
        at = _axis(axis, len(value.shape), value.is_last)
        begin[at], end[at], _ = slice(start, stop, by).indices(value.tensor.shape[at])
        step[at] = by
    if node.outputs[0] in net.state_outputs and end == list(value.tensor.shape) and step == [1] * n:
        net.values[node.outputs[0]] = replace(value)
        return
    shape = tuple(len(range(*t)) for t in zip(begin, end, step, strict=True))
    inputs = [value.tensor, *(ints(net.fresh(), v) for v in (begin, end, step))]
    made = net.emit("STRIDED_SLICE", inputs, shape, value.tensor.dtype, ("StridedSlice", {}), value.tensor.quantization)
    net.say(node.outputs[0], made, is_last=value.is_last)


def pad(net: Net, node: Node) -> None:
    """Pad with a constant."""
    if node.settings.get("mode", b"constant") != b"constant":
        raise node.refused(f"mode is {node.settings['mode'].decode()}; constant wanted")
    filler = net.optional(node.input(2), node)
    value = net.value(node.inputs[0])
    rank, pads = len(value.shape), net.whole(node.inputs[1], node)
    axes = net.whole(node.input(3), node) if node.input(3) else list(range(rank))
    around = np.zeros((len(value.tensor.shape), 2), np.int32)
    for i, axis in enumerate(axes):
        around[_axis(axis, rank, value.is_last)] = pads[i], pads[i + len(axes)]
    shape = tuple(int(n + a + b) for n, (a, b) in zip(value.tensor.shape, around, strict=True))
    inputs: list[FileTensor] = [value.tensor, constant(net.fresh(), around)]
    kind = ("PAD", "Pad")
    if filler is not None and np.any(filler):
        inputs.append(constant(net.fresh(), filler.reshape(1)))
        kind = ("PADV2", "PadV2")
    made = net.emit(kind[0], inputs, shape, value.tensor.dtype, (kind[1], {}), value.tensor.quantization)
    net.say(node.outputs[0], made, is_last=value.is_last)


def reduction(net: Net, node: Node) -> None:
    """ReduceMean and its kind."""
    value = net.value(node.inputs[0])
    rank, shape = len(value.shape), net.shapes[node.outputs[0]]
    listed = net.whole(node.input(1), node) if node.input(1) else node.settings.get("axes")
    axes = sorted(int(a) % rank for a in (range(rank) if listed is None else listed))
    keeps = bool(node.settings.get("keepdims", 1))
    left = [a for a in range(rank) if a not in axes]
    is_last = value.is_last
    if is_last and not keeps:
        at = [TO_STORED[rank][a] for a in left]
        is_last = at == sorted(at)
    given = value.tensor if is_last else net.first(node.inputs[0])
    where = [_axis(a, rank, is_last) for a in axes]
    if is_last and not keeps and rank == 3:
        where.append(1)  # the axis that only the stored tensor has
    stays_last = is_last and keeps
    options = ("Reducer", {"keepDims": keeps})
    made = net.emit(
        REDUCTIONS[node.kind],
        [given, ints(net.fresh(), sorted(where))],
        stored(shape) if stays_last else shape,
        given.dtype,
        options,
        given.quantization,
    )
    net.say(node.outputs[0], made, is_last=stays_last)


def top(net: Net, node: Node) -> None:
    """TopK, the largest along the last axis, in order; their places are 32 bits."""
    given = net.first(node.inputs[0])
    if int(node.settings.get("axis", -1)) % len(given.shape) != len(given.shape) - 1 or not (
        node.settings.get("largest", 1) and node.settings.get("sorted", 1)
    ):
        raise node.refused("the largest along the last axis, sorted, wanted")
    k = constant(net.fresh(), np.array(net.whole(node.inputs[1], node)[0], np.int32))
    shape = net.shapes[node.outputs[0]]
    outputs = tuple(FileTensor(name=net.fresh(), shape=shape, dtype=d) for d in (given.dtype, "int32"))
    net.file.operators.append(FileOperator(kind="TOPK_V2", inputs=(given, k), outputs=outputs, options=("TopKV2", {})))
    for name, tensor in zip(node.outputs, outputs, strict=False):
        if name:
            net.say(name, tensor)


def gather(net: Net, node: Node) -> None:
    """Gather by constant places."""
    given = net.first(node.inputs[0])
    axis = int(node.settings.get("axis", 0)) % len(given.shape)
    places = net.constant(node.inputs[1], node).astype(np.int32) % given.shape[axis]
    options = ("Gather", {"axis": axis})
    inputs = [given, constant(net.fresh(), places)]
    net.say(node.outputs[0], net.emit("GATHER", inputs, net.shapes[node.outputs[0]], given.dtype, options))


def gather_nd(net: Net, node: Node) -> None:
    """GatherND by constant places."""
    given = net.first(node.inputs[0])
    places = net.constant(node.inputs[1], node).astype(np.int32)
    if node.settings.get("batch_dims", 0):
        raise node.refused("has batch dimensions")
    places = places % np.array(given.shape[: places.shape[-1]], np.int32)
    inputs = [given, constant(net.fresh(), places)]
    shape = net.shapes[node.outputs[0]]
    net.say(node.outputs[0], net.emit("GATHER_ND", inputs, shape, given.dtype, ("GatherNd", {})))


def _axis(axis: int, rank: int, is_last: bool) -> int:
    axis %= rank
    return TO_STORED[rank][axis] if is_last else axis


SHAPES: dict[str, Callable[[Net, Node], None]] = {
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    "Concat": concat,
    "QLinearConcat": integer_concat,
    "Gather": gather,
    "GatherND": gather_nd,
    "Pad": pad,
    "Slice": cut,
    "Split": split,
    "TopK": top,
    "Transpose": transpose,
}
