"""The model card of a study's row: the figures of all its models, and beside them those of the one that is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from host_tools.export.card import Figure, write_card
from host_tools.study.personal import GAIN
from host_tools.study.result import Cell, ClaimResult, Estimate, RowResult, StudyResult
from host_tools.tasks.shipping import Shipping

POINTS = ("gain", "points lost")
UNITS = {"times smaller": "times", "times faster": "times", "percent smaller": "%", "percent smaller, sent": "%"}


@dataclass(frozen=True, kw_only=True)
class ShippedCell:
    """The one model of a row that goes into a bundle.

    before       the row that this one went on from; None: it began with an untrained network
    graph_bytes  of the file in the bundle, which may hold the task's scaling too
    parameters, macs  of this model; other folds' may differ after pruning
    """

    row: RowResult
    cell: Cell
    before: RowResult | None
    graph_bytes: int
    parameters: int
    macs: int


def row_card(result: StudyResult, chosen: ShippedCell, shipping: Shipping) -> str:
    """The text of MODEL_CARD.md."""
    row, cell = chosen.row, chosen.cell
    this = f"fold {cell.fold}, seed {cell.seed}"
    groups = f"{row.figures[result.metric.key].n} {shipping.group}s"
    n_folds, n_seeds = len({c.fold for c in row.cells}), len({c.seed for c in row.cells})
    about = (
        f"Figures with an interval are of all {len(row.cells)} models of the row together ({n_folds} folds, {n_seeds} "
        f"seeds), each on the test part of its fold, which it never saw; intervals by resampling "
        f"{groups}. The model in this bundle is one of them, that of {this}: its own figures, on the test "
        "part of its fold alone, stand in the notes and depend on who happens to be in that part."
    )
    return write_card(
        title=f"{result.task}: {row.name}",
        intended_use=shipping.intended_use,
        sees=shipping.sees,
        says=shipping.says,
        data=f"{shipping.data}\n\nLicence: {shipping.licence}.\n\nCitation: {shipping.citation}",
        protocol=f"{shipping.protocol}\n\n{about}",
        figures=[*_scores(result, row, cell, shipping), *_against(result, chosen), *_costs(result, chosen)],
        failures=shipping.failures,
        origin=_origin(result, row, cell),
        simulated=shipping.simulated,
    )


def _scores(result: StudyResult, row: RowResult, cell: Cell, shipping: Shipping) -> Iterator[Figure]:
    for key, found in row.figures.items():
        if found.value is None or key == GAIN:  # personal layers are not shipped
            continue
        title, unit = _words(key, result, shipping)
        own = cell.figures.get(key)
        note = "" if own is None else f"this model: {_figure(title, unit, Estimate(value=own)).to_text()}"
        yield _figure(title, unit, found, note)
    title, unit = _words(result.metric.key, result, shipping)
    if row.worst_decile is not None:
        note = f"mean over the worst tenth of {len(row.per_group)} {shipping.group}s, all models"
        yield _figure(f"{title}, worst tenth of {shipping.group}s", unit, Estimate(value=row.worst_decile), note)
        worst = Estimate(value=row.per_group[0][1])
        yield _figure(f"{title}, worst {shipping.group}", unit, worst, "all models")


def _words(key: str, result: StudyResult, shipping: Shipping) -> tuple[str, str]:
    metric = result.metric
    if key in shipping.figures:
        return shipping.figures[key]
    if metric.unit == "%":
        return (metric.title if key == metric.key else key), "%"
    return (metric.title, metric.unit) if key == metric.key else (key, "")


def _figure(title: str, unit: str, found: Estimate, note: str = "") -> Figure:
    """Shares are shown in %."""
    factor = 100.0 if unit == "%" else 1.0

    def shown(x: float | None) -> float | None:
        return None if x is None else factor * x

    value = shown(found.value)
    return Figure(
        name=title,
        value=np.nan if value is None else value,
        unit=unit,
        low=shown(found.low),
        high=shown(found.high),
        note=note,
    )


def _against(result: StudyResult, chosen: ShippedCell) -> Iterator[Figure]:
    """What the study found out about this row against others; at least what its last steps lost."""
    claims = [c for c in result.claims if c.row == chosen.row.name and c.against and c.found.value is not None]
    for claim in claims:
        name, unit, note = _claim_words(result, claim)
        yield Figure(
            name=name, value=claim.found.value or 0.0, unit=unit, low=claim.found.low, high=claim.found.high, note=note
        )
    before = chosen.before
    told = {c.against for c in claims if c.figure in POINTS}
    if before is not None and before.name not in told:
        # Cells of a row come in one order, and skip none.
        pairs = [
            (a.figures[result.metric.key], b.figures[result.metric.key])
            for a, b in zip(before.cells, chosen.row.cells, strict=True)
        ]
        lost = [result.metric.points_lost(a, b) for a, b in pairs if a is not None and b is not None]
        if lost:
            yield Figure(
                name=f"lost against {before.name!r}",
                value=float(np.mean(lost)),
                unit="points",
                note=f"{_point(result)}; mean of {len(lost)} models, from {min(lost):.3g} to {max(lost):.3g}",
            )


def _claim_words(result: StudyResult, claim: ClaimResult) -> tuple[str, str, str]:
    note = f"against {claim.against!r}"
    if claim.figure in POINTS:
        return f"{claim.title}: {claim.figure}", "points", f"{note}; {_point(result)}"
    return f"{claim.title}: {claim.figure}", UNITS.get(claim.figure, ""), note


def _point(result: StudyResult) -> str:
    unit = f" {result.metric.unit}" if result.metric.unit not in ("", "%") else ""
    size = 100.0 * result.metric.point if result.metric.unit == "%" else result.metric.point
    return f"a point is {size:g}{'%' if result.metric.unit == '%' else unit} of {result.metric.title}"


def _costs(result: StudyResult, chosen: ShippedCell) -> Iterator[Figure]:
    row = chosen.row
    yield Figure(
        name="graph in this bundle",
        value=chosen.graph_bytes / 1e3,
        unit="kB",
        note=f"the study's file: {row.file_bytes / 1e3:.4g} kB",
    )
    for name, n in (("parameters", chosen.parameters), ("multiply-accumulates a window", chosen.macs)):
        yield Figure(name=name, value=n / 1e3, unit="thousand", note=f"{n:,}")
    if row.latency_us is not None:
        yield Figure(
            name="a call",
            value=row.latency_us,
            unit="µs",
            note=f"median, one thread, the network alone, on {result.machine}; measure your device with its own bench",
        )


def _origin(result: StudyResult, row: RowResult, cell: Cell) -> list[tuple[str, str]]:
    origin = [
        ("study", f"{result.name} (sha256 {result.study_sha256[:12]}): {result.title}"),
        ("row", f"{row.name}: {', '.join(row.steps) or 'no step'}"),
        ("model", f"fold {cell.fold}, seed {cell.seed}, kept as {cell.key}"),
        ("commit", result.commit),
        ("study's command", result.command),
        ("study's machine", result.machine),
        ("study made", result.created),
    ]
    return origin + [("refused by a guard, so the model is that before it", reason) for reason in cell.refused]
