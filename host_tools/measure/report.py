"""Writes a study: report.json, one self-contained HTML page, and the table that a console shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from host_tools.measure.cells import interval, limit, with_unit
from host_tools.measure.sections import PILLS, to_html
from host_tools.measure.study import StudyReport, to_json

if TYPE_CHECKING:
    from rich.table import Table


def write_report(report: StudyReport, out_dir: Path) -> tuple[Path, Path]:
    """Write report.json and report.html into `out_dir`, which is made; returns both paths."""
    out_dir.mkdir(parents=True, exist_ok=True)
    data, html = out_dir / "report.json", out_dir / "report.html"
    data.write_text(to_json(report), encoding="utf-8")
    html.write_text(to_html(report), encoding="utf-8")
    return data, html


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
