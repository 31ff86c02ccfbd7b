"""Rhythm features of many patients against those of each: the same rows, whoever beats together."""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.rhythm import RhythmContext
from edge_runtime.vitals.many_rhythm import ManyRhythms

LOOK_AHEAD_S = 0.32


def test_features_of_many_are_the_features_of_each() -> None:
    """Two hundred beats of five patients, some at a time, with intervals out of range, gaps and a change of patient."""
    rng, n = np.random.default_rng(4), 5
    many, singles, t = ManyRhythms(LOOK_AHEAD_S, n), [RhythmContext(LOOK_AHEAD_S) for _ in range(n)], np.zeros(n)
    for turn in range(200):
        slots = np.sort(rng.permutation(n)[: rng.integers(1, n + 1)])
        if turn % 23 == 5:
            many.interrupt(2)
            singles[2].interrupt()
        if turn == 120:
            many.begin(4)
            singles[4].reset()
        t[slots] += rng.choice([0.05, 0.3, 0.8, 0.82, 1.1, 4.0], len(slots))
        follows = t[slots] + rng.choice([0.1, 0.2, 0.31, 0.5, np.inf], len(slots))
        given = many.features(slots, t[slots], follows)
        for row, slot, after_s in zip(given, slots.tolist(), follows.tolist(), strict=True):
            wanted = singles[slot].features(float(t[slot]), after_s if after_s - t[slot] < LOOK_AHEAD_S else None)
            np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-12)
