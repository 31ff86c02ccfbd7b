"""Intervals of a study's figures: paired over cells, and by resampling the people that were tested."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from host_tools.study.result import Estimate
from host_tools.tasks.task import Examples

RESAMPLES = 300
LEVEL = 0.95


def paired(differences: Sequence[float], test_share: float) -> Estimate:
    """Mean difference of cells that share fold and seed, with a 95 % interval by Student's t.

    test_share  test examples over training examples where folds overlap in what they learn from: the variance of the
                mean is then (1/n + test_share) s^2 instead of s^2/n; 0 where only the seed differs
    Source: Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.
    """
    from scipy import stats

    d = np.asarray(differences, float)
    n = len(d)
    mean = float(d.mean()) if n else math.nan
    if n < 2:
        return Estimate(value=mean if n else None, n=n)
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1)) * math.sqrt((1.0 / n + test_share) * float(d.var(ddof=1)))
    return Estimate(value=mean, low=mean - reach, high=mean + reach, n=n)


def share_of(found: Estimate, differences: Sequence[float]) -> float:
    """The `test_share` with which `paired` made an interval of these differences."""
    from scipy import stats

    if found.low is None or found.high is None:
        raise ValueError("no interval")
    n = len(differences)
    reach = (found.high - found.low) / 2 / float(stats.t.ppf(0.5 + LEVEL / 2, n - 1))
    return reach**2 / float(np.var(differences, ddof=1)) - 1.0 / n


def pooled(
    score: Callable[[np.ndarray, Examples], Mapping[str, float]],
    runs: Sequence[tuple[np.ndarray, Examples]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Estimate]:
    """Each figure's mean over runs (one per seed: logits of all test examples), with a group-bootstrap interval.

    Every resample draws groups with replacement and scores each run on the same ones. Groups of one example each are
    drawn as examples. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    whole = _mean([score(logits, examples) for logits, examples in runs])
    names = np.unique(runs[0][1].groups)
    where = [_places(names, examples.groups) for _, examples in runs]  # runs may hold the same groups in another order
    rng = np.random.default_rng(seed)
    drawn: list[dict[str, float]] = []
    for _ in range(resamples if len(names) > 1 else 0):
        groups = rng.integers(len(names), size=len(names))
        drawn.append(
            _mean([_scored(score, run, [places[g] for g in groups]) for run, places in zip(runs, where, strict=True)])
        )
    found = {}
    for key, value in whole.items():
        values = np.array([d[key] for d in drawn if math.isfinite(d.get(key, math.nan))])
        low, high = np.percentile(values, [2.5, 97.5]).tolist() if len(values) else (None, None)
        found[key] = Estimate(value=value if math.isfinite(value) else None, low=low, high=high, n=len(names))
    return found


def _places(names: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """Where the examples of each of the sorted `names` are."""
    order = np.argsort(groups, kind="stable")
    bounds = [*np.searchsorted(groups[order], names), len(groups)]
    return [order[a:b] for a, b in pairwise(bounds)]


def _scored(
    score: Callable[[np.ndarray, Examples], Mapping[str, float]],
    run: tuple[np.ndarray, Examples],
    places: Sequence[np.ndarray],
) -> Mapping[str, float]:
    index = np.concatenate(places)
    return score(run[0][index], run[1].take(index))


def _mean(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}
