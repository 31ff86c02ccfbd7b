"""Counted multiply-accumulates against the same sums by hand and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from host_tools.measure.macs import macs, parameters

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    # values made x channels read x taps
    "linear": (nn.Linear(30, 18), (30,), 18 * 30),
    "linear at each of 7 places": (nn.Linear(5, 4), (7, 5), 7 * 4 * 5),
    "conv 1-D, stride 2, no padding": (nn.Conv1d(3, 8, 5, stride=2), (3, 25), 11 * 8 * 3 * 5),
    "conv (1, 5), padded": (nn.Conv2d(2, 6, (1, 5), padding=(0, 2)), (2, 1, 20), 20 * 6 * 2 * 5),
    "dilated": (nn.Conv1d(2, 3, 3, dilation=4), (2, 20), 12 * 3 * 2 * 3),
    "depthwise": (nn.Conv1d(6, 6, 3, groups=6), (6, 12), 10 * 6 * 1 * 3),
    "two groups": (nn.Conv1d(6, 4, 3, groups=2), (6, 12), 10 * 4 * 3 * 3),
    # values taken x channels made x taps
    "transposed": (nn.ConvTranspose1d(3, 5, 4, stride=2), (3, 9), 9 * 3 * 5 * 4),
    # steps x gates x (inputs + hidden) x hidden
    "GRU": (nn.GRU(4, 5, batch_first=True), (9, 4), 9 * 3 * (4 + 5) * 5),
    "LSTM, two layers, both ways": (
        nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True),
        (9, 4),
        9 * 2 * 4 * ((4 + 5) * 5 + (10 + 5) * 5),
    ),
    "a norm multiplies nothing that stays": (nn.BatchNorm1d(4), (4, 10), 0),
}


@pytest.mark.parametrize("case", LAYERS)
def test_multiply_accumulates_are_those_counted_by_hand(case: str) -> None:
    layer, shape, wanted = LAYERS[case]
    assert macs(layer, shape) == wanted


@pytest.mark.parametrize("case", [name for name, (layer, _, _) in LAYERS.items() if not isinstance(layer, nn.RNNBase)])
def test_multiply_accumulates_are_half_of_torchs_operations(case: str) -> None:
    layer, shape, _ = LAYERS[case]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        layer.eval()(torch.zeros(1, *shape))
    assert 2 * macs(layer, shape) == counter.get_total_flops()


def test_a_layer_used_twice_is_counted_twice_and_has_its_parameters_once() -> None:
    layer = nn.Linear(6, 6)
    twice = nn.Sequential(layer, nn.ReLU(), layer)
    assert macs(twice, (6,)) == 2 * 36
    assert parameters(twice) == 6 * 6 + 6


def test_counting_leaves_modes_hooks_and_statistics_alone() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    network[0].eval()
    macs(network, (3,))
    assert [m.training for m in network.modules()] == [True, False, True]
    assert not network[1]._forward_hooks
    assert torch.equal(network[0].running_mean, torch.zeros(3))
