"""Missing values inside the network: what a NaN does is what a hand-made fill and mask do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.data.challenge2012 import CHANNELS, HOURS, SERIES, SKEWED
from host_tools.export.plain import export_plain
from host_tools.measure.logits import graph_logits, network_logits
from host_tools.nets.missing import MaskedStandard, TabularInput, hide, observed_and_values
from host_tools.nets.stays import StayInput, Summaries, SummaryNet

VARIANTS = ("mean", "learned", "mean+mask", "drop-mask")
CODES = {1: (1, 2, 3), 3: (0, 1)}


def table(n: int = 40, seed: int = 0) -> np.ndarray:
    """Two numbers and two codes, a third missing."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.normal(50, 9, n), rng.integers(1, 4, n), rng.normal(-3, 0.1, n), rng.integers(0, 2, n)], 1)
    x[rng.random(x.shape) < 0.3] = np.nan
    return x.astype(np.float32)


def stays(n: int = 6, seed: int = 0) -> np.ndarray:
    """Hourly values, four of five missing, some channels all missing."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(2.0, 20.0, (n, len(CHANNELS), HOURS)).astype(np.float32)
    x[rng.random(x.shape) < 0.8] = np.nan
    x[rng.random(x.shape[:2]) < 0.2] = np.nan
    x[:, len(SERIES) :] = x[:, len(SERIES) :, :1]
    x[:, -1] = rng.integers(1, 5, n)[:, None]
    return x


def seen_once(network: nn.Module, *batches: np.ndarray) -> nn.Module:
    network.train()
    for x in batches:
        network(torch.from_numpy(x))
    return network.eval()


def test_statistics_over_batches_are_those_of_all_observed_values_at_once():
    rng = np.random.default_rng(1)
    x = rng.normal(7.4, 0.07, (60, 3, 5)).astype(np.float32)
    x[rng.random(x.shape) < 0.5] = np.nan
    x[:20, 2] = np.nan  # a feature that the first batch does not have
    layer = MaskedStandard(3)
    for part in (x[:20], x[20:25], x[25:]):
        observed, values = observed_and_values(torch.from_numpy(part))
        layer(values, observed)
    np.testing.assert_allclose(layer.mean, np.nanmean(x.astype(np.float64), (0, 2)), rtol=1e-6)
    np.testing.assert_allclose(layer.variance, np.nanvar(x.astype(np.float64), (0, 2)), rtol=1e-3)
    assert layer.count.tolist() == np.isfinite(x).sum((0, 2)).tolist()


def test_standardized_values_are_clamped_zero_where_missing_and_leave_the_statistics_alone_in_eval_mode():
    layer = MaskedStandard(1, limit=2.0).eval()
    layer.mean.fill_(10.0)
    layer.variance.fill_(4.0)
    observed, values = observed_and_values(torch.tensor([[12.0], [float("nan")], [99.0]]))
    assert layer(values, observed)[:, 0].tolist() == pytest.approx([1.0, 0.0, 2.0], abs=1e-6)
    assert layer.count.tolist() == [0.0]


@pytest.mark.parametrize("missing", VARIANTS)
def test_a_missing_cell_is_what_a_filled_one_with_a_mask_beside_it_would_be(missing):
    layer = seen_once(TabularInput(4, CODES, missing), table())
    x = table(9, seed=2)
    fill = torch.zeros(layer.standard.mean.shape)
    if missing == "learned":
        fill = torch.linspace(-1, 1, len(fill))
        layer.fill.data.copy_(fill)
    with torch.no_grad():
        found = layer(torch.from_numpy(x)).numpy()
    # by hand: numbers 0 and 2, then one column per code
    spread = [x[:, 0], x[:, 2]]
    spread += [np.where(np.isnan(x[:, c]), np.nan, x[:, c] == code) for c, of in CODES.items() for code in of]
    values = np.stack(spread, 1)
    mean, variance = layer.standard.mean.numpy(), layer.standard.variance.numpy()
    z = np.clip((values - mean) / np.sqrt(variance + 1e-6), -5, 5)
    wanted = np.where(np.isnan(z), fill.numpy(), z)
    if missing in ("mean+mask", "drop-mask"):
        wanted = np.concatenate([wanted, np.isnan(x)], 1)
    assert found.shape[1] == layer.n_features
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_without_a_mask_a_missing_number_is_the_mean_itself():
    layer = seen_once(TabularInput(4, CODES, "mean"), table())
    x = torch.from_numpy(table(1, seed=3)).clone()
    x[0, 0] = float("nan")
    filled = x.clone()
    filled[0, 0] = layer.standard.mean[0]
    torch.testing.assert_close(layer(x), layer(filled))


def test_summaries_are_those_of_numpy_over_what_was_observed():
    x = stays()
    first = seen_once(StayInput(), stays(seed=4))
    summaries = Summaries(((0, HOURS), (36, HOURS)), "mean+mask")
    with torch.no_grad():
        z, observed = first(torch.from_numpy(x))
        found = summaries(torch.from_numpy(x), z, observed).numpy()
    raw = x.astype(np.float64)[:, :-1]
    raw[:, : len(SKEWED)] = np.log1p(raw[:, : len(SKEWED)])
    mean, variance = first.standard.mean.numpy()[:, None], first.standard.variance.numpy()[:, None]
    values = np.clip((raw - mean) / np.sqrt(variance + 1e-6), -5, 5)
    rows = []
    for stay, unit in zip(values, x[:, -1, 0], strict=True):
        row = [*(unit == np.arange(1, 5)), *np.nan_to_num(stay[len(SERIES) :, 0]), *np.isnan(stay[len(SERIES) :, 0])]
        row += [(s[np.isfinite(s)].tolist() or [0.0])[-1] for s in stay[: len(SERIES)]]
        for start in (0, 36):
            have = [s[start:][np.isfinite(s[start:])] for s in stay[: len(SERIES)]]
            row += [s.mean() if len(s) else 0.0 for s in have] + [s.min() if len(s) else 0.0 for s in have]
            row += [s.max() if len(s) else 0.0 for s in have] + [2 * len(s) / (HOURS - start) - 1 for s in have]
        rows.append(row)
    assert found.shape == (len(x), summaries.n_features)
    np.testing.assert_allclose(found, np.array(rows, np.float64), atol=1e-5)


def test_the_graph_says_what_the_network_says_and_only_two_nodes_see_the_input_before_nan_is_gone():
    first = TabularInput(4, CODES, "mean+mask")
    tabular = seen_once(nn.Sequential(first, nn.Linear(first.n_features, 2)), table())
    graph = export_plain(tabular, (4,))
    assert sorted(n.op_type for n in graph.graph.node if "x" in n.input) == ["IsNaN", "Where"]
    for x in (table(7, seed=5), np.nan_to_num(table(1), nan=1.0), np.full((3, 4), np.nan, np.float32)):
        wanted = network_logits(tabular, x)
        assert np.isfinite(wanted).all()
        np.testing.assert_allclose(graph_logits(graph, x), wanted, atol=1e-4)


def test_the_graph_of_stays_agrees_for_any_number_of_stays():
    network = SummaryNet(missing="learned", hidden=(3,))
    network.summaries.fill.data.copy_(torch.linspace(-1, 1, len(SERIES)))
    seen_once(network, stays())
    graph = export_plain(network, (len(CHANNELS), HOURS))
    nothing = np.full((1, len(CHANNELS), HOURS), np.nan, np.float32)
    for x in (stays(5, seed=6), stays(1, seed=7), nothing):
        wanted = network_logits(network, x)
        assert np.isfinite(wanted).all()
        np.testing.assert_allclose(graph_logits(graph, x), wanted, atol=1e-4)


def test_hiding_takes_the_share_it_was_told_and_the_same_cells_for_the_same_seed():
    x = torch.zeros(200, 50)
    hidden = [torch.isnan(hide(x, 0.1, torch.Generator().manual_seed(s))) for s in (0, 0, 1)]
    # binomial, n = 10,000, p = 0.1: standard deviation 30
    assert abs(int(hidden[0].sum()) - 1000) < 150
    assert torch.equal(hidden[0], hidden[1])
    assert not torch.equal(hidden[0], hidden[2])
    assert not torch.isnan(x).any()


def test_another_word_for_missing_is_refused():
    with pytest.raises(SettingsError, match=r"missing is 'zero'; one of mean, learned, mean\+mask, drop-mask wanted"):
        TabularInput(4, {}, "zero")  # type: ignore[arg-type]
