"""Agreement of rates against closed forms, and the classical estimate against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import signal, stats

from host_tools.measure.rates import agreement, refusals, threshold_for
from host_tools.measure.spectral_peak import spectral_peak


def test_errors_are_those_of_a_small_table() -> None:
    true = np.array([10.0, 12.0, 20.0, 20.0])
    said = np.array([11.0, 11.0, 23.0, 20.0])
    found = agreement(said, true, np.array(["a", "a", "a", "b"]))
    assert found.mae.value == pytest.approx(5 / 4)
    assert found.bias.value == pytest.approx(3 / 4)
    assert found.rmse.value == pytest.approx(math.sqrt(11 / 4))
    assert found.mae_by_subject == pytest.approx((5 / 6, 5 / 6))  # 5/3 and 0
    assert (found.n_windows, found.mae.n_records) == (4, 2)


def test_the_interval_resamples_subjects_not_windows() -> None:
    # Two subjects of opposite quality: a resample has none, one or two of the bad one, so the interval is all of it.
    subjects = np.repeat(["a", "b"], 500)
    found = agreement(np.repeat([1.0, 3.0], 500), np.zeros(1000), subjects)
    assert (found.mae.low, found.mae.high) == (1.0, 3.0)


def test_limits_of_agreement_add_variance_within_and_between_subjects() -> None:
    # Bland and Altman 2007: with m differences of each subject, between = (MS_between - MS_within) / m.
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1.0, (12, 7)) + rng.normal(0, 2.0, (12, 1))
    within = rows.var(axis=1, ddof=1).mean()
    f = stats.f_oneway(*rows).statistic
    sd = math.sqrt(within + (f * within - within) / 7)
    found = agreement(rows.ravel(), np.zeros(84), np.repeat(np.arange(12), 7).astype(str))
    assert found.limits == pytest.approx((rows.mean() - 1.96 * sd, rows.mean() + 1.96 * sd))


def test_unequal_subjects_give_the_published_divisor() -> None:
    # The example's form with sizes 2 and 4: (36 - 20) / (1 * 6) = 8/3.
    a, b = np.array([0.0, 2.0]), np.array([4.0, 5.0, 6.0, 5.0])
    within = (2.0 + 2.0) / (6 - 2)
    whole = (2.0 + 20.0) / 6
    across = 2 * (1.0 - whole) ** 2 + 4 * (5.0 - whole) ** 2
    sd = math.sqrt(within + (across - within) / (8 / 3))
    found = agreement(np.concatenate([a, b]), np.zeros(6), np.array(list("aabbbb")))
    assert found.limits[1] == pytest.approx(whole + 1.96 * sd)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="2 estimates, 3 references, 2 subjects"):
        agreement(np.zeros(2), np.zeros(3), np.array(["a", "b"]))


def test_refusing_doubtful_windows_trades_coverage_for_error() -> None:
    said, confidence = np.array([1.0, 2.0, 3.0, 10.0]), np.array([0.9, 0.8, 0.8, 0.1])
    found = refusals(said, np.zeros(4), confidence, [0.0, 0.8, 0.85, 1.0])
    assert [(r.coverage, r.mae) for r in found[:3]] == [(1.0, 4.0), (0.75, 2.0), (0.25, 1.0)]
    assert found[3].coverage == 0.0
    assert math.isnan(found[3].mae)


@pytest.mark.parametrize(("coverage", "wanted"), [(1.0, 0.1), (0.8, 0.2), (0.79, 0.2), (0.2, 0.5), (0.01, 0.5)])
def test_a_threshold_keeps_at_least_the_coverage_asked_for(coverage: float, wanted: float) -> None:
    confidence = np.array([0.3, 0.1, 0.5, 0.2, 0.4])
    assert threshold_for(confidence, coverage) == wanted
    assert np.mean(confidence >= wanted) >= coverage


def test_a_coverage_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="coverage is 0 of 3 windows"):
        threshold_for(np.ones(3), 0.0)


def test_the_spectral_peak_is_that_of_scipy_s_periodogram() -> None:
    rng = np.random.default_rng(1)
    t = np.arange(1600) / 25.0
    # A strong slow wave outside the band, which leaks into it without a taper.
    x = (
        0.5 * rng.standard_normal((5, 1, 1600))
        + np.sin(2 * np.pi * 20.0 / 60 * t)
        + 8 * np.sin(2 * np.pi * 2.0 / 60 * t)
    )
    x = x.astype(np.float32)
    found = spectral_peak(x, 25.0, 6.0, 40.0)
    for row, rate in zip(x[:, 0].astype(np.float64), found, strict=True):
        tapered = signal.detrend(row) * signal.windows.hann(1600)
        f, power = signal.periodogram(tapered, 25.0, nfft=15000, detrend=False)
        inside = (f * 60 >= 6.0 - 1e-9) & (f * 60 <= 40.0 + 1e-9)
        assert rate == pytest.approx(60 * f[inside][power[inside].argmax()])


def test_the_spectral_peak_of_a_sine_on_a_slope_is_its_rate() -> None:
    t = np.arange(800) / 25.0
    wave = (3.0 * t + np.sin(2 * np.pi * 17.3 / 60 * t))[None, None].astype(np.float32)
    assert spectral_peak(wave, 25.0, 4.0, 40.0)[0] == pytest.approx(17.3, abs=0.1)
