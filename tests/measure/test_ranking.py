"""Ranking and calibration figures against scikit-learn, brute force and a hand-made table."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from host_tools.measure.ranking import (
    at_threshold,
    auprc,
    auroc,
    binary_figures,
    brier,
    calibration_error,
    choose_threshold,
    min_se_ppv,
    positive_probability,
    reliability,
)


def scored(seed: int, decimals: int = 2, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties, and labels that lean on them."""
    rng = np.random.default_rng(seed)
    p = rng.random(n).round(decimals)
    return p, (rng.random(n) < 0.1 + 0.5 * p).astype(np.int64)


@pytest.mark.parametrize("decimals", [1, 2, 12])
@pytest.mark.parametrize("seed", range(4))
def test_ranking_figures_are_those_of_scikit_learn_with_and_without_ties(seed, decimals):
    p, y = scored(seed, decimals)
    assert auroc(p, y) == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-12)
    assert auprc(p, y) == pytest.approx(metrics.average_precision_score(y, p), abs=1e-12)
    assert brier(p, y) == pytest.approx(metrics.brier_score_loss(y, p), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_min_se_ppv_is_the_best_of_every_threshold_tried_one_by_one(seed):
    p, y = scored(seed, 2, 60)
    tried = [
        min(metrics.recall_score(y, p >= t), metrics.precision_score(y, p >= t, zero_division=0.0))
        for t in np.unique(p)
    ]
    assert min_se_ppv(p, y) == pytest.approx(max(tried), abs=1e-12)


def test_reliability_bins_are_those_of_scikit_learn():
    p, y = scored(5, 12)
    happened, said = calibration_curve(y, p, n_bins=10)
    rows = reliability(p, y)
    assert [r.happened for r in rows] == pytest.approx(happened)
    assert [r.said for r in rows] == pytest.approx(said)
    assert sum(r.n for r in rows) == len(p)


def test_calibration_error_of_a_table_made_by_hand():
    # Bin 0-0.1: 4 of 0.05, 1 happened: 0.2 off. Bin 0.9-1 holds 1 itself: 0.975 said, 1 of 2 happened: 0.475 off.
    p, y = np.array([0.05, 0.05, 0.05, 0.05, 0.95, 1.0]), np.array([0, 1, 0, 0, 1, 0])
    assert calibration_error(p, y) == pytest.approx((4 * 0.2 + 2 * 0.475) / 6)


def test_probabilities_are_the_softmax_and_keep_the_order_of_large_logits():
    logits = np.random.default_rng(0).normal(0, 3, (50, 2)).astype(np.float32)
    e = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(positive_probability(logits), e[:, 1] / e.sum(1), atol=1e-12)
    assert np.isfinite(positive_probability(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32))).all()
    with pytest.raises(ValueError, match=r"\(n, 2\) wanted"):
        positive_probability(np.zeros((4, 3), np.float32))


def test_the_chosen_threshold_has_the_largest_youden_index_of_scikit_learns_curve():
    p, y = scored(6)
    fpr, tpr, cut = metrics.roc_curve(y, p, drop_intermediate=False)
    assert choose_threshold(p, y) == pytest.approx(cut[np.argmax(tpr - fpr)])


@pytest.mark.parametrize("wanted", [0.05, 0.5, 0.9, 1.0])
def test_a_wanted_sensitivity_is_reached_and_a_larger_threshold_would_not_reach_it(wanted):
    p, y = scored(7)
    t = choose_threshold(p, y, wanted)
    assert metrics.recall_score(y, p >= t) >= wanted
    above = p[p > t]
    assert not len(above) or metrics.recall_score(y, p >= above.min()) < wanted


def test_figures_at_a_threshold_are_those_of_scikit_learn():
    p, y = scored(8)
    found = at_threshold(p, y, 0.4)
    assert found["sensitivity"] == pytest.approx(metrics.recall_score(y, p >= 0.4))
    assert found["specificity"] == pytest.approx(metrics.recall_score(y, p >= 0.4, pos_label=0))
    assert found["predictivity"] == pytest.approx(metrics.precision_score(y, p >= 0.4))
    assert found["min_se_ppv"] == min(found["sensitivity"], found["predictivity"])


def test_one_class_alone_determines_no_ranking():
    p, y = np.array([0.2, 0.7]), np.array([1, 1])
    figures = binary_figures(p, y, ("no", "yes"))
    assert all(np.isnan(figures[k]) for k in ("auroc", "auprc", "min_se_ppv", "sensitivity_no"))
    assert figures["sensitivity_yes"] == 0.5
    with pytest.raises(ValueError, match="positives and negatives"):
        choose_threshold(p, y)
