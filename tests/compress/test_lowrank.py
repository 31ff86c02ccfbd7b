"""The step `factorize`: the best approximation of a rank, the rank of an energy, only where it saves."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import prunable_nets as nets
import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.lowrank import ENERGIES, Factorize, factorized, rank_of, two_layers
from host_tools.compress.step import Candidate
from host_tools.compress.train import Train
from host_tools.measure.macs import macs, parameters

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(20, 12), (20,)),
    "linear without bias": (nn.Linear(20, 12, bias=False), (20,)),
    "1x1": (nn.Conv2d(20, 12, 1, stride=(1, 2), padding=(0, 1)), (20, 1, 9)),
    "1x1 in 1-D": (nn.Conv1d(20, 12, 1), (20, 9)),
    "1x5": (nn.Conv2d(6, 12, (1, 5), stride=(1, 2), padding=(0, 2), dilation=(1, 2)), (6, 1, 21)),
    "same padding": (nn.Conv1d(6, 12, 5, padding="same"), (6, 9)),
}


def product(pair: nn.Sequential) -> torch.Tensor:
    first, second = (m.weight.detach().flatten(1) for m in pair)
    return second @ first


@pytest.mark.parametrize("case", LAYERS)
def test_the_error_is_the_smallest_that_a_rank_can_have(case: str) -> None:
    layer, _ = LAYERS[case]
    weight = layer.weight.detach().flatten(1).numpy().astype(np.float64)
    singular = np.linalg.svd(weight, compute_uv=False)
    for rank in (1, 4, 7):
        error = np.linalg.norm(weight - product(two_layers(layer, rank)).numpy())
        # Eckart and Young, 1936: the root of the squared singular values left out.
        assert error == pytest.approx(np.sqrt((singular[rank:] ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize("case", LAYERS)
def test_at_full_rank_nothing_changes(case: str) -> None:
    layer, shape = LAYERS[case]
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nets.says(two_layers(layer, 12), x), nets.says(layer, x), atol=1e-5, rtol=1e-5)


def test_the_rank_is_the_smallest_with_that_energy() -> None:
    values = torch.tensor([3.0, 2.0, 1.0, 1.0])  # squares 9, 4, 1, 1 of 15
    assert [rank_of(values, e) for e in (0.1, 0.6, 0.61, 13 / 15, 0.9, 0.94, 1.0)] == [1, 1, 2, 2, 3, 4, 4]
    assert rank_of(torch.zeros(3), 0.95) == 1


def low_rank_network() -> nn.Sequential:
    """16 -> 40 of rank 3, -> 2."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 2)).eval()
    network[1].weight.data = torch.randn(40, 3) @ torch.randn(3, 16)
    return network


def test_a_layer_of_low_rank_gets_thin_and_says_the_same() -> None:
    given = Candidate(network=low_rank_network())
    result = Factorize(energy=1.0, tune=False).apply(given, nets.lab())
    net: Any = result.network
    assert [type(m) for m in net[1]] == [nn.Linear, nn.Linear]
    assert net[1][0].out_features == 3
    torch.testing.assert_close(nets.says(net), nets.says(given.network), atol=1e-4, rtol=1e-4)
    # 16 x 3 + 3 x 40 instead of 16 x 40; the last layer, of rank 2 of 2, stays.
    assert parameters(given.network) - parameters(net) == 640 - 168
    assert macs(given.network, nets.SHAPE) - macs(net, nets.SHAPE) == 640 - 168
    assert nets.table(result, "ranks") == {"1": (16, 40, 3, "factorized"), "3": (40, 2, 2, "as it was")}
    assert nets.table(result, "size")["MACs"] == (640 + 80, 168 + 80)
    assert isinstance(given.network.get_submodule("1"), nn.Linear)


def test_a_rank_that_saves_nothing_leaves_the_layer_alone() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 12)  # 6 x (12 + 12) = 144 = 12 x 12: the rank must be below 6
    for rank, is_smaller in ((5, True), (6, False)):
        u, _, v = torch.linalg.svd(torch.randn(12, 12))
        layer.weight.data = (u * torch.tensor([1.0] * rank + [0.0] * (12 - rank))) @ v
        thin, _ = factorized(nn.Sequential(layer), 1.0 - 1e-9, "1x1")
        assert isinstance(thin[0], nn.Sequential) == is_smaller  # type: ignore[index]


def test_convolutions_of_several_taps_only_if_asked_and_grouped_ones_never() -> None:
    network = nets.network("masked")
    few, ranks = factorized(network, 0.3, "1x1")
    assert [row[0] for row in ranks.rows] == ["pointwise", "hidden", "out"]
    more, ranks = factorized(network, 0.3, "all")
    assert [row[0] for row in ranks.rows] == ["stem", "pointwise", "wide", "hidden", "out"]
    assert parameters(more) < parameters(few) < parameters(network)
    assert nets.says(more).shape == (6, 2)


def test_a_budget_finds_the_smallest_energy_that_keeps_it() -> None:
    lab = nets.lab(epochs=8)
    trained = Train().apply(
        Candidate(network=nn.Sequential(nn.Flatten(), nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 2))), lab
    )
    before = lab.validate(trained)["accuracy"]
    result = Factorize(max_points=1.0, tune=False).apply(trained, lab)
    assert before - lab.validate(result)["accuracy"] <= 0.01 + 1e-9
    lost = {
        e: before - lab.validate(Candidate(network=factorized(trained.network, e, "1x1")[0]))["accuracy"]
        for e in ENERGIES
    }
    within = [e for i, e in enumerate(ENERGIES) if all(lost[f] <= 0.01 + 1e-9 for f in ENERGIES[: i + 1])]
    (title,) = [t.title for t in result.tables if t.title.startswith("energy")]
    assert title == f"energy {min(within):g}: at most 1 points"


class Moody:
    """A lab whose figures are given: the unfactorized network's, then one per energy tried."""

    def __init__(self, *accuracies: float) -> None:
        real = nets.lab()
        self.fold, self.task, self.teachers = real.fold, real.task, ()
        self.left = list(accuracies)

    def validate(self, candidate: Candidate) -> dict[str, float]:
        return {"accuracy": self.left.pop(0)}


def test_the_search_ends_at_the_first_energy_that_breaks_the_budget() -> None:
    # The third energy misses by 3 points; the fourth would be lucky, and is not asked for.
    moody = Moody(0.95, 0.95, 0.945, 0.92, 0.95)
    result = Factorize(max_points=1.0, tune=False).apply(Candidate(network=nets.network("dense")), cast(Any, moody))
    assert moody.left == [0.95]
    (table,) = [t for t in result.tables if t.title.startswith("energy")]
    assert table.title == f"energy {ENERGIES[1]:g}: at most 1 points"


def test_it_trains_afterwards() -> None:
    result = Factorize(energy=0.5).apply(nets.candidate("dense"), nets.lab(epochs=8))
    assert any(row[-1] == "factorized" for row in result.tables[0].rows)
    assert nets.lab().validate(result)["accuracy"] > 0.9


@pytest.mark.parametrize("keys", [{"energy": 0.0}, {"energy": 1.1}, {"max_points": -0.5}, {"convolutions": "some"}])
def test_what_cannot_be_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="wanted"):
        build(Factorize, keys, "step", SettingsError)
