"""Training with rounding: what torch rounds is what the INT8 file computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from integer_nets import Residual, seeded, signals, simple
from onnx import TensorProto, helper, numpy_helper
from tiny_task import lab_of
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.calibration import Ranges, calibrate_plan
from host_tools.compress.fake_quantize import MOMENTUM, RoundingNetwork
from host_tools.compress.integer_plan import plan_integers
from host_tools.compress.qat import TrainQuantized
from host_tools.compress.step import Candidate
from host_tools.export.compact import compact
from host_tools.export.graph_network import GraphNetwork
from host_tools.export.plain import export_plain
from host_tools.export.qdq import Weights, write_qdq
from host_tools.export.simplify import simplified
from host_tools.fit import FitChange
from host_tools.measure.integer_layers import integer_layers
from host_tools.measure.logits import graph_logits, network_logits


def rounding(per: str = "channel") -> tuple[onnx.ModelProto, RoundingNetwork]:
    graph = simple()
    plan = plan_integers(graph)
    scales = calibrate_plan(graph, plan, signals(), Ranges())
    return graph, RoundingNetwork(graph, plan, scales, Weights(per=per))  # type: ignore[arg-type]


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_rounding_in_torch_is_rounding_in_the_file_to_one_step(per):
    graph, network = rounding(per)
    network.eval()
    written = compact(write_qdq(graph, network.plan, network.scales(), network.how))
    assert integer_layers(written) == (5, 5)
    ours, theirs = network_logits(network, signals()), graph_logits(written, signals())
    # One step of the head's input through its largest weights is what a rounding the other way may cost.
    head = network.plan.layers[-1]
    step = network.scale(network.plan.root(head.input)).scale
    assert np.abs(ours - theirs).max() < step
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_an_onnx_graph_in_torch_computes_the_same():
    network = seeded(Residual(), signals())
    graph = simple()
    np.testing.assert_allclose(
        network_logits(GraphNetwork(graph), signals()), network_logits(network, signals()), atol=1e-6
    )
    assert sum(p.requires_grad for p in GraphNetwork(graph).parameters()) == 10  # 5 layers' weights and biases


def test_gradients_pass_the_rounding_straight_through():
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="n0", transB=1)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([[0.5, -1.0, 0.3], [0.2, 0.9, 1.1]], np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    plan = plan_integers(model)
    x = torch.tensor([[0.123, 0.456, 0.999]])
    network = RoundingNetwork(model, plan, calibrate_plan(model, plan, x.numpy(), Ranges()), Weights()).eval()
    network(x).sum().backward()
    (weight,) = network.parameters()
    # d sum(W x) / dW = x, as the rounded input; no weight is beyond its channel's largest
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad, np.tile(network.round("x", x), (2, 1)), rtol=1e-6)


def test_ranges_follow_the_batches_and_then_freeze():
    _, network = rounding()
    entry = network.plan.entries[0]
    before = network.ranges[network.rows[entry]].clone()
    x = torch.from_numpy(signals(8))
    seen = torch.nan_to_num(x, nan=0.0)
    network.train()
    network(x)
    after = network.ranges[network.rows[entry]].clone()
    expected = (1 - MOMENTUM) * before + MOMENTUM * torch.stack([seen.min(), seen.max()])
    torch.testing.assert_close(after, expected)
    network.observes = False
    network(10 * x)
    torch.testing.assert_close(network.ranges[network.rows[entry]], after)


def test_the_step_learns_and_ships_integers():
    teacher = seeded(Residual(), signals())
    lab = lab_of(signals(60), (teacher,))
    step = TrainQuantized(fit=FitChange(epochs=4, batch=20, learning_rate=1e-3), examples=32)
    candidate = Candidate(network=seeded(Residual(), signals()))
    done = step.apply(candidate, lab)
    assert done.graph is not None
    assert integer_layers(done.graph) == (5, 5)
    assert done.tables[1].rows[1][2:4] == (5, 5)
    still = TrainQuantized(teach=False, fit=FitChange(epochs=1, batch=20, learning_rate=1e-9)).apply(candidate, lab)
    assert still.graph is not None
    x = lab.fold.validation.inputs
    assert not np.array_equal(graph_logits(done.graph, x), graph_logits(still.graph, x))


def test_a_teacher_that_is_not_there_is_missed():
    with pytest.raises(SettingsError, match="teach is true"):
        TrainQuantized().apply(Candidate(network=seeded(Residual(), signals())), lab_of(signals(30)))


def test_an_operator_that_torch_does_not_know_is_named():
    node = helper.make_node("Hardmax", ["x"], ["y"], name="n0")
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3]) for n in "xy"]
    graph = helper.make_model(helper.make_graph([node], "g", info[:1], info[1:]))
    with pytest.raises(SettingsError, match="operator Hardmax"):
        GraphNetwork(graph)


class Medley(nn.Module):
    """Operators that the other network has not."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(2, 6, 4, stride=2, padding=1)
        self.norm = nn.LayerNorm(6)
        self.two = nn.Linear(6, 6)
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([x[:, :, 1::2], x[:, :, ::2]], -1)
        x = nn.functional.gelu(self.one(nn.functional.pad(x, (3, 0))))
        x = nn.functional.avg_pool1d(x, 2).transpose(1, 2)
        x = nn.functional.silu(self.two(self.norm(x))) + torch.tanh(x)
        a, b = (x / (1.0 + x.abs().amax(1, keepdim=True))).chunk(2, dim=2)
        x = torch.softmax(a.sum(-1, keepdim=True), 1) * torch.cat([a, b], 2)
        out: torch.Tensor = self.head(torch.cat([x.sum(1), x.mean(1)], 1))
        return out


def test_other_operators_in_torch_are_those_of_onnx_runtime():
    x = signals(6, missing=False)
    graph = simplified(export_plain(seeded(Medley(), x), (2, 40)))
    np.testing.assert_allclose(network_logits(GraphNetwork(graph), x), graph_logits(graph, x), atol=2e-6)
