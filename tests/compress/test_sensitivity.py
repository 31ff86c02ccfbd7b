"""The step `prune-sensitive`: the scan, the greedy choice, and its budget."""

from __future__ import annotations

from itertools import product

import numpy as np
import prunable_nets as nets
import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.sensitivity import Effect, PruneSensitive, greedy_rates
from host_tools.compress.step import Candidate
from host_tools.compress.train import Train


@pytest.fixture(scope="module")
def trained() -> Candidate:
    return Train().apply(nets.candidate("dense"), nets.lab(epochs=8))


def accuracy(network: nn.Module) -> float:
    part = nets.lab().fold.validation
    return float(np.mean(nets.says(network, torch.from_numpy(part.inputs)).argmax(1).numpy() == part.labels))


def test_the_scan_is_what_pruning_that_layer_alone_does(trained: Candidate) -> None:
    result = PruneSensitive(rates=(0.25, 0.5, 0.75), tune=False).apply(trained, nets.lab())
    (table,) = [t for t in result.tables if t.title == "sensitivity"]
    assert (table.x, table.y, table.line) == ("rate", "accuracy", "layer")
    found = {(row[0], row[1]): row[2] for row in table.rows}
    assert set(found) == set(product(("2", "4"), (0.0, 0.25, 0.5, 0.75)))
    for layer, after in (("2", "4"), ("4", "6")):
        for rate in (0.25, 0.5, 0.75):
            # By hand: the lightest units' outputs set to zero, by the norm of all that touches them.
            network = nets.network("dense")
            network.load_state_dict(trained.network.state_dict())
            made, read = network.get_submodule(layer), network.get_submodule(after)
            weight = made.weight.detach().square().sum(1) + read.weight.detach().square().sum(0)
            gone = torch.argsort(weight)[: len(weight) - int(len(weight) * (1 - rate) + 0.5)]
            read.weight.data[:, gone] = 0.0
            assert found[layer, rate] == accuracy(network)


@pytest.mark.parametrize("budget", [0.0, 3.0])
def test_all_layers_together_stay_within_the_budget(trained: Candidate, budget: float) -> None:
    result = PruneSensitive(max_points=budget, tune=False).apply(trained, nets.lab())
    lost = 100.0 * (accuracy(trained.network) - accuracy(result.network))
    assert lost <= budget + 1e-9
    chosen = nets.table(result, "rates chosen")
    assert chosen["all together: points lost"][0] == pytest.approx(lost)
    assert chosen["2"][0] > 0  # something could go for nothing
    assert result.network.get_submodule("2").out_features < 12


def test_it_trains_afterwards(trained: Candidate) -> None:
    tuned = PruneSensitive(rates=(0.75,), max_points=100.0).apply(trained, nets.lab(epochs=20))
    assert tuned.network.get_submodule("2").out_features == 3
    assert nets.lab().validate(tuned)["accuracy"] > 0.9


def effects(*points: tuple[float, float, int]) -> dict[float, Effect]:
    return {rate: Effect(metric=0.0, lost=lost, saved=saved) for rate, lost, saved in points}


def test_the_cheapest_parameters_go_first() -> None:
    scanned = {"a": effects((0.25, 1.0, 10), (0.5, 3.0, 20)), "b": effects((0.25, 1.0, 40), (0.5, 9.0, 80))}

    def lost(rates: dict[str, float]) -> float:
        tried.append(dict(rates))
        return sum(scanned[name][rate].lost for name, rate in rates.items())

    tried: list[dict[str, float]] = []
    assert greedy_rates(scanned, lost, 5.0) == {"a": 0.5, "b": 0.25}
    # Points per parameter: b 1/40 < a 1/10 < b 8/40 = a 2/10 (b saves more, but exceeds the budget) < a.
    assert tried == [{"b": 0.25}, {"b": 0.25, "a": 0.25}, {"b": 0.5, "a": 0.25}, {"b": 0.25, "a": 0.5}]


def test_a_layer_that_broke_the_budget_goes_no_further() -> None:
    # Beyond 0.25 the layer would look harmless again by luck; it is not asked.
    scanned = {"a": effects((0.25, 9.0, 10), (0.5, 0.0, 20))}
    assert greedy_rates(scanned, lambda rates: scanned["a"][rates["a"]].lost, 5.0) == {}


def test_with_losses_that_add_up_no_move_more_fits_the_budget() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rates = (0.25, 0.5, 0.75)
        scanned = {
            name: effects(*zip(rates, np.cumsum(rng.exponential(1.0, 3)), (10, 20, 30), strict=True)) for name in "abc"
        }

        def lost(chosen: dict[str, float], scanned: dict[str, dict[float, Effect]] = scanned) -> float:
            return sum(scanned[name][rate].lost for name, rate in chosen.items())

        found = greedy_rates(scanned, lost, 3.0)
        assert lost(found) <= 3.0
        for name in "abc":
            more = [r for r in rates if r > found.get(name, 0.0)][:1]
            assert all(lost({**found, name: r}) > 3.0 for r in more)


def test_a_rate_that_empties_every_layer_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"rates: 0\.99 leaves no layer a channel; the widest, '2', has 12"):
        PruneSensitive(rates=(0.5, 0.99)).apply(nets.candidate("dense"), nets.lab(epochs=1000))


def test_rates_that_prune_nothing_are_refused() -> None:
    # 0.02 of 12 and of 9 channels is less than half a channel.
    with pytest.raises(SettingsError, match="none takes a channel from a layer"):
        PruneSensitive(rates=(0.01, 0.02)).apply(nets.candidate("dense"), nets.lab(epochs=1000))


@pytest.mark.parametrize("keys", [{"rates": []}, {"rates": [0.5, 0.25]}, {"rates": [0.5, 1.0]}, {"max_points": -1.0}])
def test_what_cannot_be_scanned_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="wanted"):
        build(PruneSensitive, keys, "step", SettingsError)
