"""A step whose result is worse than its recipe allows is refused, with the table that shows why.

What is compared lies on the fold's validation examples, of the two models as they would be shipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.step import Candidate, Lab, Table
from host_tools.export.plain import export_plain
from host_tools.measure.latency import interleaved_ns, ratio

SENSITIVITIES = ("sensitivity_", "se_")  # how tasks begin the names of figures that are classes' sensitivities


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What a step may cost.

    points       of the task's metric
    sensitivity  points of any one class' sensitivity, where the task reports them
    faster       how many times faster the result must be, measured side by side; 0: speed was not asked for
    """

    points: float = 1.0
    sensitivity: float = math.inf
    faster: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what can refuse nothing."""
        if not (self.points >= 0 and self.sensitivity >= 0 and self.faster >= 0):
            raise SettingsError(f"guard is {self}; 0 or more wanted")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why a result was refused (empty: it was not), and what was compared."""

    reasons: tuple[str, ...]
    table: Table


def judge(guard: Guard, before: Candidate, after: Candidate, lab: Lab) -> Verdict:
    """Compare two candidates on the validation examples and, if asked, on the clock.

    Raises SettingsError for a guard on what the task does not report.
    """
    metric = lab.task.metric
    old, new = lab.validate(before), lab.validate(after)
    refuse_unreported(guard, metric.key, old)
    rows: list[tuple[str | float | int | None, ...]] = []
    reasons = []
    for key, allowed in _limits(guard, metric.key, old):
        lost = metric.points_lost(old[key], new[key]) if key == metric.key else 100.0 * (old[key] - new[key])
        is_kept = lost <= allowed  # a figure that is not a number is lost
        rows.append((key, old[key], new[key], lost, allowed, "kept" if is_kept else "REFUSED"))
        if not is_kept:
            reasons.append(f"{key} lost {lost:.2f} points ({old[key]:.4g} to {new[key]:.4g}); {allowed:g} allowed")
    if guard.faster:
        shape = lab.fold.train.inputs.shape[1:]
        graphs = {name: c.graph or export_plain(c.network, shape) for name, c in (("old", before), ("new", after))}
        times = ratio(interleaved_ns(graphs, shape), "old", "new")
        is_kept = times.low >= guard.faster
        rows.append(("times faster", 1.0, times.value, None, guard.faster, "kept" if is_kept else "REFUSED"))
        if not is_kept:
            reasons.append(
                f"{times.value:.2f} times faster ({times.low:.2f} to {times.high:.2f}); {guard.faster:g} wanted"
            )
    columns = ("figure", "before", "after", "points lost", "allowed", "verdict")
    return Verdict(reasons=tuple(reasons), table=Table(title="guard", columns=columns, rows=tuple(rows)))


def refuse_unreported(guard: Guard, metric: str, figures: Mapping[str, float]) -> None:
    """Raise SettingsError if the guard is on figures that are not among a task's."""
    if metric not in figures:
        raise SettingsError(f"guard: the task reports no {metric!r}, its metric; its figures are {', '.join(figures)}")
    if math.isfinite(guard.sensitivity) and not any(k.startswith(SENSITIVITIES) for k in figures):
        raise SettingsError(
            f"guard.sensitivity is {guard.sensitivity:g}; the task reports no class's sensitivity, "
            f"its figures are {', '.join(figures)}"
        )


def _limits(guard: Guard, metric: str, figures: Mapping[str, float]) -> list[tuple[str, float]]:
    """Which figures are compared, and how many points each may lose."""
    limits = [(metric, guard.points)]
    if math.isfinite(guard.sensitivity):
        limits += [(k, guard.sensitivity) for k, v in figures.items() if k.startswith(SENSITIVITIES) and v == v]
    return limits
