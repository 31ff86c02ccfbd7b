"""What a table must show, looked up in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edge_runtime.contract.errors import SettingsError
from host_tools.measure.latency import ratio
from host_tools.study.plan import Claim, Study
from host_tools.study.result import ClaimResult, Estimate, RowResult
from host_tools.study.statistics import paired
from host_tools.tasks.task import Fold, Metric, Task


def judge_claims(
    study: Study, task: Task, rows: Sequence[RowResult], folds: Sequence[Fold], ns: Mapping[str, np.ndarray]
) -> Iterator[ClaimResult]:
    """Every claim of the study with what was found: nothing where one of its rows is not among `rows`."""
    by_name = {r.name: r for r in rows}
    share = len(folds[0].test) / len(folds[0].train) if len({c.fold for c in rows[0].cells}) > 1 else 0.0
    for claim in study.claim:
        yield ClaimResult(
            title=claim.title,
            row=claim.row,
            against=claim.against,
            figure=claim.figure,
            found=find(claim, by_name, task.metric, study.pairing, share, ns),
            floor=claim.floor,
            goal=claim.goal,
            at_most=claim.at_most,
        )


def find(
    claim: Claim,
    rows: Mapping[str, RowResult],
    metric: Metric,
    pairing: str,
    share: float,
    ns: Mapping[str, np.ndarray],
) -> Estimate:
    """What a claim's figure is; None where one of its rows is not among `rows`.

    share  test examples over training examples, where folds overlap in what they learn from
    ns     times of calls by row, for `times faster`
    Raises SettingsError for a figure that there is not.
    """
    if claim.row not in rows or (claim.against and claim.against not in rows):
        return Estimate(value=None)  # refused
    row = rows[claim.row]
    if claim.figure in ("bytes", "parameters"):
        return Estimate(value=float(row.file_bytes if claim.figure == "bytes" else row.parameters))
    if not claim.against:
        if claim.figure not in row.figures:
            raise SettingsError(
                f"claim {claim.title!r}: no figure {claim.figure!r}; there are {', '.join(row.figures)}"
            )
        return _shown(row.figures[claim.figure], 100.0 if metric.unit == "%" else 1.0)
    other = rows[claim.against]
    if claim.figure in ("gain", "points lost"):
        # A gain is what this row has more than the other; a loss what it has less.
        sign = -1.0 if claim.figure == "gain" else 1.0
        lost = points_lost(row, other, metric)
        if lost is None:
            return Estimate(value=None)  # a cell without the metric leaves the comparison open
        if pairing == "one-to-one" or len(lost) == 1:
            return paired([sign * x for points in lost.values() for x in points], share)
        return paired([sign * float(np.mean(points)) for points in lost.values()], 0.0)
    if claim.figure == "times smaller":
        return Estimate(value=other.file_bytes / row.file_bytes)
    if claim.figure == "percent smaller":
        return Estimate(value=100.0 * (1.0 - row.file_bytes / other.file_bytes))
    if claim.figure == "percent smaller, sent":
        return Estimate(value=100.0 * (1.0 - row.compressed_bytes / other.compressed_bytes))
    if claim.figure == "times faster":
        found = ratio(ns, other.name, row.name)
        return Estimate(value=found.value, low=found.low, high=found.high, n=found.n_rounds)
    raise SettingsError(
        f"claim {claim.title!r}: figure {claim.figure!r} against another row; gain, points lost, times smaller, "
        "percent smaller, percent smaller, sent or times faster wanted"
    )


def points_lost(row: RowResult, other: RowResult, metric: Metric) -> dict[int, list[float]] | None:
    """By seed, what each of the row's cells has less than the other's; None if one has no such figure."""
    lost: dict[int, list[float]] = {}
    for a, b in zip(row.cells, other.cells, strict=True):
        before, after = b.figures[metric.key], a.figures[metric.key]
        if before is None or after is None:
            return None
        lost.setdefault(a.seed, []).append(metric.points_lost(before, after))
    return lost


def _shown(found: Estimate, factor: float) -> Estimate:
    def scaled(x: float | None) -> float | None:
        return None if x is None else factor * x

    return Estimate(value=scaled(found.value), low=scaled(found.low), high=scaled(found.high), n=found.n)
