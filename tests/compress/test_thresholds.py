"""Ranges against brute force, and what a rounding to them costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from host_tools.compress.thresholds import (
    BINS,
    Histogram,
    count,
    histogram,
    kl_divergence,
    kl_threshold,
    mse_range,
    percentile_range,
    scale_for,
    scale_of,
)


def laplace(n: int = 20000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(size=n).astype(np.float32)


def entropy_by_hand(bins: list[int], end: int, levels: int) -> float:
    """KL(P || Q) by loops, from the description in Migacz's slides; groups as numpy.array_split's bounds by floor."""
    p = [float(b) for b in bins[:end]]
    p[-1] += sum(bins[end:])
    bounds = [i * end // levels for i in range(levels)] + [end]
    q = [0.0] * end
    for a, b in itertools.pairwise(bounds):
        held = [i for i in range(a, b) if bins[i]]
        for i in held:
            q[i] = sum(bins[a:b]) / len(held)
    total_p, total_q = sum(p), sum(q)
    if not total_q:
        return float("inf")
    p, q = [x / total_p for x in p], [x / total_q for x in q]
    if any(a and not b for a, b in zip(p, q, strict=True)):
        q = [max(x, 1e-9) for x in q]
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a)


@pytest.mark.parametrize("seed", range(5))
def test_the_kl_threshold_is_that_of_an_exhaustive_search(seed):
    rng = np.random.default_rng(seed)
    bins = np.sort(rng.integers(0, 400, 32))[::-1] + 30 * rng.integers(0, 2, 32)
    bins[rng.integers(8, 32, 4)] = 0
    every = {end: entropy_by_hand(bins.tolist(), end, 4) for end in range(4, 33)}
    assert kl_divergence(bins, 17, 4) == pytest.approx(every[17])
    assert kl_threshold(bins, 4) == min(every, key=lambda end: (round(every[end], 11), end)) / 32


def test_kl_cuts_off_far_outliers_and_minmax_does_not():
    x = np.append(np.random.default_rng(0).standard_normal(200_000), 60.0).astype(np.float32)
    seen = histogram(x)
    assert scale_for(seen, "kl").scale < 0.3 * scale_for(seen, "minmax").scale


def test_kl_of_too_few_values_keeps_them_all():
    # 500 values around 5 in 2048 bins: hardly any two share a bin, so nothing is merged and every cut looks lossless;
    # the smallest would lie at 0.14 of the range, below nearly all values.
    x = 5 + np.random.default_rng(0).standard_normal(500)
    assert kl_threshold(histogram(x.astype(np.float32)).magnitudes(), 256) == 1.0


@pytest.mark.parametrize("percentile", [99.0, 99.9, 90.0])
def test_a_percentile_is_numpys_to_the_width_of_a_bin(percentile):
    x = laplace()
    x[:5000] = 0.0
    low, high = percentile_range(histogram(x), percentile)
    width = float(np.abs(x).max()) / BINS
    # Between the two values around the rank, to the width of a bin.
    outer = (
        np.percentile(x, [100 - percentile, percentile], method="lower"),
        np.percentile(x, [100 - percentile, percentile], method="higher"),
    )
    assert outer[0][0] - 1.5 * width <= low <= outer[1][0] + 1.5 * width
    assert outer[0][1] - 1.5 * width <= high <= outer[1][1] + 1.5 * width


@pytest.mark.parametrize("positive", [False, True])
def test_the_mse_range_is_as_good_as_a_grid_over_the_values_themselves(positive):
    x = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    x = np.abs(x) if positive else x
    x[0] = 40.0

    def error(shrink: float) -> float:
        scale = scale_of(float(x.min()) * shrink, float(x.max()) * shrink)
        return float(((scale.dequantize(scale.quantize(x)) - x) ** 2).mean())

    low, high = mse_range(histogram(x))
    chosen = scale_of(low, high)
    found = float(((chosen.dequantize(chosen.quantize(x)) - x) ** 2).mean())
    best = min(error(s) for s in np.linspace(0.2, 1.0, 41))
    assert found < 1.02 * best
    assert found < 0.9 * error(1.0)


def test_minmax_reaches_from_the_least_to_the_largest_value():
    seen = histogram(np.array([-1.0, 0.0, 4.1], np.float32))
    scale = scale_for(seen, "minmax")
    assert scale.scale == pytest.approx(5.1 / 255)
    assert scale.zero_point == 50  # 1.0 / 0.02


def test_truncation_is_symmetric_and_wastes_half_the_integers_of_a_positive_tensor():
    assert scale_for(histogram(np.array([-2.54, 1.0], np.float32)), "truncation").zero_point == 128
    scale = scale_for(histogram(np.array([0.0, 2.54], np.float32)), "truncation")
    assert (scale.zero_point, scale.scale) == (0, pytest.approx(0.02))


@pytest.mark.parametrize("how", ["minmax", "percentile", "kl", "mse", "truncation"])
def test_a_tensor_without_negative_values_has_zero_point_0_and_ends_at_its_clip(how):
    seen = histogram(np.linspace(0, 6, 5000, dtype=np.float32))
    scale = scale_for(seen, how, limit=6.0)
    assert scale.zero_point == 0
    assert how == "truncation" or np.float32(scale.scale) * np.float32(255) <= 6.0


def test_a_dead_tensor_has_a_scale():
    assert scale_for(histogram(np.zeros(10, np.float32)), "kl").scale > 0


def test_histograms_of_parts_add_up_to_that_of_the_whole():
    x = laplace(999)
    x[::7] = 0
    whole = histogram(x)
    parts = [count(p, whole.low, whole.high) for p in np.array_split(x, 4)]
    assert sum(p[1] for p in parts) == whole.zeros == 143
    np.testing.assert_array_equal(sum(p[0] for p in parts), whole.counts)
    assert isinstance(whole, Histogram)
    assert whole.counts.sum() + whole.zeros == 999
