"""Writes a study: report.json, one self-contained HTML page, a model card, and the table that a console shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.contract.errors import ReportError
from edge_runtime.contract.latency import without_values
from edge_runtime.contract.report import BenchReport
from edge_runtime.contract.report import from_json as bench_from_json
from host_tools.export.card import CARD_FILE
from host_tools.measure.beat_card import beat_card
from host_tools.measure.cells import interval, limit, with_unit
from host_tools.measure.requirements import EQUALITY
from host_tools.measure.sections import PILLS, to_html
from host_tools.measure.study import StudyReport, from_json, to_json

if TYPE_CHECKING:
    from rich.table import Table


def write_report(report: StudyReport, out_dir: Path) -> tuple[Path, Path]:
    """Write report.json, report.html and MODEL_CARD.md into `out_dir`, which is made; returns the first two paths."""
    out_dir.mkdir(parents=True, exist_ok=True)
    data, html = out_dir / "report.json", out_dir / "report.html"
    data.write_text(to_json(report), encoding="utf-8")
    html.write_text(to_html(report), encoding="utf-8")
    if report.requirements:
        (out_dir / CARD_FILE).write_text(beat_card(report), encoding="utf-8")
    return data, html


def rewrite_report(study: Path, bench: Path | None, out_dir: Path, *, publish: bool = False) -> tuple[Path, Path]:
    """Write the report of a study again; with `bench`, time and memory are those of that device.

    study    report.json of a run
    bench    what another device brought back for the same bundle
    publish  leave out the strips of recordings, which may not be ours to hand on, and the raw times in the JSON
    Raises ReportError if a file cannot be read, is newer than this program, or is about another bundle.
    """
    report = from_json(_text(study), str(study))
    if bench is not None:
        report = _on_another_device(report, bench_from_json(_text(bench), str(bench)))
    if not publish:
        return write_report(report, out_dir)
    report = replace(report, strips=())
    data, html = write_report(report, out_dir)
    summaries = tuple(map(without_values, report.device_latencies))
    data.write_text(to_json(replace(report, device_latencies=summaries)), encoding="utf-8")
    return data, html


def _on_another_device(report: StudyReport, bench: BenchReport) -> StudyReport:
    bundles = report.device_conditions.bundle_id, bench.conditions.bundle_id
    if bundles[0] != bundles[1]:
        raise ReportError(f"the study is about bundle {bundles[0]}, the bench about {bundles[1]}; one wanted")
    places = report.device_conditions.board, bench.conditions.board
    return replace(
        report,
        requirements=tuple(replace(r, value=None, note="") if r.name == EQUALITY else r for r in report.requirements),
        device_conditions=bench.conditions,
        device_latencies=bench.latencies,
        device_overhead_ns=bench.overhead_ns,
        device_memory=bench.memory,
        device_cold_start=bench.cold_start,
        device_real_time_factor=bench.real_time_factor,
        against_host=None,
        notes=(*report.notes, f"Accuracy was measured on {places[0]}; time and memory are of {places[1]}."),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: cannot be read ({error}); a JSON report wanted") from error


def console_table(report: StudyReport) -> Table:
    """The requirements as a table for a terminal."""
    from rich.table import Table

    style = {"good": "green", "fair": "cyan", "bad": "red", "": "dim"}
    title = f"{report.title} - SIMULATED DATA" if report.simulated else report.title
    out = Table("figure", title=title)
    for name in ("value", "95 % interval", "floor", "goal"):
        out.add_column(name, justify="right")
    out.add_column("")
    for r in report.requirements:
        kind = style[PILLS[r.verdict]]
        limits = (limit(r, r.floor), limit(r, r.goal))
        out.add_row(r.name, with_unit(r, r.value), interval(r), *limits, f"[{kind}]{r.verdict}[/{kind}]")
    return out
