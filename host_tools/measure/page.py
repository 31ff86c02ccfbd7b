"""The look of the report: one self-contained HTML page, light and dark, from a wide screen to a phone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark;
  --paper: #fcfbf9; --card: #ffffff; --ink: #22262b; --soft: #6a7078; --line: #e6e3dd; --accent: #1f6f78;
  --good: #2c7a4b; --good-bg: #e4f3e9; --fair: #27618f; --fair-bg: #e5eff8; --bad: #b3372c; --bad-bg: #fbe8e5;
  --mute-bg: #f0eeea; --warn: #7a4b00; --warn-bg: #ffe9c2; --heat: 31, 111, 120; --miss: 179, 55, 44;
  --paper-grid: #f1d9d5; --paper-grid-strong: #e5bcb6; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15181b; --card: #1c2024; --ink: #e4e2dd; --soft: #9aa1a8; --line: #30353a; --accent: #6cc0ca;
  --good: #7fd3a0; --good-bg: #1d3a2a; --fair: #8fc1ea; --fair-bg: #1c3347; --bad: #f19a90; --bad-bg: #46231f;
  --mute-bg: #2a2e33; --warn: #ffcf7d; --warn-bg: #4a3510; --heat: 108, 192, 202; --miss: 241, 154, 144;
  --paper-grid: #33282a; --paper-grid-strong: #4d3838; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 .5rem; font-weight: 650; }
h2 { font-size: 1.2rem; margin: 3.2rem 0 .3rem; font-weight: 640; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; font-weight: 600; }
p { margin: .35rem 0 .9rem; max-width: 46rem; }
.lede { font-size: 1.1rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }
code { font: .86em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
.banner { background: var(--warn-bg); color: var(--warn); border-radius: .6rem; padding: .9rem 1.2rem;
  margin: 0 0 1.8rem; font-weight: 500; }
.banner strong { display: block; font-size: 1.25rem; letter-spacing: .08em; }
.banner.bad { background: var(--bad-bg); color: var(--bad); }
.scroll { overflow-x: auto; margin: .6rem 0 0; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .8rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line);
  vertical-align: baseline; }
thead tr:first-child th { border-top: 0; }
th { font-weight: 550; color: var(--soft); font-size: .82rem; }
th:first-child, td:first-child { text-align: left; }
tbody th { color: var(--ink); font-size: .92rem; position: sticky; left: 0; background: var(--card); }
td.left { text-align: left; }
td.text { text-align: left; white-space: normal; min-width: 11rem; }
td small, th small { color: var(--soft); font-weight: 400; font-size: .82rem; }
tbody th small { display: block; white-space: normal; max-width: 27rem; line-height: 1.4; }
th.group { text-align: center; border-left: 1px solid var(--line); }
td.first, th.first { border-left: 1px solid var(--line); }
.value { font-weight: 620; }
.pill { display: inline-block; border-radius: 1rem; padding: .08rem .65rem; font-size: .82rem;
  font-weight: 600; background: var(--mute-bg); color: var(--soft); }
.pill.good { background: var(--good-bg); color: var(--good); }
.pill.fair { background: var(--fair-bg); color: var(--fair); }
.pill.bad { background: var(--bad-bg); color: var(--bad); }
.track { position: relative; height: .5rem; min-width: 9rem; border-radius: .25rem;
  background: var(--mute-bg); }
.track i { position: absolute; top: 0; bottom: 0; border-radius: .25rem; opacity: .38;
  background: var(--accent); }
.track b { position: absolute; top: -.2rem; width: .2rem; height: .9rem; margin-left: -.1rem;
  border-radius: .1rem; background: var(--accent); }
.scroll.fit { width: fit-content; max-width: 100%; }
.scroll.dense table { font-size: .84rem; }
.scroll.dense th, .scroll.dense td { padding: .45rem .42rem; font-size: inherit; }
.scroll.matrix { width: fit-content; max-width: 100%; }
.matrix td, .matrix thead th { text-align: center; min-width: 4.9rem; }
.matrix td { border-left: 1px solid var(--line); }
.matrix td small { display: block; color: inherit; opacity: .75; }
figure { margin: 1rem 0 0; }
figure svg { display: block; width: 100%; min-width: 40rem; height: auto; font-size: 12px; }
figure svg text { fill: var(--soft); font-family: inherit; }
figure svg .name { fill: var(--ink); font-weight: 600; }
figcaption { padding: .5rem 0 0; color: var(--ink); font-weight: 550; }
figcaption span { font-weight: 400; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .25rem 1.2rem; margin: .6rem 0;
  font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; max-width: 46rem; }
@media (max-width: 40rem) { main { padding: 1.4rem .8rem 3rem; } h1 { font-size: 1.5rem; }
  th, td { padding: .45rem .55rem; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  tbody th { white-space: normal; min-width: 8.5rem; } }
@media print { .scroll { overflow: visible; border: 0; } body { background: #fff; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page; `body` is HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, groups: str = "", kind: str = "") -> str:
    """A table that scrolls sideways where it must; cells are HTML, the first of a row is its heading.

    groups  HTML of a row above the headings
    kind    how it is laid out: matrix, dense, fit or empty
    """
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(_cell(c) for c in row[1:]) + "</tr>\n" for row in rows
    )
    return (
        f'<div class="scroll {kind}"><table><thead>{groups}<tr>{top}</tr></thead>\n'
        f"<tbody>\n{lines}</tbody></table></div>"
    )


def _cell(html: str) -> str:
    return html if html.startswith("<td") else f"<td>{html}</td>"


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, both plain text."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>\n" for k, v in pairs) + "</dl>"


def divided(html: str) -> str:
    """A cell with a line before it, where a group of columns begins."""
    return f'<td class="first">{html}</td>'


def pill(text: str, kind: str) -> str:
    """A short coloured word; kind is good, fair, bad or empty."""
    return f'<span class="pill {kind}">{escape(text)}</span>'


def banner(head: str, text: str, kind: str = "") -> str:
    """Something nobody may overlook."""
    return f'<div class="banner {kind}" role="alert"><strong>{escape(head)}</strong>{escape(text)}</div>'


def track(low: float | None, value: float | None, high: float | None) -> str:
    """A bar from 0 to 1 with an interval and a mark."""
    if value is None:
        return '<div class="track"></div>'
    span = ""
    if low is not None and high is not None:
        span = f'<i style="left:{100 * low:.2f}%;width:{100 * max(high - low, 0.002):.2f}%"></i>'
    return f'<div class="track">{span}<b style="left:{100 * value:.2f}%"></b></div>'
