"""Intervals of a study against scipy, closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from host_tools.study.statistics import paired, pooled
from host_tools.tasks.task import Examples

DIFFERENCES = [1.2, 0.4, 2.0, -0.3, 1.1]


def test_without_overlap_the_interval_is_students() -> None:
    found = paired(DIFFERENCES, 0.0)
    wanted = stats.ttest_1samp(DIFFERENCES, 0.0).confidence_interval(0.95)
    assert found.value == pytest.approx(np.mean(DIFFERENCES))
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_overlapping_folds_widen_the_interval_by_the_factor_of_the_paper() -> None:
    plain, corrected = paired(DIFFERENCES, 0.0), paired(DIFFERENCES, 0.25)
    assert plain.low is not None
    assert corrected.low is not None
    assert plain.value is not None
    # Nadeau and Bengio: (1/n + test/train) instead of 1/n under the root.
    factor = math.sqrt((1 / 5 + 0.25) / (1 / 5))
    assert (plain.value - corrected.low) / (plain.value - plain.low) == pytest.approx(factor)


def test_one_cell_has_no_interval() -> None:
    assert paired([1.0], 0.0).low is None
    assert paired([], 0.0).value is None


def examples(n_groups: int, each: int) -> Examples:
    n = n_groups * each
    return Examples(
        inputs=np.zeros((n, 0), np.float32),
        labels=np.zeros(n, np.int64),
        groups=np.repeat(np.arange(n_groups), each).astype(str),
    )


def mean(logits: np.ndarray, of: Examples) -> dict[str, float]:
    return {"mean": float(logits[:, 0].mean())}


def test_resampling_draws_groups_and_not_examples() -> None:
    """All examples of a group agree, so the interval is that of the groups' mean: 1.96 sd / sqrt(groups)."""
    values = np.random.default_rng(0).standard_normal(60)
    logits = np.repeat(values, 50)[:, None]
    found = pooled(mean, [(logits, examples(60, 50))], resamples=2000)["mean"]
    assert found.value == pytest.approx(values.mean())
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(60), rel=0.1)
    assert found.n == 60


def test_several_seeds_are_averaged_on_the_same_resamples() -> None:
    logits = np.arange(12.0)[:, None]
    both = pooled(mean, [(logits, examples(6, 2)), (-logits, examples(6, 2))])["mean"]
    assert (both.value, both.low, both.high) == pytest.approx((0.0, 0.0, 0.0))


def test_runs_may_hold_the_same_groups_in_another_order() -> None:
    """The same examples shuffled are the same run: the interval must be that of one run."""
    values = np.random.default_rng(1).standard_normal(40)
    plain = examples(20, 2)
    order = np.random.default_rng(2).permutation(40)
    one = pooled(mean, [(values[:, None], plain)])["mean"]
    both = pooled(mean, [(values[:, None], plain), (values[order][:, None], plain.take(order))])["mean"]
    assert (both.value, both.low, both.high) == pytest.approx((one.value, one.low, one.high))


def test_a_figure_that_is_no_number_is_none() -> None:
    found = pooled(lambda logits, of: {"x": math.nan}, [(np.zeros((4, 1)), examples(2, 2))])["x"]
    assert (found.value, found.low) == (None, None)
