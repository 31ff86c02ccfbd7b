"""How well estimated rates agree with a reference, with intervals that resample whole subjects.

Bland and Altman, "Agreement between methods of measurement with multiple observations per individual", Journal of
Biopharmaceutical Statistics 17, 2007, section 3: limits of agreement where subjects have several, changing values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.contract.signal import Float64Array
from host_tools.measure.intervals import Interval, bootstrap

LIMITS_SD = 1.96


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Errors in the rate's own unit.

    mae, rmse, bias  of all windows, with 95 % subject-bootstrap intervals
    mae_by_subject   mean and standard deviation over subjects of each subject's own MAE
    limits           bias - 1.96 SD and bias + 1.96 SD; the SD adds differences between and within subjects
    """

    mae: Interval
    rmse: Interval
    bias: Interval
    mae_by_subject: tuple[float, float]
    limits: tuple[float, float]
    n_windows: int


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What is left when windows below a confidence are refused; `mae` is NaN where none is left."""

    threshold: float
    coverage: float
    mae: float


def agreement(said: Float64Array, true: Float64Array, subjects: np.ndarray, *, seed: int = 0) -> Agreement:
    """Compare estimates (n,) with the reference (n,) of windows of `subjects` (n,).

    Raises ValueError if there is no window, or if the lengths differ.
    """
    if not len(said) == len(true) == len(subjects) > 0:
        raise ValueError(f"{len(said)} estimates, {len(true)} references, {len(subjects)} subjects; as many of each")
    error = said - true
    of_subject = [error[subjects == s] for s in np.unique(subjects)]
    sums = np.array([[len(e), np.abs(e).sum(), e.sum(), (e**2).sum()] for e in of_subject])
    found = bootstrap(sums, _figures, seed=seed)
    own = np.array([np.abs(e).mean() for e in of_subject])
    bias, sd = float(error.mean()), _sd_of_differences(of_subject)
    return Agreement(
        mae=found["mae"],
        rmse=found["rmse"],
        bias=found["bias"],
        mae_by_subject=(float(own.mean()), float(own.std())),
        limits=(bias - LIMITS_SD * sd, bias + LIMITS_SD * sd),
        n_windows=len(error),
    )


def _figures(sums: Float64Array) -> Mapping[str, Float64Array]:
    """From sums (..., 4) of windows, |error|, error and its square."""
    n, absolute, signed, squared = np.moveaxis(sums, -1, 0)
    return {"mae": absolute / n, "bias": signed / n, "rmse": np.sqrt(squared / n)}


def _sd_of_differences(of_subject: Sequence[Float64Array]) -> float:
    """Square root of the variance within subjects plus that between them, by one-way analysis of variance."""
    sizes = np.array([len(e) for e in of_subject], np.float64)
    n, k = sizes.sum(), len(sizes)
    means = np.array([e.mean() for e in of_subject])
    inside = float(sum(((e - e.mean()) ** 2).sum() for e in of_subject))
    within = inside / (n - k) if n > k else 0.0
    if k < 2:
        return math.sqrt(within)
    whole = float((sizes * means).sum() / n)
    across = float((sizes * (means - whole) ** 2).sum() / (k - 1))
    # Bland and Altman's divisor for unequal numbers of observations.
    divisor = (n**2 - (sizes**2).sum()) / ((k - 1) * n)
    return math.sqrt(within + max(0.0, (across - within) / divisor))


def refusals(
    said: Float64Array, true: Float64Array, confidence: Float64Array, thresholds: Sequence[float]
) -> list[Refusal]:
    """Coverage against error for each threshold on `confidence` (n,)."""
    found = []
    for threshold in thresholds:
        kept = confidence >= threshold
        mae = float(np.abs(said - true)[kept].mean()) if kept.any() else float("nan")
        found.append(Refusal(threshold=float(threshold), coverage=float(kept.mean()), mae=mae))
    return found


def threshold_for(confidence: Float64Array, coverage: float) -> float:
    """The confidence that a share `coverage` of the windows reaches; chosen on validation, used elsewhere.

    Raises ValueError unless 0 < coverage <= 1 and there is a window.
    """
    if not (0.0 < coverage <= 1.0 and len(confidence)):
        raise ValueError(f"coverage is {coverage:g} of {len(confidence)} windows; more than 0, at most 1 wanted")
    kept = max(1, math.ceil(coverage * len(confidence) - 1e-9))
    return float(np.sort(confidence)[len(confidence) - kept])
