"""The step `prune-weights`: which weights go, that they stay gone, and what it saves."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import prunable_nets as nets
import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.magnitude import PruneWeights, mask_of_largest, otsu_threshold, prunable_weights
from host_tools.export.plain import export_plain


def step(**keys: object) -> PruneWeights:
    return build(PruneWeights, keys, "step", SettingsError)


def zeros(network: nn.Module) -> dict[str, int]:
    return {name: int((w == 0).sum()) for name, w in prunable_weights(network).items()}


def test_weights_are_found_by_the_names_of_their_layers() -> None:
    assert set(prunable_weights(nets.network("recurrent"))) == {
        "conv", "gru.weight_ih_l0", "gru.weight_hh_l0", "hidden", "out",
    }  # fmt: skip
    assert set(prunable_weights(nets.network("dense"))) == {"2", "4", "6"}  # not the batch norm


def test_each_layer_loses_its_own_share() -> None:
    network = nets.network("dense")
    masks = step(rate=0.25, rates={"4": 0.5}).masks(network)
    assert {name: int((~m).sum()) for name, m in masks.items()} == {"2": 48, "4": 54, "6": 4}  # of 192, 108 and 18
    for name, weight in prunable_weights(network).items():
        size = weight.detach().abs()
        assert size[~masks[name]].max() <= size[masks[name]].min()


def test_one_threshold_for_all_is_the_quantile_of_all() -> None:
    network = nets.network("masked")
    masks = step(by="global", rate=0.25).masks(network)
    weights = {name: w.detach().abs().numpy() for name, w in prunable_weights(network).items()}
    everything = np.concatenate([w.ravel() for w in weights.values()])
    threshold = np.quantile(everything, 0.25, method="inverted_cdf")
    for name, weight in weights.items():
        assert np.array_equal(masks[name].numpy(), weight > threshold)


def test_a_deviation_threshold_is_that_of_han() -> None:
    network = nets.network("dense")
    masks = step(by="histogram", rule="deviation", quality=0.8).masks(network)
    for name, weight in prunable_weights(network).items():
        w = weight.detach().numpy()
        assert np.array_equal(masks[name].numpy(), np.abs(w) > 0.8 * np.std(w))


@pytest.mark.parametrize("seed", range(4))
def test_otsus_threshold_is_the_best_split_into_two_groups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.abs(np.concatenate([rng.normal(0, 0.1, 40), rng.normal(1.5, 0.2, 15), np.zeros(5)]))
    # By trying every value: Otsu's criterion is the smallest variance within the two groups.
    within = {t: x[x <= t].var() * (x <= t).sum() + x[x > t].var() * (x > t).sum() for t in sorted(set(x))[:-1]}
    assert otsu_threshold(x) == min(within, key=lambda t: within[t])
    assert 0.2 < otsu_threshold(x) < 1.0  # the valley


def test_equal_weights_have_no_valley() -> None:
    assert otsu_threshold(np.full(9, 0.3)) == 0.0


def test_ties_lose_no_more_than_the_share() -> None:
    assert mask_of_largest(torch.ones(2, 4), 0.25).sum() == 6


def test_what_is_gone_stays_gone_in_training_and_in_the_file() -> None:
    lab, given = nets.lab(epochs=3), nets.candidate("dense")
    masks = step(rate=0.75).masks(given.network)
    result = step(rate=0.75).apply(given, lab)
    after = prunable_weights(result.network)
    before = prunable_weights(given.network)
    for name, mask in masks.items():
        assert not after[name][~mask].any()
        assert not torch.equal(after[name][mask], before[name][mask])  # it did learn
    assert all(n == 0 for n in zeros(given.network).values())
    sparsity = nets.table(result, "sparsity")
    assert sparsity["2"] == (192, 144, 0.75)
    assert sparsity["all"][1] == sum(zeros(result.network).values())
    content = export_plain(result.network, nets.SHAPE).SerializeToString()
    sizes = nets.table(result, "bytes")
    assert sizes["ONNX file, bytes"][1] == len(content)
    assert sizes["compressed (zlib 9), bytes"][1] == len(zlib.compress(content, 9))
    # A quarter of the weights' bytes are left; names and operators of this small file do not shrink.
    saved = sizes["compressed (zlib 9), bytes"][0] - sizes["compressed (zlib 9), bytes"][1]
    assert saved > 0.5 * 4 * sum(w.numel() for w in after.values())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rate": 1.0}, "rate is 1; 0 or more and less than 1 wanted"),
        ({"by": "global", "rates": {"2": 0.5}}, "rates are given by layer; by is 'global'"),
        ({"quality": 0.0}, "quality is 0; more than 0 wanted"),
        ({"by": "valley"}, "'layer', 'global', 'histogram' wanted"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        step(**keys)


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(SettingsError, match="no layer 'five'; layers are 2, 4, 6"):
        step(rates={"five": 0.5}).masks(nets.network("dense"))


def test_a_layer_without_any_weight_left_is_refused() -> None:
    network: Any = nets.network("dense")
    network[4].weight.data *= 1e-3
    with pytest.raises(SettingsError, match="layer '4' would have no weight left"):
        step(by="global", rate=0.5).masks(network)
