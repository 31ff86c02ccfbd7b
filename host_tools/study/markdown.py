"""A study's result as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from host_tools.compress.step import Table
from host_tools.study import words
from host_tools.study.result import StudyResult


def to_markdown(result: StudyResult) -> str:
    """The whole page."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: StudyResult) -> Iterator[str]:
    yield f"# {result.title}\n"
    yield f"{result.note.strip()}\n" if result.note else ""
    if result.claims:
        yield "## What it must show, and what it shows\n"
        heads = ("", "row", "against", "found", "floor", "goal", "verdict")
        rows = [
            (
                c.title,
                c.row,
                c.against,
                words.claim_value(c),
                words.limit(c, c.floor),
                words.limit(c, c.goal),
                c.verdict,
            )
            for c in result.claims
        ]
        yield from _table(heads, rows)
    yield "## The table\n"
    lines = [*(words.line(result, r) for r in result.rows), *(words.refused_line(result, r) for r in result.refused)]
    yield from _table(words.heads(result), lines)
    notes = [*((r.name, r.note) for r in result.rows if r.note), *((r.name, r.note) for r in result.refused if r.note)]
    if notes:
        yield from (f"- **{name}**: {note}" for name, note in notes)
        yield ""
    yield from _refusals(result)
    yield from _groups(result)
    yield from _tables(result)
    yield "## Conditions\n"
    yield from (f"- {name}: {text}" for name, text in words.conditions(result))
    yield f"\n{words.METHOD}"


def _refusals(result: StudyResult) -> Iterator[str]:
    refused = words.refusals(result)
    if refused:
        yield f"## {words.REFUSED}\n"
        yield from (f"- {name}, fold {fold}, seed {seed}: {why}" for name, fold, seed, why in refused)
        yield ""


def _groups(result: StudyResult) -> Iterator[str]:
    rows = [r for r in result.rows if r.per_group]
    if rows:
        yield "## The worst served\n"
        yield "The metric per group (patient, record or hospital), and its mean over the worst tenth of them.\n"
        factor = 100.0 if result.metric.unit == "%" else 1.0
        heads = ("row", "groups", "worst group", "worst decile", "median", "best group")
        yield from _table(
            heads,
            [
                (
                    r.name,
                    str(len(r.per_group)),
                    f"{r.per_group[0][0]}: {words.number(factor * r.per_group[0][1])}",
                    words.number(None if r.worst_decile is None else factor * r.worst_decile),
                    words.number(factor * r.per_group[len(r.per_group) // 2][1]),
                    words.number(factor * r.per_group[-1][1]),
                )
                for r in rows
            ],
        )


def _tables(result: StudyResult) -> Iterator[str]:
    """What the steps of the first cell found out; tables that belong to several rows are shown once."""
    shown: list[Table] = []
    for row in result.rows:
        for table in row.tables:
            if table in shown:
                continue
            shown.append(table)
            yield f"### {row.name}: {table.title}\n"
            yield from _table(table.columns, [tuple(words.number(v) for v in line) for line in table.rows])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    yield from ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    yield ""
