"""Two tables over the published studies, from their JSON alone: from the teachers to INT8, and what INT8 saves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.errors import SettingsError
from host_tools.measure.cells import NONE, size
from host_tools.measure.intervals import bootstrap_difference
from host_tools.measure.study import StepResult, StudyReport
from host_tools.measure.study import from_json as report_from_json
from host_tools.study.claims import find, points_lost
from host_tools.study.plan import Claim
from host_tools.study.result import Estimate, RowResult, StudyResult, from_json
from host_tools.study.statistics import share_of

TEACHERS = "From the teachers to INT8"
SAVED = "What INT8 saves"
CHAIN = "ecg-beats"  # not a study: its report.json is the recipe's


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a table: an INT8 row of a study beside another of its rows."""

    title: str
    study: str
    row: str = "distilled, INT8"
    against: str = "student distilled"


FROM_TEACHERS = (
    Line(title="chest-xray", study="chest-xray", against="ResNet-50 (teacher)"),
    Line(
        title="the same, one scale per tensor",
        study="chest-xray",
        row="distilled, INT8, one scale per tensor",
        against="ResNet-50 (teacher)",
    ),
    Line(title="icu-mortality", study="icu-mortality", against="teachers"),
    Line(title="heart-disease", study="heart-disease", against="teachers"),
    Line(title="ecg-beats, in a stream", study=CHAIN, row="INT8", against="teacher"),
    Line(title="ecg-beats-oracle", study="ecg-beats-oracle", row="student, INT8", against="teachers"),
    Line(title="breast-cancer", study="breast-cancer", against="teachers"),
    Line(title="ppg-respiration", study="ppg-respiration", against="teachers"),
    Line(title="ppg-heart-rate", study="ppg-heart-rate", against="teachers"),
    Line(
        title="ecg-rhythm, one scale per tensor",
        study="ecg-rhythm",
        row="distilled, INT8, one scale per tensor",
        against="three students",
    ),
)
OVER_FP32 = (
    Line(title="ppg-heart-rate, one scale per channel", study="ppg-heart-rate"),
    Line(title="ecg-rhythm, one scale per tensor", study="ecg-rhythm", row="distilled, INT8, one scale per tensor"),
    Line(
        title="MobileNet of chest X-rays, one scale per tensor",
        study="chest-xray-quantization",
        row="INT8, one scale per tensor",
        against="MobileNet, fp32",
    ),
    Line(title="ecg-rhythm, one scale per channel", study="ecg-rhythm"),
    Line(
        title="MobileNetV2 of chest X-rays, one scale per tensor",
        study="chest-xray",
        row="distilled, INT8, one scale per tensor",
        against="MobileNetV2 distilled",
    ),
    Line(
        title="MobileNet of chest X-rays, one scale per channel, integer operators",
        study="chest-xray-quantization",
        row="INT8, integer operators",
        against="MobileNet, fp32",
    ),
    Line(title="ecg-beats-oracle", study="ecg-beats-oracle", row="student, INT8", against="student alone"),
    Line(title="ppg-respiration", study="ppg-respiration"),
    Line(title="icu-mortality", study="icu-mortality"),
    Line(
        title="MobileNetV2 of chest X-rays, one scale per channel",
        study="chest-xray",
        against="MobileNetV2 distilled",
    ),
    Line(title="breast-cancer", study="breast-cancer"),
    Line(title="heart-disease", study="heart-disease"),
    Line(title="ecg-beats (the shipped student)", study=CHAIN, row="INT8", against="pruned"),
)


def size_tables(published: Path) -> str:
    """Both tables as Markdown, from the folder of published JSON; raises SettingsError for what is not there."""
    read = _Published(published)
    heads = ("task", "fp32 teachers", "INT8", "times smaller", "points lost, 95 % interval")
    teachers = _table(heads, "---:|---:|---:|---", map(read.from_teachers, FROM_TEACHERS))
    saved = _table(
        ("network", "file", "sent", "points lost, 95 % interval"), "---:|---:|---", map(read.saved, OVER_FP32)
    )
    return "\n".join((f"### {TEACHERS}", "", *teachers, "", f"### {SAVED}", "", *saved))


def published_share(result: StudyResult) -> float:
    """Test examples over training examples, as a published interval holds it; 0 where they are over several runs."""
    if result.pairing != "one-to-one" and len({c.seed for c in result.rows[0].cells}) > 1:
        return 0.0
    for claim in result.claims:
        if claim.figure in ("gain", "points lost") and claim.found.low is not None:
            lost = points_lost(_row(result, claim.row), _row(result, claim.against), result.metric) or {}
            return share_of(claim.found, [x for points in lost.values() for x in points])
    raise SettingsError(f"{result.name}: no published interval over folds, so there can be none of other rows")


class _Published:
    """What lies in the folder, each file read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._studies: dict[str, StudyResult] = {}
        self._report: StudyReport | None = None

    def from_teachers(self, line: Line) -> Sequence[str]:
        before, after = self._bytes(line)
        times = before[0] / after[0]
        shown = f"{times:.1f}" if times < 50 else f"{times:,.0f}"
        return (line.title, size(before[0]), size(after[0]), shown, _interval(self._lost(line)))

    def saved(self, line: Line) -> Sequence[str]:
        before, after = self._bytes(line)
        shares = [
            NONE if a is None or b is None else f"{100 * (1 - b / a):.1f} %" for a, b in zip(before, after, strict=True)
        ]
        return (line.title, *shares, _interval(self._lost(line)))

    def _bytes(self, line: Line) -> tuple[tuple[int, int | None], tuple[int, int | None]]:
        """Of both files: as they lie, and compressed, where that was taken."""
        if line.study == CHAIN:
            steps = [self._step(line.against), self._step(line.row)]
            return (steps[0].model_bytes, None), (steps[1].model_bytes, None)
        rows = [_row(self._study(line.study), name) for name in (line.against, line.row)]
        return (rows[0].file_bytes, rows[0].compressed_bytes), (rows[1].file_bytes, rows[1].compressed_bytes)

    def _lost(self, line: Line) -> Estimate:
        if line.study == CHAIN:
            before, after = self._step(line.against).test, self._step(line.row).test
            found = bootstrap_difference(before.counts, after.counts)["macro_f1"]
            points = [None if x is None else 100 * x for x in (found.value, found.low, found.high)]
            return Estimate(value=points[0], low=points[1], high=points[2], n=found.n_records)
        result = self._study(line.study)
        rows = {name: _row(result, name) for name in (line.row, line.against)}
        claim = Claim(title=line.title, row=line.row, against=line.against, figure="points lost")
        return find(claim, rows, result.metric, result.pairing, published_share(result), {})

    def _study(self, name: str) -> StudyResult:
        if name not in self._studies:
            self._studies[name] = from_json(self._folder / f"{name}.json")
        return self._studies[name]

    def _step(self, name: str) -> StepResult:
        """The one whose name begins so."""
        if self._report is None:
            path = self._folder / CHAIN / "report.json"
            try:
                self._report = report_from_json(path.read_text(), str(path))
            except OSError as error:
                raise SettingsError(f"{path}: cannot be read ({error.strerror}); the recipe's report wanted") from error
        return next(s for s in self._report.steps if s.name.startswith(name))


def _row(result: StudyResult, name: str) -> RowResult:
    for row in result.rows:
        if row.name == name:
            return row
    raise SettingsError(f"{result.name}: no row {name!r}; rows are {', '.join(r.name for r in result.rows)}")


def _interval(found: Estimate) -> str:
    if found.value is None or found.low is None or found.high is None:
        return NONE
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _table(heads: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield f"|---|{sides}|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)
