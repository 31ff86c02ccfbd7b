"""One step of a GRU as LiteRT's plain operators; its memory is an input and an output."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from host_tools.export.litert_file import FileOperator, FileTensor, constant, ints
from host_tools.export.litert_layers import unpacked
from host_tools.export.litert_net import Net, Node


def gru(net: Net, node: Node) -> None:
    """GRU over one time step, one direction, with the reset gate behind the product (linear_before_reset).

    h = n + z (h' - n), n = tanh(W x + b + r (R h' + c)), gates z and r = sigmoid(W x + b + R h' + c).
    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014, in ONNX's order z r n.
    """
    steps, batch, _ = net.value(node.inputs[0]).shape
    n = int(node.settings["hidden_size"])
    direction = node.settings.get("direction", b"forward")
    if steps != 1 or direction != b"forward" or node.input(4) or not node.settings.get("linear_before_reset", 0):
        raise node.refused(f"{steps} steps {direction.decode()}; one step forward with linear_before_reset wanted")
    if any(k in node.settings for k in ("activations", "clip", "layout")):
        raise node.refused("has activations, a limit or a layout of its own")
    w, r = (net.constant(node.inputs[i], node)[0] for i in (1, 2))
    bias = net.optional(node.input(3), node)
    b = np.zeros(6 * n, np.float32) if bias is None else bias[0]
    x = net.reshape(net.first(node.inputs[0]), (batch, w.shape[1]))
    if node.input(5):
        before = net.reshape(net.first(node.input(5)), (batch, n))
    else:
        before = constant(net.fresh(), np.zeros((batch, n), np.float32))

    def dense(given: FileTensor, name: str, weight: np.ndarray, b: np.ndarray) -> FileTensor:
        bias = constant(net.fresh(), np.asarray(b, np.float32))
        packed = net.packed.get(name)
        real = constant(net.fresh(), weight) if packed is None else unpacked(net, *packed)
        return net.emit("FULLY_CONNECTED", [given, real, bias], (batch, len(b)), "float32", ("FullyConnected", {}))

    def parts(given: FileTensor, sizes: list[int]) -> list[FileTensor]:
        outputs = [FileTensor(name=net.fresh(), shape=(batch, s), dtype="float32") for s in sizes]
        inputs = (given, ints(net.fresh(), sizes), constant(net.fresh(), np.array(1, np.int32)))
        net.file.operators.append(
            FileOperator(
                kind="SPLIT_V", inputs=inputs, outputs=tuple(outputs), options=("SplitV", {"numSplits": len(sizes)})
            )
        )
        return outputs

    def each(kind: str, a: FileTensor, b: FileTensor) -> FileTensor:
        return net.emit(kind, [a, b], a.shape, "float32", (kind.capitalize(), {}))

    new, old = dense(x, node.inputs[1], w, b[: 3 * n]), dense(before, node.inputs[2], r, b[3 * n :])
    (new_gates, new_inner), (old_gates, old_inner) = parts(new, [2 * n, n]), parts(old, [2 * n, n])
    gates = net.emit("LOGISTIC", [each("ADD", new_gates, old_gates)], (batch, 2 * n), "float32")
    z, reset = parts(gates, [n, n])
    inner = net.emit("TANH", [each("ADD", new_inner, each("MUL", reset, old_inner))], (batch, n), "float32")
    after = each("ADD", inner, each("MUL", z, each("SUB", before, inner)))
    for name in node.outputs:
        if name:
            net.say(name, net.reshape(after, net.shapes[name]))


RECURRENCE: dict[str, Callable[[Net, Node], None]] = {"GRU": gru}
