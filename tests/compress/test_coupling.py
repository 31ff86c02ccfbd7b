"""Which channels go together, and that those which contribute nothing can be taken away unnoticed."""

from __future__ import annotations

import copy
from typing import Any

import prunable_nets as nets
import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.coupling import Coupled, Coupling, kept, lightest, silence, without

# By the architecture: the residual addition ties pointwise to stem, whose channels the depthwise convolution keeps.
# A layer of the output and those of gates and groups stay as they are.
TIED = {
    "masked": [{"stem", "depthwise", "pointwise"}, {"wide"}, {"hidden"}],
    "recurrent": [{"conv"}, {"hidden"}],
    "gated": [{"free"}],
    "dense": [{"2"}, {"4"}],
}


def coupling(kind: str) -> Coupling:
    return Coupling(nets.network(kind), nets.SHAPE)


def group(found: Coupling, layer: str) -> Coupled:
    return found.find(layer)


@pytest.mark.parametrize("kind", TIED)
def test_layers_that_share_channels_are_found_and_those_that_cannot_lose_one_left_out(kind: str) -> None:
    found = [set(g.layers) for g in coupling(kind).groups]
    assert sorted(found, key=min) == sorted(TIED[kind], key=min)


@pytest.mark.parametrize("kind", TIED)
def test_silent_channels_can_be_removed_unnoticed(kind: str) -> None:
    found = coupling(kind)
    gone = {g.name: [0, g.channels - 1] for g in found.groups}
    untouched = nets.says(found.network)
    for g in found.groups:
        silence(found.slices(g, gone[g.name]))
    x = nets.signals()
    if kind == "masked":
        x[:, :, 3:6] = torch.nan
    silent = nets.says(found.network, x)
    smaller = without(found.network, nets.SHAPE, gone)
    torch.testing.assert_close(nets.says(smaller, x), silent, atol=1e-5, rtol=0)
    assert not torch.allclose(nets.says(found.network), untouched, atol=1e-3)
    modules = dict(smaller.named_modules())
    for g in found.groups:
        assert all(len(modules[layer].weight) == g.channels - 2 for layer in g.layers)


def test_every_channel_of_the_flattened_head_takes_its_own_columns_along() -> None:
    # Two values per channel reach the linear layer: removing channel 5 must remove columns 10 and 11.
    whole = nets.network("masked")
    smaller = without(whole, nets.SHAPE, {"wide": [5]})
    columns = [i for i in range(24) if i not in (10, 11)]
    assert torch.equal(smaller.hidden.weight, whole.hidden.weight[:, columns])


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_long_recurrence_reads_fewer_channels_and_says_the_same(kind: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 6, 3)
            self.memory = kind(6, 5, num_layers=2, bidirectional=True, batch_first=True)
            self.out = nn.Linear(10, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.memory(self.conv(x).sigmoid().transpose(1, 2))[0][:, -1])

    torch.manual_seed(0)
    network, x = Net().eval(), torch.randn(2, 1, 100, generator=torch.Generator().manual_seed(0))
    before = nets.says(network, x)
    found = Coupling(network, (1, 2000))  # takes minutes if every step is followed
    assert torch.equal(nets.says(network, x), before)
    (conv,) = found.groups
    silence(found.slices(conv, [1, 4]))
    smaller: Any = without(found.network, (1, 2000), {"conv": [1, 4]})
    assert smaller.memory.weight_ih_l0_reverse.shape == ((3 if kind is nn.GRU else 4) * 5, 4)
    torch.testing.assert_close(nets.says(smaller, x), nets.says(found.network, x), atol=1e-5, rtol=0)


def test_the_network_itself_stays_as_it_was() -> None:
    whole = nets.network("masked").train()
    before = copy.deepcopy(whole.state_dict())
    Coupling(whole, nets.SHAPE)
    without(whole, nets.SHAPE, {"wide": [0, 1]})
    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())
    assert whole.training
    assert whole.wide.training


def test_weights_of_channels_are_the_papers_sums() -> None:
    found = coupling("masked")
    net: Any = found.network
    wide = group(found, "wide")
    read = net.hidden.weight.detach().abs().T.reshape(12, 2, 10)  # channel, place, unit
    made = net.wide.weight.detach().abs()
    for importance, p in (("l1", 1), ("l2", 2)):
        own, others = made.pow(p).sum((1, 2, 3)), read.pow(p).sum((1, 2))
        weight = found.weight(wide, importance)
        assert weight is not None
        torch.testing.assert_close(weight / weight.sum(), (own + others) / (own + others).sum())
    assert found.weight(wide, "batch-norm") is None
    gamma = (net.stem_norm.weight + net.norm.weight).detach()
    weight = found.weight(group(found, "stem"), "batch-norm")
    assert weight is not None
    torch.testing.assert_close(weight / weight.sum(), gamma / gamma.sum())


def test_the_lightest_are_taken_in_order() -> None:
    assert lightest(torch.tensor([3.0, 0.5, 2.0, 0.5]), 3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("channels", "rate", "round_to", "stay"),
    [(8, 0.5, 1, 4), (9, 0.5, 1, 5), (8, 0.0, 1, 8), (8, 1.0, 1, 0), (4, 0.9, 1, 0), (12, 0.5, 8, 8), (6, 0.1, 4, 6)],
)
def test_how_many_stay(channels: int, rate: float, round_to: int, stay: int) -> None:
    assert kept(channels, rate, round_to) == stay


def test_a_layer_that_cannot_be_pruned_is_named_with_those_that_can() -> None:
    with pytest.raises(SettingsError, match="layer 'out' cannot lose channels; conv, hidden can"):
        coupling("recurrent").find("out")


def test_a_single_channel_is_never_taken() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.ReLU(), nn.Linear(1, 2))
    assert Coupling(network, nets.SHAPE).groups == ()
