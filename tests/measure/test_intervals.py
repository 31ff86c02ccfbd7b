"""The record bootstrap against analytic cases."""

from __future__ import annotations

import numpy as np
import pytest

from host_tools.measure.intervals import bootstrap, bootstrap_difference


def share(counts):
    """One figure from (hits, all)."""
    return {"share": counts[..., 0] / counts[..., 1]}


def test_the_interval_of_a_mean_is_the_normal_one():
    # With equal denominators the figure is a mean over records: its standard error is known.
    rng = np.random.default_rng(3)
    hits = rng.binomial(100, 0.8, size=400)
    counts = np.stack([hits, np.full(400, 100)], axis=1)
    found = bootstrap(counts, share, resamples=4000)["share"]
    error = hits.std() / 100 / np.sqrt(400)
    assert found.value == pytest.approx(hits.mean() / 100)
    assert found.low == pytest.approx(hits.mean() / 100 - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(hits.mean() / 100 + 1.96 * error, abs=0.1 * error)
    assert found.note == ""


def test_equal_records_have_an_interval_of_no_width():
    found = bootstrap(np.tile([9, 10], (20, 1)), share)["share"]
    assert (found.value, found.low, found.high) == (0.9, 0.9, 0.9)


def test_the_same_seed_gives_the_same_interval():
    counts = np.random.default_rng(0).integers(0, 50, size=(12, 6, 6))
    assert bootstrap(counts, seed=5) == bootstrap(counts, seed=5)
    assert bootstrap(counts, seed=5) != bootstrap(counts, seed=6)


def test_few_records_are_said_to_be_few():
    counts = np.array([[9, 10], [5, 10], [7, 10]])
    assert bootstrap(counts, share)["share"].note == "only 3 records: the interval is too narrow"
    one = bootstrap(counts[:1], share)["share"]
    assert (one.value, one.low, one.high, one.note) == (0.9, None, None, "one record: no interval")


def test_an_undefined_figure_is_none():
    found = bootstrap(np.zeros((12, 6, 6)))["s_se"]
    assert (found.value, found.low, found.high) == (None, None, None)


def test_what_both_sides_share_cancels_in_a_difference():
    rng = np.random.default_rng(1)
    all_beats = np.full(30, 100)
    hits = rng.integers(20, 90, size=30)
    before, after = np.stack([hits, all_beats], 1), np.stack([hits - 1, all_beats], 1)
    found = bootstrap_difference(after, before, share)["share"]
    assert found.low == pytest.approx(-0.01)
    assert found.high == pytest.approx(-0.01)


def test_a_difference_needs_the_same_records():
    with pytest.raises(ValueError, match="3 records against 2"):
        bootstrap_difference(np.ones((3, 2)), np.ones((2, 2)), share)
