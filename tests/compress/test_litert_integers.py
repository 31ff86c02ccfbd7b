"""Integers of LiteRT files: each operator's within a quantum of ONNX Runtime's, and what a whole network says."""

from __future__ import annotations

import litert_runs
import numpy as np
import onnx
import pytest
from integer_nets import signals, simple
from litert_runs import both, model_of
from onnx import TensorProto

from host_tools.compress.calibration import Ranges, calibrate_plan
from host_tools.compress.integer_plan import plan_integers
from host_tools.compress.ptq import finish
from host_tools.export.litert import to_litert
from host_tools.export.pack_window import one_window
from host_tools.export.qdq import Weights, write_qdq
from host_tools.measure.integer_layers import integer_layers, litert_integer_layers

litert_runs.needs_litert()


def quantized() -> onnx.ModelProto:
    """A network with a residual sum, a depthwise convolution, pools and a gate, as ONNX Runtime's integer operators."""
    plan = plan_integers(simple(), "none")
    scales = calibrate_plan(simple(), plan, signals(), Ranges())
    return write_qdq(simple(), plan, scales, Weights())


def test_integers_of_each_operator_are_those_of_onnx_runtime_within_a_quantum() -> None:
    """Every integer operator alone, fed with what ONNX Runtime has in front of it."""
    model = one_window(finish(quantized(), "operators"))
    inner = [o for n in model.graph.node for o in n.output if o]
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    shown.graph.output.extend(onnx.ValueInfoProto(name=o) for o in inner if o != model.graph.output[0].name)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    compared, n_values, n_off = set(), 0, 0
    for x in signals()[:6, None]:
        given = {model.graph.input[0].name: x}
        names = [o.name for o in shown.graph.output]
        values = given | dict(zip(names, litert_runs.by_onnx(shown, given), strict=True))
        for node in model.graph.node:
            if not node.op_type.startswith(("QLinear", "QGemm")) or values[node.output[0]].dtype != np.uint8:
                continue
            read = {i: values[i] for i in node.input if i in values}
            kinds = dict.fromkeys((*read, node.output[0]), TensorProto.UINT8)
            single = model_of(
                [node],
                {i: v.shape for i, v in read.items()},
                {node.output[0]: values[node.output[0]].shape},
                {i: constants[i] for i in node.input if i in constants},
                kinds,
            )
            wanted, found, _ = both(single, read)
            off = np.abs(wanted[0].astype(int) - found[0].astype(int))
            assert off.max() <= 1, node.op_type
            compared.add(node.op_type)
            n_values, n_off = n_values + off.size, n_off + int(off.sum())
    assert {"QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool"} <= compared
    assert n_off <= 0.01 * n_values, f"{n_off} of {n_values} integers differ"


@pytest.mark.parametrize("form", ["qdq", "operators"])
def test_an_int8_network_says_what_it_says_in_onnx_runtime(form: str) -> None:
    model = one_window(finish(quantized(), form))  # type: ignore[arg-type]
    x = signals()[:12, None]
    made = to_litert(model, litert_runs.entry(model))
    wanted = np.concatenate([litert_runs.by_onnx(one_window(finish(quantized(), "operators")), {"x": v})[0] for v in x])
    given = np.concatenate([litert_runs.by_litert(made, {"x": v})[0] for v in x])
    # A quantum in a layer moves a logit by a few hundredths of the range.
    assert np.abs(given - wanted).max() <= 0.05 * np.ptp(wanted)
    assert np.median(np.abs(given - wanted)) <= 1e-5 * np.ptp(wanted)
    # All but the last layer, which gives real numbers; the interpreter that loads the file says the same.
    assert (made.graph.integer_operators, made.graph.operators) == litert_integer_layers(model) == (4, 5)
    assert integer_layers(model) == (5, 5)


def test_a_float_network_has_no_integer_layer_in_litert() -> None:
    assert litert_integer_layers(one_window(simple())) == (0, 5)
