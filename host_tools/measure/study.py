"""What a study found, as one value: models, figures, requirements, strips, device (report.json)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from edge_runtime.contract.errors import ReportError
from edge_runtime.contract.latency import Latency
from edge_runtime.contract.packed import unpack
from edge_runtime.contract.report import ColdStart, Conditions, Memory, checked_schema
from edge_runtime.contract.signal import Float64Array
from edge_runtime.contract.strict import build
from host_tools.measure.intervals import Interval, bootstrap
from host_tools.measure.score import (
    LABELS,
    IntArray,
    RecordScore,
    TimingError,
    timing_error,
)

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class RecordCounts:
    """Confusion counts of one record: rows reference N S V F Q none, columns detected N S V F Q none."""

    name: str
    counts: tuple[tuple[int, ...], ...]

    @property
    def array(self) -> IntArray:
        """The counts as int64 (6, 6)."""
        return np.array(self.counts, np.int64)


def record_counts(scores: Sequence[RecordScore]) -> tuple[RecordCounts, ...]:
    """Counts of scored records, as they are kept."""
    return tuple(RecordCounts(name=s.name, counts=tuple(map(tuple, s.counts.tolist()))) for s in scores)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Accuracy on a set of records.

    title  which model on which records, in words
    """

    title: str
    records: tuple[RecordCounts, ...]
    timing: TimingError | None = None

    @property
    def counts(self) -> IntArray:
        """Counts of all records; int64 (records, 6, 6)."""
        return np.array([r.counts for r in self.records], np.int64).reshape(-1, len(LABELS), len(LABELS))

    def intervals(self, seed: int = 0) -> dict[str, Interval]:
        """All figures with their 95 % record-bootstrap intervals, by the names of score.FIGURES."""
        return bootstrap(self.counts, seed=seed)

    def without(self, *names: str) -> Accuracy:
        """The same without some records; timing is not known then."""
        kept = tuple(r for r in self.records if r.name not in names)
        return Accuracy(title=f"{self.title}, without {', '.join(names)}", records=kept)


def accuracy(title: str, scores: Sequence[RecordScore]) -> Accuracy:
    """Accuracy of scored records."""
    return Accuracy(title=title, records=record_counts(scores), timing=timing_error(scores))


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One model of the chain: teacher, student, distilled, pruned, int8.

    macs_per_s   multiply-accumulates per second of signal
    model_bytes  of the exported files
    latency      of one streaming step on the machine that the report names; None if it does not stream
    """

    name: str
    parameters: int
    macs_per_s: float
    model_bytes: int
    test: Accuracy
    latency: Latency | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A figure that the project promises something about, in the unit a reader sees.

    floor, goal  least and wished-for value; None where nothing is promised
    """

    name: str
    unit: str
    value: float | None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"
    note: str = ""

    @property
    def verdict(
        self,
    ) -> Literal["goal met", "floor met", "missed", "goal missed", "reported", "not measured"]:
        """How the value stands to floor and goal."""
        if self.value is None:
            return "not measured"
        if self.goal is not None and self._meets(self.goal):
            return "goal met"
        if self.floor is not None:
            return "floor met" if self._meets(self.floor) else "missed"
        return "reported" if self.goal is None else "goal missed"

    def _meets(self, limit: float) -> bool:
        value = self.value if self.value is not None else np.nan
        return value >= limit if self.better == "higher" else value <= limit


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """Macro-F1 (N, S, V), in percent, of the same student with and without its teacher, from one seed."""

    seed: int
    distilled: float
    alone: float


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A beat on a strip: position in the record's samples, class letter."""

    sample: int
    label: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A few seconds of ECG to look at.

    start      sample of the record at which the strip begins
    signal_uv  microvolts: base64 of zlib of little-endian int32
    reference  beats of the annotation inside the strip; `detected` those of the model
    """

    title: str
    record: str
    lead: str
    rate_hz: float
    start: int
    signal_uv: str
    reference: tuple[Mark, ...]
    detected: tuple[Mark, ...]

    @property
    def signal_mv(self) -> Float64Array:
        """The signal in millivolts; float64 (n,)."""
        return unpack(self.signal_uv, "<i4", f"strip of {self.record}") / 1000.0


@dataclass(frozen=True, kw_only=True)
class HostAgainstDevice:
    """Whether two runs of one bundle said the same, and how fast each was.

    beats  of the run with more of them; `equal_beats` have the same position and class in both
    """

    host: str
    device: str
    records: int
    beats: int
    equal_beats: int
    first_difference: str
    max_confidence_difference: float
    host_latencies: tuple[Latency, ...]

    @property
    def is_equal(self) -> bool:
        """Whether every beat is the same."""
        return self.equal_beats == self.beats


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """All that a study found.

    data       which records were trained on and tested on, in words
    test       the headline: the shipped model, streaming, on the device; `apart` are further sets
    device_*   from the device's bench report
    notes      what a reader must know before believing a figure
    """

    schema: int = SCHEMA
    title: str
    created: str
    command: str
    commit: str
    recipe: str
    seed: int
    data: str
    simulated: bool
    requirements: tuple[Requirement, ...]
    steps: tuple[StepResult, ...]
    test: Accuracy
    apart: tuple[Accuracy, ...] = ()
    seeds: tuple[SeedRun, ...] = ()
    strips: tuple[Strip, ...] = ()
    device_conditions: Conditions
    device_latencies: tuple[Latency, ...]
    device_overhead_ns: int
    device_memory: Memory
    device_cold_start: ColdStart
    device_real_time_factor: float
    against_host: HostAgainstDevice | None = None
    notes: tuple[str, ...] = ()


def to_json(report: StudyReport) -> str:
    """The study as the text of report.json."""
    return json.dumps(asdict(report), allow_nan=False) + "\n"


def from_json(text: str, where: str) -> StudyReport:
    """Read report.json; raises ReportError for a newer schema, unknown or missing keys."""
    return build(StudyReport, checked_schema(text, where, SCHEMA), where, ReportError)
