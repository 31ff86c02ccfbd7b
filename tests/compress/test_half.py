"""Half precision: how far it may be off, and what stays wide."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from integer_nets import signals, simple
from onnx import TensorProto, numpy_helper
from tiny_task import lab_of
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.half import Half, half_arithmetic, half_weights
from host_tools.compress.step import Candidate
from host_tools.export.plain import export_plain
from host_tools.export.simplify import simplified
from host_tools.measure.logits import graph_logits, network_logits

UNIT = 2.0**-11  # largest relative error of rounding to 16 bits (IEEE 754)


@pytest.mark.parametrize("form", [half_arithmetic, half_weights])
def test_a_half_precision_file_is_off_by_little(form):
    halved, real = form(simple()), graph_logits(simple(), signals())
    # Each of the 13 roundings on a path is off by one unit at most, of sums no larger than a few times the result.
    assert 0 < np.abs(graph_logits(halved, signals()) - real).max() < 13 * 4 * UNIT * np.abs(real).max()
    assert halved.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_the_step_writes_half_the_bytes():
    network = nn.Sequential(nn.Linear(60, 50), nn.ReLU(), nn.Linear(50, 3))
    done = Half().apply(Candidate(network=network.eval()), lab_of(signals(30, False, (60,))))
    assert done.graph is not None
    n = sum(p.numel() for p in network.parameters())
    assert 2 * n < len(done.graph.SerializeToString()) < 2 * n + 500
    assert [row[0] for row in done.tables[0].rows] == ["float", "half"]


def test_weights_in_half_precision_are_numpys():
    torch.manual_seed(0)
    layer = nn.Linear(40, 30)
    x = signals(8, missing=False, shape=(40,))
    halved = half_weights(simplified(export_plain(layer, (40,))))
    weight = layer.weight.detach().numpy().astype(np.float16).astype(np.float32)
    expected = x @ weight.T + layer.bias.detach().numpy()
    np.testing.assert_allclose(graph_logits(halved, x), expected, atol=1e-5)


def test_scaling_of_inputs_beyond_the_range_of_half_precision_stays_wide():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    norm = network[0]
    norm.running_var = torch.tensor([1e6, 1e6, 1e6])  # type: ignore[union-attr]
    norm.running_mean = torch.tensor([1e5, 0.0, 0.0])  # type: ignore[union-attr]
    network.eval()
    x = np.array([[1e5, 1e3, -500], [99e3, 0, 0]], np.float32)
    done = Half().apply(Candidate(network=network), lab_of(np.repeat(x, 9, axis=0)))
    assert done.graph is not None
    np.testing.assert_allclose(graph_logits(done.graph, x), network_logits(network, x), atol=4 * UNIT)


@pytest.mark.parametrize("form", [half_arithmetic, half_weights])
def test_a_weight_that_does_not_fit_is_refused(form):
    graph = onnx.ModelProto()
    graph.CopyFrom(simple())
    (found,) = (c for c in graph.graph.initializer if c.name == "stem.weight")
    weight = numpy_helper.to_array(found).copy()
    weight[1, 1, 0, 2] = -7e4
    found.CopyFrom(numpy_helper.from_array(weight, found.name))
    with pytest.raises(SettingsError, match=r"stem.weight reaches 70000; at most 65504"):
        form(graph)
