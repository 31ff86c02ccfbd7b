"""Write a study's result: JSON, HTML and Markdown, and the table that a console shows at the end."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from host_tools.study.html import to_html
from host_tools.study.markdown import to_markdown
from host_tools.study.result import StudyResult, to_json


def write_reports(result: StudyResult, out: Path, publish: Path | None = None) -> list[Path]:
    """Write `report.json`, `report.html` and `report.md` in `out`, and the same under the study's name in `publish`."""
    texts = {"json": to_json(result), "html": to_html(result), "md": to_markdown(result)}
    files = []
    for folder, stem in ((out, "report"), (publish, result.name)):
        if folder is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            file = folder / f"{stem}.{ending}"
            file.write_text(text)
            files.append(file)
    return files


def verdicts(result: StudyResult) -> list[dict[str, object]]:
    """Every claim with its verdict, as plain values."""
    return [{**asdict(c), "verdict": c.verdict} for c in result.claims]
