"""A study's result as one self-contained HTML page with plots."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from host_tools.compress.step import Table
from host_tools.measure.page import definitions, page, pill, table
from host_tools.study import words
from host_tools.study.plots import curves_svg, intervals_svg, trade_off_svg
from host_tools.study.result import StudyResult

PILLS = {"goal met": "good", "floor met": "fair", "missed": "bad"}


def to_html(result: StudyResult) -> str:
    """The whole page."""
    return page(result.title, _parts(result))


def _parts(result: StudyResult) -> Iterator[str]:
    yield f"<h1>{escape(result.title)}</h1>"
    yield f'<p class="lede">{escape(result.note.strip())}</p>' if result.note else ""
    yield '<p class="soft">Not a medical device: figures of a software experiment on public records.</p>'
    if result.claims:
        yield "<h2>What it must show, and what it shows</h2>"
        yield table(
            ("", "row", "against", "found", "floor", "goal", "verdict"),
            [
                [
                    escape(c.title),
                    escape(c.row),
                    escape(c.against),
                    f'<span class="value">{words.claim_value(c)}</span>',
                    words.limit(c, c.floor),
                    words.limit(c, c.goal),
                    pill(c.verdict, PILLS.get(c.verdict, "")),
                ]
                for c in result.claims
            ],
        )
    yield "<h2>The table</h2>"
    rows = [[escape(cell) for cell in words.line(result, r)] for r in result.rows]
    rows += [[escape(cell) for cell in words.refused_line(result, r)] for r in result.refused]
    for row, note in zip(rows, [*(r.note for r in result.rows), *(r.note for r in result.refused)], strict=True):
        row[0] += f"<small>{escape(note)}</small>" if note else ""
    yield table([escape(h) for h in words.heads(result)], rows, kind="dense")
    yield _figure(intervals_svg(result), f"{result.metric.title} of every row, 95 % interval; one dot a cell")
    yield _figure(trade_off_svg(result), f"{result.metric.title} against the bytes of the ONNX file (logarithmic)")
    yield from _refusals(result)
    yield from _tables(result)
    yield "<h2>Conditions</h2>"
    yield definitions(words.conditions(result))
    yield f"<p>{escape(words.METHOD)}</p>"


def _refusals(result: StudyResult) -> Iterator[str]:
    refused = words.refusals(result)
    if refused:
        yield f"<h2>{words.REFUSED}</h2>"
        yield table(("row", "fold", "seed", "why"), [[escape(str(v)) for v in line] for line in refused])


def _tables(result: StudyResult) -> Iterator[str]:
    shown: list[Table] = []
    for row in result.rows:
        for found in row.tables:
            if found in shown:
                continue
            if not shown:
                yield "<h2>What the steps found out</h2>"
                yield '<p class="soft">Of the first fold and seed.</p>'
            shown.append(found)
            yield f"<h3>{escape(row.name)}: {escape(found.title)}</h3>"
            if found.x and found.y:
                yield _figure(curves_svg(found), f"{found.y} against {found.x}")
            lines = [[escape(words.number(v)) for v in line] for line in found.rows]
            yield table([escape(c) for c in found.columns], lines, kind="dense")


def _figure(svg: str, caption: str) -> str:
    return f'<figure><div class="scroll">{svg}</div><figcaption><span>{escape(caption)}</span></figcaption></figure>'
