"""Figures of a probability against a yes or no: ranking, calibration, and what a threshold finds.

AUROC: Hanley and McNeil, Radiology 143, 1982. AUPRC as average precision. min(Se, P+): event 1 of the
PhysioNet/CinC Challenge 2012 (Silva et al., Computing in Cardiology 39, 2012). Calibration: Brier, Monthly Weather
Review 78, 1950; Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
AAAI 2015, and Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract.signal import Float32Array

FloatArray = NDArray[np.float64]
BINS = 10


def positive_probability(logits: Float32Array) -> FloatArray:
    """Probability of class 1 from logits (n, 2)."""
    if logits.ndim != 2 or logits.shape[1] != 2:
        raise ValueError(f"logits are {logits.shape}; (n, 2) wanted")
    # tanh neither overflows nor loses the small ones' order
    margin = logits[:, 1].astype(np.float64) - logits[:, 0]
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * margin)), np.float64)


def auroc(p: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a positive ranks above a negative, ties half; NaN unless there are both."""
    _, at, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - 0.5 * (counts - 1)
    is_positive = labels == 1
    n, m = int(is_positive.sum()), int((~is_positive).sum())
    if not (n and m):
        return float("nan")
    return float((ranks[at][is_positive].sum() - n * (n + 1) / 2) / (n * m))


@dataclass(frozen=True, kw_only=True, eq=False)
class Thresholds:
    """What is found and what is false if all with p >= threshold are called positive; one entry per distinct p.

    threshold  float64 (k,), descending
    found      int64 (k,), positives called positive
    false      int64 (k,), negatives called positive
    """

    threshold: FloatArray
    found: np.ndarray
    false: np.ndarray
    n_positive: int
    n_negative: int

    @property
    def sensitivity(self) -> FloatArray:
        """Share of the positives that is found."""
        return np.asarray(self.found / self.n_positive, np.float64)

    @property
    def predictivity(self) -> FloatArray:
        """Share of those called positive that is positive (P+)."""
        return np.asarray(self.found / (self.found + self.false), np.float64)

    @property
    def specificity(self) -> FloatArray:
        """Share of the negatives that is left alone."""
        return np.asarray(1.0 - self.false / self.n_negative, np.float64)


def thresholds(p: np.ndarray, labels: np.ndarray) -> Thresholds | None:
    """Every distinct way to cut; None unless there are positives and negatives."""
    is_positive = labels == 1
    n, m = int(is_positive.sum()), int((~is_positive).sum())
    if not (n and m):
        return None
    values, at = np.unique(p, return_inverse=True)
    found = np.bincount(at[is_positive], minlength=len(values))[::-1].cumsum()
    false = np.bincount(at[~is_positive], minlength=len(values))[::-1].cumsum()
    return Thresholds(
        threshold=np.asarray(values[::-1], np.float64), found=found, false=false, n_positive=n, n_negative=m
    )


def auprc(p: np.ndarray, labels: np.ndarray) -> float:
    """Average precision: P+ at each threshold, weighted by the sensitivity that it adds."""
    cuts = thresholds(p, labels)
    if cuts is None:
        return float("nan")
    return float(np.sum(np.diff(cuts.sensitivity, prepend=0.0) * cuts.predictivity))


def min_se_ppv(p: np.ndarray, labels: np.ndarray) -> float:
    """min(Se, P+) at the threshold of these same examples that makes it largest: what the ranking allows.

    A threshold that was chosen elsewhere gives less; see `choose_threshold` and `at_threshold`.
    """
    cuts = thresholds(p, labels)
    return float("nan") if cuts is None else float(np.minimum(cuts.sensitivity, cuts.predictivity).max())


def brier(p: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared difference between probability and outcome."""
    return float(np.mean((p - (labels == 1)) ** 2)) if len(p) else float("nan")


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Examples whose probability lies in [low, high) (the last one also at 1): what was said, and what happened."""

    low: float
    high: float
    n: int
    said: float
    happened: float


def reliability(p: np.ndarray, labels: np.ndarray, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Equally wide bins of the probability of class 1; those without an example are left out."""
    where = np.minimum((p * bins).astype(np.int64), bins - 1)
    rows = []
    for b in np.unique(where).tolist():
        of = where == b
        rows.append(
            ReliabilityBin(
                low=b / bins,
                high=(b + 1) / bins,
                n=int(of.sum()),
                said=float(p[of].mean()),
                happened=float(np.mean(labels[of] == 1)),
            )
        )
    return tuple(rows)


def calibration_error(p: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: how far said and happened lie apart, mean over the examples' bins."""
    if not len(p):
        return float("nan")
    return sum(b.n * abs(b.said - b.happened) for b in reliability(p, labels, bins)) / len(p)


def choose_threshold(p: np.ndarray, labels: np.ndarray, wanted_sensitivity: float | None = None) -> float:
    """A threshold for other examples; choose it on validation examples.

    wanted_sensitivity  the largest threshold that finds at least this share of the positives; None: the threshold
                        with the largest Se + Sp (Youden, "Index for rating diagnostic tests", Cancer 3, 1950), the
                        larger one of equals
    Raises ValueError unless there are positives and negatives.
    """
    cuts = thresholds(p, labels)
    if cuts is None:
        raise ValueError("a threshold needs positives and negatives")
    if wanted_sensitivity is None:
        return float(cuts.threshold[np.argmax(cuts.sensitivity + cuts.specificity)])
    if not 0 < wanted_sensitivity <= 1:
        raise ValueError(f"wanted sensitivity is {wanted_sensitivity:g}; above 0, at most 1 wanted")
    return float(cuts.threshold[np.argmax(cuts.sensitivity >= wanted_sensitivity)])


def at_threshold(p: np.ndarray, labels: np.ndarray, threshold: float) -> Mapping[str, float]:
    """Sensitivity, specificity, predictivity (P+) and min_se_ppv if p >= threshold is called positive."""
    called, true = p >= threshold, labels == 1
    found = float(np.sum(called & true))
    sensitivity, predictivity = _share(found, true.sum()), _share(found, called.sum())
    return {
        "sensitivity": sensitivity,
        "specificity": _share(float(np.sum(~called & ~true)), (~true).sum()),
        "predictivity": predictivity,
        "min_se_ppv": float(np.minimum(sensitivity, predictivity)),
    }


def binary_figures(p: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Mapping[str, float]:
    """All of the above that need no chosen threshold; shares found of each class at p = 1/2."""
    half = at_threshold(p, labels, 0.5)
    return {
        "auroc": auroc(p, labels),
        "auprc": auprc(p, labels),
        "min_se_ppv": min_se_ppv(p, labels),
        "accuracy": float(np.mean((p >= 0.5) == (labels == 1))) if len(p) else float("nan"),
        "brier": brier(p, labels),
        "ece": calibration_error(p, labels),
        f"sensitivity_{classes[0]}": half["specificity"],
        f"sensitivity_{classes[1]}": half["sensitivity"],
    }


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")
