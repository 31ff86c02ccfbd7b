"""Cells of a study's tables as text, the same in Markdown and HTML."""

from __future__ import annotations

import math

from host_tools.measure.cells import NONE, si, size
from host_tools.study.result import ClaimResult, Estimate, RefusedRow, RowResult, StudyResult


def figure(result: StudyResult, found: Estimate | None, *, interval: bool = True) -> str:
    """A figure in the task's unit with its interval."""
    if found is None or found.value is None:
        return NONE
    factor = 100.0 if result.metric.unit == "%" else 1.0
    text = number(factor * found.value)
    if interval and found.low is not None and found.high is not None:
        text += f" [{number(factor * found.low)}, {number(factor * found.high)}]"
    return text


def number(value: float | str | int | None) -> str:
    """A number with the digits that mean something."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return NONE
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def claim_value(claim: ClaimResult) -> str:
    """What a claim's row shows."""
    found = claim.found
    if found.value is None:
        return NONE
    text = number(found.value)
    return text if found.low is None else f"{text} [{number(found.low)}, {number(found.high)}]"


def limit(claim: ClaimResult, value: float | None) -> str:
    """A floor or a goal."""
    if value is None:
        return NONE
    if claim.figure == "gain" and value == 0:
        return "interval above 0"
    return f"{'≤' if claim.at_most else '≥'} {value:g}"


def heads(result: StudyResult) -> tuple[str, ...]:
    """Column names of the main table."""
    unit = f" ({result.metric.unit})" if result.metric.unit else ""
    others = [k for k in result.rows[0].figures if k != result.metric.key]
    return (
        "row", f"{result.metric.title}{unit}", *others, "parameters", "MACs", "file", "zlib", "integer layers",
        "in LiteRT", "µs a call", "refused",
    )  # fmt: skip


def line(result: StudyResult, row: RowResult) -> tuple[str, ...]:
    """A row of the main table."""
    others = [k for k in result.rows[0].figures if k != result.metric.key]
    refused = sum(bool(c.refused) for c in row.cells)
    return (
        row.name,
        figure(result, row.figures[result.metric.key]),
        *(figure(result, row.figures.get(k), interval=False) for k in others),
        f"{row.parameters:,}",
        si(row.macs),
        size(row.file_bytes),
        size(row.compressed_bytes),
        f"{row.integer_layers[0]} of {row.integer_layers[1]}",
        NONE if row.litert_layers is None else f"{row.litert_layers[0]} of {row.litert_layers[1]}",
        NONE if row.latency_us is None else f"{row.latency_us:.1f}",
        f"{refused} of {len(row.cells)}" if refused else "",
    )


def refused_line(result: StudyResult, row: RefusedRow) -> tuple[str, ...]:
    """A row of the main table without figures."""
    return (row.name, "refused", *[NONE] * (len(heads(result)) - 3), f"{len(row.refusals)} of {row.cells}")


def refusals(result: StudyResult) -> list[tuple[str, str, int, str]]:
    """Row, fold, seed and why: of refused rows, then of steps that guards refused."""
    return [
        *((r.name, c.fold, c.seed, f"no model: {c.reason}") for r in result.refused for c in r.refusals),
        *((r.name, c.fold, c.seed, why) for r in result.rows for c in r.cells for why in c.refused),
    ]


def conditions(result: StudyResult) -> list[tuple[str, str]]:
    """What a reader needs to make the table again."""
    runs = {"one-to-one": "seed i on fold i", "by-repeat": "seed i on the folds of repeat i"}.get(
        result.pairing, "every seed on every fold"
    )
    return [
        ("command", result.command),
        ("commit", result.commit),
        ("study", f"{result.name} (sha256 {result.study_sha256[:12]})"),
        ("data", result.data),
        ("classes", ", ".join(result.classes) if len(result.classes) <= 12 else f"{len(result.classes)} bins"),
        ("folds and seeds", f"{len(result.folds)} folds, seeds {' '.join(map(str, result.seeds))}; {runs}"),
        ("machine", result.machine),
        ("made", result.created),
        ("seconds of the last run", f"{result.seconds:.0f}, cells that were already there not counted"),
    ]


REFUSED = "What was refused"
METHOD = (
    "Figures are of the exported ONNX file in ONNX Runtime, on test examples of all folds together, mean of the seeds; "
    "intervals by resampling groups (95 %). Gains and losses are paired by fold and seed; with several runs over all "
    "folds, their interval is Student's t over the runs (what another seed would give here), with one run it is "
    "over folds with the correction of Nadeau and Bengio. A call is one example on one thread, all rows "
    "called in turns. A guard that refuses a step leaves the row with the model before it; a row that has no model on "
    "some fold and seed has no figures."
)
