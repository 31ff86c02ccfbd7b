"""The step `prune-gradual`: its schedule, and that what was masked can be removed unnoticed."""

from __future__ import annotations

from typing import Any

import prunable_nets as nets
import pytest
import torch

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.coupling import Coupling
from host_tools.compress.gradual import PruneGradual, _Channels, cubic_sparsity
from host_tools.compress.magnitude import prunable_weights
from host_tools.compress.taught import Taught


def step(**keys: object) -> PruneGradual:
    return build(PruneGradual, keys, "step", SettingsError)


def test_sparsity_follows_zhu_and_gupta() -> None:
    # Equation 1 as printed: s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, from step 100, n = 6 times dt = 50.
    s_i, s_f, t_0, n, dt, total = 0.0, 0.8, 100, 6, 50, 500
    for t in range(t_0, t_0 + n * dt + 1, dt):
        printed = s_f + (s_i - s_f) * (1 - (t - t_0) / (n * dt)) ** 3
        assert cubic_sparsity(t / total, s_f, t_0 / total, (t_0 + n * dt) / total) == pytest.approx(printed)
    assert cubic_sparsity(0.1, s_f, 0.2, 0.8) == 0.0
    assert cubic_sparsity(0.9, s_f, 0.2, 0.8) == s_f


def test_channels_are_gone_in_the_end_and_the_rest_has_learnt() -> None:
    given = nets.candidate("masked")
    result = step(rate=0.5, every=2).apply(given, nets.lab(epochs=20))
    net: Any = result.network
    assert (net.stem.out_channels, net.pointwise.out_channels, net.wide.out_channels) == (4, 4, 6)
    assert net.hidden.weight.shape == (5, 12)
    assert nets.lab().validate(result)["accuracy"] > 0.9
    curve = nets.table(result, "schedule")
    values = [row[0] for row in curve.values()]
    assert values == sorted(values)
    assert values[-1] == 0.5
    assert len(given.network.stem.weight) == 8


def test_masked_channels_are_removed_unnoticed() -> None:
    # The same training by hand, looked at before and after the removal.
    lab = nets.lab(epochs=3)
    network = nets.network("masked")
    channels = _Channels(coupling=Coupling(network, nets.SHAPE), importance="l2")
    settings = step(rate=0.5, every=3)
    Taught().train_again(network, lab, settings._pruning(network, channels))
    x = nets.signals()
    whole = nets.says(network, x)
    result = step(rate=0.5, every=3).apply(nets.candidate("masked"), lab)
    torch.testing.assert_close(nets.says(result.network, x), whole, atol=1e-5, rtol=0)
    assert {name: len(gone) for name, gone in channels.gone.items()} == {"stem": 4, "wide": 6, "hidden": 5}


def test_weights_stay_zero_where_channels_are_not_asked_for() -> None:
    result = step(kind="weights", rate=0.75, every=4).apply(nets.candidate("dense"), nets.lab(epochs=20))
    for weight in prunable_weights(result.network).values():
        assert int((weight == 0).sum()) == round(0.75 * weight.numel())
    assert nets.lab().validate(result)["accuracy"] > 0.9
    assert nets.table(result, "sparsity")["2"] == (192, 144, 0.75)


def test_a_rate_that_empties_a_layer_is_refused_before_training() -> None:
    with pytest.raises(SettingsError, match=r"layer '2' has 12 channels; a rate of 0\.97 leaves none"):
        step(rate=0.97).apply(nets.candidate("dense"), nets.lab(epochs=1000))


def test_a_rate_that_leaves_a_layer_no_weight_is_refused_before_training() -> None:
    # Layer 6 has 2 x 9 weights, of which 0.99 are 17.8; the others are larger and would keep some.
    with pytest.raises(SettingsError, match=r"layer '6' has 18 weights; a rate of 0\.99 leaves none"):
        step(kind="weights", rate=0.99).apply(nets.candidate("dense"), nets.lab(epochs=1000))


@pytest.mark.parametrize("keys", [{"rate": 1.0}, {"begin": 0.8, "until": 0.5}, {"until": 1.1}, {"every": 0}])
def test_a_schedule_that_cannot_be_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="wanted"):
        step(**keys)
