"""The step `prune-channels` on networks of every kind."""

from __future__ import annotations

import math
import time
from typing import Any, cast

import numpy as np
import prunable_nets as nets
import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.channels import PruneChannels, smallest_rate
from host_tools.compress.coupling import Coupling, silence
from host_tools.compress.step import Candidate
from host_tools.export.plain import export_plain
from host_tools.measure.latency import Ratio
from host_tools.measure.logits import graph_logits
from host_tools.measure.macs import macs, parameters


def test_tensors_of_every_layer_are_smaller_and_the_outputs_stay() -> None:
    given = nets.candidate("masked")
    result = PruneChannels(rate=0.5, rates={"hidden": 0.2}, tune=False).apply(given, nets.lab())
    net: Any = result.network
    assert net.stem.weight.shape == (4, 2, 1, 5)
    assert net.depthwise.weight.shape == (4, 1, 1, 3)
    assert net.depthwise.groups == 4
    assert net.pointwise.weight.shape == (4, 4, 1, 1)
    assert net.norm.running_var.shape == (4,)
    assert net.wide.weight.shape == (6, 4, 1, 3)
    assert net.hidden.weight.shape == (8, 12)
    assert net.out.weight.shape == (2, 8)
    assert given.network.stem.weight.shape == (8, 2, 1, 5)
    channels = nets.table(result, "channels")
    assert channels["pointwise"] == (8, 4)
    assert channels["out"] == (2, 2)
    # Counted by hand: 16 samples, then 7, then a head that reads 2 places.
    counted = 16 * (4 * 2 * 5 + 4 * 3 + 4 * 4) + 7 * 6 * 4 * 3 + 12 * 8 + 8 * 2
    assert nets.table(result, "size")["MACs"][1] == macs(net, nets.SHAPE) == counted
    assert nets.table(result, "size")["parameters"][0] == parameters(given.network)


@pytest.mark.parametrize("importance", ["l1", "l2", "batch-norm"])
def test_channels_that_contribute_nothing_are_the_ones_that_go(importance: str) -> None:
    network = nets.network("masked")
    coupling = Coupling(network, nets.SHAPE)
    for g in coupling.groups:
        silence(coupling.slices(g, range(0, g.channels, 2)))
    before = nets.says(network)
    step = build(PruneChannels, {"importance": importance, "tune": False}, "step", SettingsError)
    result = step.apply(Candidate(network=network), nets.lab())
    torch.testing.assert_close(nets.says(result.network), before, atol=1e-5, rtol=0)
    assert cast(Any, result.network).stem.out_channels == 4
    assert cast(Any, result.network).wide.out_channels == (12 if importance == "batch-norm" else 6)


@pytest.mark.parametrize("kind", nets.KINDS)
def test_every_kind_is_pruned_and_trained(kind: str) -> None:
    result = PruneChannels(rate=0.5).apply(nets.candidate(kind), nets.lab(epochs=1))
    assert parameters(result.network) < parameters(nets.network(kind))
    assert not result.network.training
    assert nets.says(result.network).shape == (6, 2)


def test_the_device_runs_the_smaller_network() -> None:
    result = PruneChannels(rate=0.5, tune=False).apply(nets.candidate("masked"), nets.lab())
    on_device = graph_logits(export_plain(result.network, nets.SHAPE), nets.signals().numpy())
    np.testing.assert_allclose(on_device, nets.says(result.network).numpy(), atol=1e-5)


def test_a_rate_that_empties_a_layer_is_refused_before_training() -> None:
    with pytest.raises(SettingsError, match=r"layer 'wide' has 12 channels; a rate of 0\.98 leaves none"):
        PruneChannels(rate=0.5, rates={"wide": 0.98}).apply(nets.candidate("masked"), cast(Any, Untrainable()))


def test_coupled_layers_cannot_have_two_rates() -> None:
    step = PruneChannels(rates={"stem": 0.5, "pointwise": 0.25}, tune=False)
    with pytest.raises(SettingsError, match=r"rates of .*stem.* differ"):
        step.apply(nets.candidate("masked"), nets.lab())


def test_batch_norm_importance_without_a_batch_norm_is_refused() -> None:
    with pytest.raises(SettingsError, match="no layer can lose channels by importance 'batch-norm'"):
        PruneChannels(importance="batch-norm", tune=False).apply(nets.candidate("recurrent"), nets.lab())


def test_channels_are_rounded_up_to_a_multiple() -> None:
    result = PruneChannels(rate=0.6, round_to=4, tune=False).apply(nets.candidate("masked"), nets.lab())
    net: Any = result.network
    assert (net.stem.out_channels, net.wide.out_channels, net.hidden.out_features) == (4, 8, 4)


def test_training_with_teachers_moves_towards_them() -> None:
    # The labels say nothing here (weight 1 leaves the teacher alone), and the teacher always says class 0.
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        teacher[1].weight.zero_()
        teacher[1].bias.copy_(torch.tensor([3.0, 0.0]))
    keys = {"teach": True, "distillation": {"weight": 1.0}, "fit": {"epochs": 20.0}}
    step = build(PruneChannels, keys, "step", SettingsError)
    result = step.apply(nets.candidate("dense"), nets.lab(teacher))
    odds = nets.says(result.network, torch.from_numpy(nets.lab().fold.train.inputs)).diff(dim=1)
    assert float(odds.mean()) == pytest.approx(-3.0, abs=0.5)


def test_teachers_that_are_not_there_are_missed_before_training() -> None:
    with pytest.raises(SettingsError, match="teach is true; the recipe has no teacher"):
        PruneChannels(teach=True).apply(nets.candidate("dense"), nets.lab())


def ratio_of(value: float) -> Ratio:
    return Ratio(value=value, low=value, high=value, n_rounds=1)


@pytest.mark.parametrize("wanted", [0.2, 0.5, 0.55, 0.9])
def test_the_smallest_rate_that_is_fast_enough_is_found(wanted: float) -> None:
    rates = tuple(i / 20 for i in range(1, 20))
    asked: list[float] = []

    def measure(rate: float) -> Ratio:
        asked.append(rate)
        return ratio_of(1.0 - rate)

    rate, tried = smallest_rate(wanted, rates, measure)
    assert rate == min(r for r in rates if 1.0 - r <= wanted)  # by looking at all
    assert [r for r, _ in tried] == asked
    assert tried[-1][0] == rate
    assert len(asked) <= 7


def test_a_rate_that_does_not_hold_when_measured_again_is_not_taken() -> None:
    rates = (0.25, 0.5, 0.75)
    lucky = iter([0.4])  # the first measurement of 0.5 was a lucky one
    rate, _ = smallest_rate(0.5, rates, lambda r: ratio_of(next(lucky, 0.6) if r == 0.5 else 1.0 - r))
    assert rate == 0.75


def test_a_latency_out_of_reach_is_refused_with_what_was_measured() -> None:
    with pytest.raises(SettingsError, match=r"to_latency is 0\.1 of the time; rate 0\.95 still takes 0\.80"):
        smallest_rate(0.1, (0.5, 0.95), lambda rate: ratio_of(0.8))


def test_the_network_found_is_as_fast_as_was_wanted() -> None:
    wide = nn.Sequential(
        nn.Conv1d(1, 128, 3), nn.ReLU(), nn.Conv1d(128, 128, 9), nn.Flatten(), nn.Linear(768, 2)
    ).eval()
    result = PruneChannels(to_latency=0.8, searched=(0.75,), tune=False).apply(Candidate(network=wide), nets.lab())
    assert cast(Any, result.network)[0].out_channels == 32
    (last,) = [t.rows[-1] for t in result.tables if t.title.startswith("latency")]
    assert last[1] <= 0.8
    assert last[2] <= last[1] <= last[3]
    x = torch.zeros(1, *nets.SHAPE)
    best = {"wide": math.inf, "pruned": math.inf}
    for _ in range(300):
        for name, model in (("wide", wide), ("pruned", result.network)):
            start = time.perf_counter()
            nets.says(model, x)
            best[name] = min(best[name], time.perf_counter() - start)
    assert best["pruned"] < best["wide"]  # torch's own kernels agree on which is faster


@pytest.mark.parametrize("keys", [{"rate": 1.5}, {"rates": {"a": -0.1}}, {"round_to": 0}, {"to_latency": 1.0}])
def test_shares_that_are_none_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="wanted"):
        build(PruneChannels, keys, "step", SettingsError)


class Untrainable:
    """A lab whose training must not be reached."""

    teachers = ()
    fold = nets.lab().fold
