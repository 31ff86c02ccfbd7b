"""Any network as INT8: what becomes an integer, that the integers are the right ones, and what is refused."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
import torch
from integer_nets import Residual, residual, seeded, signals, simple
from onnx import TensorProto, helper, numpy_helper
from tiny_task import lab_of
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.calibration import Ranges, calibrate_plan, draw
from host_tools.compress.integer_plan import plan_integers
from host_tools.compress.ptq import Quantize, QuantizeDynamic, finish
from host_tools.compress.quantize import Scale
from host_tools.compress.step import Candidate, Lab
from host_tools.export.compact import compact
from host_tools.export.plain import export_plain
from host_tools.export.qdq import Weights, dequantized, write_qdq
from host_tools.export.simplify import simplified
from host_tools.measure.integer_layers import engine_operators, integer_layers
from host_tools.measure.logits import graph_logits
from host_tools.measure.sqnr import sqnr_db

LAYERS = ["stem", "depth", "point", "gate", "head"]


def int8(keep_wide: object = "none", how: Ranges | None = None, weights: Weights | None = None) -> onnx.ModelProto:
    plan = plan_integers(simple(), keep_wide)  # type: ignore[arg-type]
    scales = calibrate_plan(simple(), plan, signals(), how or Ranges())
    return write_qdq(simple(), plan, scales, weights or Weights())


def gemm(weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """y = x W^T + b."""
    node = helper.make_node("Gemm", ["x", "l.weight", "l.bias"], ["y"], name="n0", transB=1)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[0]])],
        [numpy_helper.from_array(weight, "l.weight"), numpy_helper.from_array(bias, "l.bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


# What becomes an integer


def test_every_layer_runs_as_integers_and_nothing_in_front_of_the_imputation_is_rounded():
    graph = int8()
    assert integer_layers(compact(graph)) == (5, 5)
    rounded = {n.input[0] for n in graph.graph.node if n.op_type == "QuantizeLinear"}
    assert "x" not in rounded
    where = next(n.output[0] for n in graph.graph.node if n.op_type == "Where")
    assert where not in rounded  # but its Unsqueeze is, which the first convolution reads
    assert np.isfinite(graph_logits(graph, signals())).all()


@pytest.mark.parametrize(
    ("keep_wide", "wide"),
    [
        ("none", []),
        ("first", ["stem"]),
        ("last", ["head"]),
        ("first-and-last", ["stem", "head"]),
        (["depth", "gate"], ["depth", "gate"]),
    ],
)
def test_layers_that_are_kept_wide_stay_float(keep_wide, wide):
    plan = plan_integers(simple(), keep_wide)
    assert [layer.name for layer in plan.layers] == [n for n in LAYERS if n not in wide]
    assert list(plan.wide) == wide
    assert integer_layers(compact(int8(keep_wide))) == (5 - len(wide), 5)


def test_a_float_graph_has_no_integer_layer():
    assert integer_layers(residual()) == (0, 5)


@pytest.mark.parametrize("keep_wide", ["middle", ["no such layer"], 3, LAYERS])
def test_layers_that_cannot_be_kept_wide_are_refused(keep_wide):
    with pytest.raises(SettingsError, match=r"keep_wide"):
        plan_integers(simple(), Quantize(keep_wide=keep_wide).keep_wide)  # type: ignore[arg-type]


def test_a_convolution_that_ends_the_network_is_an_integer_too():
    network = seeded(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)), signals(8, False, (2, 8, 8)))
    x = signals(8, False, (2, 8, 8))
    graph = simplified(export_plain(network, (2, 8, 8)))
    plan = plan_integers(graph)
    written = compact(write_qdq(graph, plan, calibrate_plan(graph, plan, x, Ranges()), Weights()))
    assert integer_layers(written) == (2, 2)
    assert sqnr_db(graph_logits(graph, x), graph_logits(written, x)) > 25


def test_a_linear_layer_over_a_sequence_is_an_integer_product():
    network = seeded(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), signals(8, False, (7, 6)))
    x = signals(8, False, (7, 6))
    graph = simplified(export_plain(network, (7, 6)))
    plan = plan_integers(graph)
    written = compact(write_qdq(graph, plan, calibrate_plan(graph, plan, x, Ranges()), Weights()))
    assert [layer.name for layer in plan.layers] == ["0", "2"]
    assert engine_operators(written)["MatMulIntegerToFloat"] == 2
    assert sqnr_db(graph_logits(graph, x), graph_logits(written, x)) > 30


# That the integers are the right ones


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_an_int8_layer_is_integer_arithmetic(per):
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((5, 12)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    x = rng.uniform(-1, 3, (9, 12)).astype(np.float32)
    graph, scale = gemm(weight, bias), Scale(scale=4 / 255, zero_point=64)
    written = compact(write_qdq(graph, plan_integers(graph), {"x": scale}, Weights(per=per)))
    steps = np.abs(weight).max(axis=1 if per == "channel" else None) / 127
    w = np.rint(weight / np.reshape(steps, (-1, 1))).astype(np.int64)
    q = np.clip(np.rint(x / (4 / 255)) + 64, 0, 255).astype(np.int64) - 64
    b = np.rint(bias / (steps * 4 / 255)).astype(np.int64)
    assert engine_operators(written)["QGemm"] == 1
    np.testing.assert_allclose(graph_logits(written, x), (q @ w.T + b) * (steps * 4 / 255), rtol=1e-5, atol=1e-6)


def test_each_channel_has_its_scale_or_all_share_the_largest():
    weight = np.array([[[1.27, -0.5]], [[0.0127, 0.0064]]], np.float32)
    integers, scales = Weights(per="channel").quantize(weight, 0)
    np.testing.assert_allclose(scales, [0.01, 0.0001], rtol=1e-5)
    np.testing.assert_array_equal(integers.ravel(), [127, -50, 127, 64])
    integers, scale = Weights(per="tensor").quantize(weight, 0)
    assert scale == pytest.approx(0.01)
    np.testing.assert_array_equal(integers.ravel(), [127, -50, 1, 1])


def test_dropping_the_fraction_rounds_towards_zero_and_seven_bits_end_at_63():
    weight = np.array([[1.27, -0.509, 0.509]], np.float32)
    np.testing.assert_array_equal(Weights(rounding="drop").quantize(weight, 0)[0], [[127, -50, 50]])
    np.testing.assert_array_equal(Weights(bits=7).quantize(weight, 0)[0], [[63, -25, 25]])


def test_truncation_is_worse_than_rounding():
    x, real = signals(), graph_logits(residual(), signals())
    naive = int8(how=Ranges(thresholds="truncation"), weights=Weights(per="tensor", rounding="drop"))
    assert sqnr_db(real, graph_logits(naive, x)) + 6 < sqnr_db(real, graph_logits(int8(), x))


@pytest.mark.parametrize("thresholds", ["minmax", "percentile", "kl", "mse"])
def test_every_way_to_choose_ranges_keeps_what_the_network_says(thresholds):
    real = graph_logits(residual(), signals())
    assert sqnr_db(real, graph_logits(int8(how=Ranges(thresholds=thresholds)), signals())) > 20


def test_both_forms_of_the_file_say_the_same_and_operators_take_fewer_bytes():
    written = int8()
    qdq, operators = finish(written, "qdq"), finish(written, "qoperator")
    np.testing.assert_array_equal(graph_logits(qdq, signals()), graph_logits(written, signals()))
    np.testing.assert_array_equal(graph_logits(operators, signals()), graph_logits(qdq, signals()))
    assert len(operators.SerializeToString()) < len(qdq.SerializeToString()) < len(written.SerializeToString())
    assert qdq.ir_version == 8
    assert [o.domain for o in qdq.opset_import] == [""]


def test_a_simplified_graph_computes_the_same():
    np.testing.assert_allclose(graph_logits(simple(), signals()), graph_logits(residual(), signals()), atol=1e-6)
    assert "GlobalAveragePool" in {n.op_type for n in simple().graph.node}


def test_rounded_tensors_lie_on_their_scale():
    plan = plan_integers(simple())
    scales = calibrate_plan(simple(), plan, signals(), Ranges())
    written = write_qdq(simple(), plan, scales, Weights())
    tensor = plan.tensors[2]
    written.graph.output.append(helper.make_tensor_value_info(dequantized(tensor), TensorProto.FLOAT, None))
    import onnxruntime

    run = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    values = run.run([dequantized(tensor)], {"x": signals()})[0] / scales[tensor].scale
    np.testing.assert_allclose(values, np.rint(values), atol=1e-3)
    assert len(np.unique(values)) > 20


# Calibration


def test_calibration_examples_are_drawn_by_the_seed():
    x = signals(40)
    np.testing.assert_array_equal(draw(x, 8, 3), draw(x, 8, 3))
    assert len(draw(x, 8, 3)) == 8
    assert not np.array_equal(draw(x, 8, 3), draw(x, 8, 4), equal_nan=True)
    assert draw(x, 100, 0) is x


def infinite() -> np.ndarray:
    x = signals()
    x[7, 0, 3] = np.inf
    return x


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.zeros((0, 2, 40), np.float32), "0 examples"),
        (np.zeros((4, 2, 41), np.float32), r"\(2, 41\); \(2, 40\) wanted"),
        (infinite(), r"example 7: activation .* is inf"),
    ],
)
def test_examples_that_determine_no_range_are_refused(x, says):
    with pytest.raises(SettingsError, match=says):
        calibrate_plan(simple(), plan_integers(simple()), x, Ranges())


def test_missing_values_that_nothing_imputes_are_refused():
    graph = gemm(np.ones((2, 3), np.float32), np.zeros(2, np.float32))
    x = np.array([[1, 2, 3], [1, np.nan, 3]], np.float32)
    with pytest.raises(SettingsError, match=r"example 1: activation 'x' is nan"):
        calibrate_plan(graph, plan_integers(graph), x, Ranges())


# Steps


@functools.cache
def lab() -> Lab:
    return lab_of(signals(60))


def candidate() -> Candidate:
    return Candidate(network=seeded(Residual(), signals()))


def test_a_recipes_table_becomes_the_step():
    table = {"thresholds": "kl", "weights": "per-tensor", "keep_wide": ["head"], "examples": 16, "format": "qoperator"}
    step = build(Quantize, table, "steps[0]", SettingsError)
    done = step.apply(candidate(), lab())
    assert done.graph is not None
    assert integer_layers(done.graph) == (4, 5)
    noise, cost = done.tables
    assert [row[0] for row in noise.rows] == LAYERS
    assert [row[2:4] for row in cost.rows] == [(0, 5), (4, 5)]
    with pytest.raises(SettingsError, match="already"):
        step.apply(done, lab())


@pytest.mark.parametrize("table", [{"thresholds": "entropy"}, {"percentile": 30}, {"examples": 0}, {"keep_wide": 3}])
def test_settings_that_do_not_exist_are_refused(table):
    with pytest.raises(SettingsError, match=next(iter(table))):
        build(Quantize, table, "steps[0]", SettingsError)


def test_dynamic_quantization_needs_no_examples_and_runs_integers():
    done = QuantizeDynamic().apply(candidate(), lab())
    assert done.graph is not None
    assert integer_layers(done.graph)[0] >= 4
    real = graph_logits(residual(), signals())
    assert sqnr_db(real, graph_logits(done.graph, signals())) > 15


def test_a_reported_noise_is_that_of_the_two_graphs():
    done = Quantize().apply(candidate(), lab())
    x = lab().fold.validation.inputs
    assert done.graph is not None
    expected = sqnr_db(graph_logits(residual(), x), graph_logits(done.graph, x))
    assert done.tables[0].rows[-1][3] == pytest.approx(expected, abs=0.1)
    head = candidate().network.head.weight.detach().numpy()  # type: ignore[union-attr]
    steps = np.abs(head).max(axis=1, keepdims=True) / 127
    assert done.tables[0].rows[-1][2] == pytest.approx(sqnr_db(head, np.rint(head / steps) * steps), abs=1e-3)
    assert torch.is_tensor(candidate().network.head.weight)
