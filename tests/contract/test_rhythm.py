"""The rhythm context and the running template against small re-implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_runtime.contract.rhythm import N_FEATURES, RhythmContext
from host_tools.data.examples import rhythm_features
from host_tools.nets.beats import TEMPLATE_RATE, running_mean

LOOK_AHEAD_S = 0.32


def reference(beat_s: np.ndarray) -> np.ndarray:
    """The docstring's features with all RR intervals of a record at hand.

    The k-th interval enters a mean with weight max(rate, 1/k); irregularity is the mean, at the fast rate, of
    |RR - previous RR| / fast mean, at most 1, from the second interval on.
    """
    rr = np.clip(np.diff(beat_s), 0.15, 3.0)
    fast, slow, irregular = [0.8], [0.8], [0.0, 0.0]
    for k, x in enumerate(rr, start=1):
        if k > 1:
            change = min(abs(x - rr[k - 2]) / fast[-1], 1.0)
            irregular.append(irregular[-1] + max(1 / 8, 1 / k) * (change - irregular[-1]))
        fast.append(fast[-1] + max(1 / 8, 1 / k) * (x - fast[-1]))
        slow.append(slow[-1] + max(1 / 64, 1 / k) * (x - slow[-1]))
    rows = np.zeros((len(beat_s), 8))
    for i in range(len(beat_s)):
        # Means before this beat's own interval; the first beat has no interval and counts as usual.
        f, s = fast[max(0, i - 1)], slow[max(0, i - 1)]
        now = rr[i - 1] if i else f
        before = rr[i - 2] if i > 1 else 0.8
        gap = beat_s[i + 1] - beat_s[i] if i + 1 < len(beat_s) else np.inf
        following = min(max(gap, 0.15), LOOK_AHEAD_S)
        rows[i] = [
            3 * np.log(now / f),
            3 * np.log(following / f),
            3 * np.log(now / s),
            3 * np.log(now / before),
            np.clip(np.log(following / now), -1, 1),
            2 * (now - 0.8),
            5 * irregular[max(0, i - 1) if i > 0 else 0],
            gap >= LOOK_AHEAD_S,
        ]
    return rows


def beats(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.choice([0.05, 0.25, 0.3, 0.6, 0.8, 0.85, 1.2, 4.0], n) + rng.normal(0, 0.01, n))


@pytest.mark.parametrize("seed", range(5))
def test_features_are_those_of_a_reference_with_the_whole_record(seed: int) -> None:
    times = beats(120, seed)
    given = rhythm_features(times, LOOK_AHEAD_S)
    assert given.shape == (120, N_FEATURES)
    np.testing.assert_allclose(given, reference(times), atol=1e-5)


def test_features_are_causal_but_for_the_declared_look_ahead() -> None:
    times = beats(60, 1)
    whole = rhythm_features(times, LOOK_AHEAD_S)
    for n in (10, 25, 40):
        cut = rhythm_features(times[:n], LOOK_AHEAD_S)
        np.testing.assert_array_equal(cut[: n - 1], whole[: n - 1])


def test_reset_forgets_the_patient_and_interrupt_only_the_last_beat() -> None:
    context, fresh = RhythmContext(LOOK_AHEAD_S), RhythmContext(LOOK_AHEAD_S)
    for t in beats(40, 2):
        context.features(float(t), None)
    context.interrupt()
    row = context.features(1e6, None)
    assert row[0] == 0.0  # the interval is unknown, so it counts as usual
    assert row != fresh.features(1e6, None)
    context.reset()
    assert context.features(3.0, None) == RhythmContext(LOOK_AHEAD_S).features(3.0, None)


def test_the_running_template_follows_its_recurrence() -> None:
    """m_0 = e_0, m_k = m_{k-1} + r (e_k - m_{k-1})."""
    e = torch.randn(2, 200, 5, generator=torch.Generator().manual_seed(0))
    wanted = [e[:, 0]]
    for k in range(1, 200):
        wanted.append(wanted[-1] + TEMPLATE_RATE * (e[:, k] - wanted[-1]))
    torch.testing.assert_close(running_mean(e), torch.stack(wanted, dim=1), atol=1e-5, rtol=1e-5)
