"""What a step that leaves float arithmetic reports: noise by layer; bytes, integer layers and speed."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from edge_runtime.contract.signal import Float32Array
from host_tools.compress.integer_plan import Plan
from host_tools.compress.step import Table
from host_tools.export.qdq import Weights, dequantized
from host_tools.measure.integer_layers import integer_layers
from host_tools.measure.latency import interleaved_ns, ratio
from host_tools.measure.sqnr import activation_sqnr_db, sqnr_db

EXAMPLES = 256
ROUNDS = 60


def layer_table(
    title: str, simple: onnx.ModelProto, written: onnx.ModelProto, plan: Plan, how: Weights, inputs: Float32Array
) -> Table:
    """Signal-to-quantization-noise of each layer's weights and output, on the first validation examples."""
    constants = {c.name: c for c in simple.graph.initializer}
    pairs = {
        layer.output: dequantized(layer.output) if layer.output in plan.inner else layer.output for layer in plan.layers
    }
    noise = activation_sqnr_db(simple, written, pairs, inputs[:EXAMPLES])
    rows: list[tuple[str | float | int | None, ...]] = []
    for layer in plan.layers:
        weight = numpy_helper.to_array(constants[layer.weight])
        rows.append((layer.name, layer.kind, sqnr_db(weight, how.rounded(weight, layer.axis)), noise[layer.output]))
    rows += [(name, "kept wide", None, None) for name in plan.wide]
    columns = ("layer", "kind", "weights, dB", "output, dB")
    return Table(title=f"{title}: signal over quantization noise", columns=columns, rows=tuple(rows))


def cost_table(title: str, before: onnx.ModelProto, after: onnx.ModelProto, shape: tuple[int, ...]) -> Table:
    """Bytes of the files, layers that run as integers, and how long a call takes, side by side on this machine."""
    ns = interleaved_ns({"before": before, "after": after}, tuple(shape), rounds=ROUNDS)
    speed = ratio(ns, "before", "after")
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, graph in (("float", before), (title, after)):
        n_integer, n_all = integer_layers(graph)
        us = (ns["before" if graph is before else "after"] / 1e3).tolist()
        low, middle, high = (sorted(us)[round(q * (len(us) - 1))] for q in (0.25, 0.5, 0.75))
        rows.append((name, len(graph.SerializeToString()), n_integer, n_all, middle, low, high))
    rows[0] += (1.0, 1.0, 1.0)
    rows[1] += (speed.value, speed.low, speed.high)
    times = ("median, us", "25 %, us", "75 %, us", "times faster", "from", "to")
    columns = ("file", "bytes", "integer layers", "layers", *times)
    return Table(title=f"{title}: before and after", columns=columns, rows=tuple(rows))
