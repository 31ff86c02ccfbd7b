"""All that a study found, as one value that is written to and read from JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.step import Table
from host_tools.tasks.task import Metric

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval, where one could be had."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model: a row on a fold with a seed. `figures` are those of its test examples."""

    fold: str
    seed: int
    figures: dict[str, float | None]
    refused: tuple[str, ...]
    seconds: float
    key: str


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """A line of the table.

    figures      over the test examples of all folds together, mean of the seeds; intervals by resampling groups
    per_group    the metric of each group with several examples, sorted from worst to best; empty if there are none
    worst_decile the metric's mean over the worst tenth of the groups
    size         of the first cell's ONNX file, and of the same compressed by zlib
    integer_layers  that compute in integers in ONNX Runtime, and all there are; litert_layers of the same in LiteRT,
                 None where LiteRT is not installed or lacks an operator
    latency_us   median of one call, one example, one thread
    """

    name: str
    note: str
    steps: tuple[str, ...]
    cells: tuple[Cell, ...]
    figures: dict[str, Estimate]
    parameters: int
    macs: int
    file_bytes: int
    compressed_bytes: int
    integer_layers: tuple[int, int]
    latency_us: float | None
    per_group: tuple[tuple[str, float], ...]
    worst_decile: float | None
    tables: tuple[Table, ...]
    litert_layers: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a row has no model on a fold with a seed."""

    fold: str
    seed: int
    reason: str

    def to_text(self) -> str:
        """Where and why."""
        return f"fold {self.fold}, seed {self.seed}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class RefusedRow:
    """A row without figures: on at least one fold and seed a step could not be taken, or its result not be exported.

    cells  that the row should have had
    """

    name: str
    note: str
    refusals: tuple[Refusal, ...]
    cells: int

    @property
    def why(self) -> str:
        """The first refusal, and how many there are."""
        first = self.refusals[0].to_text()
        return first if self.cells == 1 else f"{first} ({len(self.refusals)} of {self.cells} models)"


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """What the table must show, and what it shows."""

    title: str
    row: str
    against: str
    figure: str
    found: Estimate
    floor: float | None
    goal: float | None
    at_most: bool

    @property
    def verdict(self) -> str:
        """goal met, floor met, missed, or reported where nothing was asked for."""
        if self.found.value is None:
            return "not measured"
        # Of a gain the lower end of the interval must do for the floor; every other figure counts by itself.
        sure = self.found.low if self.figure == "gain" and self.found.low is not None else self.found.value
        if self.floor is None and self.goal is None:
            return "reported"
        if not (self.floor is None or self._reaches(sure, self.floor)):
            return "missed"
        if self.goal is not None and self._reaches(self.found.value, self.goal):
            return "goal met"
        return "missed" if self.floor is None else "floor met"

    def _reaches(self, value: float, limit: float) -> bool:
        return value <= limit if self.at_most else value >= limit


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """The whole table with its conditions."""

    schema: int
    name: str
    title: str
    note: str
    task: str
    data: str
    metric: Metric
    classes: tuple[str, ...]
    study_sha256: str
    seeds: tuple[int, ...]
    folds: tuple[str, ...]
    pairing: str
    command: str
    commit: str
    machine: str
    created: str
    seconds: float
    rows: tuple[RowResult, ...]
    claims: tuple[ClaimResult, ...]
    refused: tuple[RefusedRow, ...] = ()


def to_json(result: StudyResult) -> str:
    """One JSON document; numbers that are none become null."""
    return json.dumps(_plain(asdict(result)), indent=1, allow_nan=False) + "\n"


def from_json(path: Path) -> StudyResult:
    """Read what `to_json` wrote; raises SettingsError."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); the JSON of a study wanted") from error
    return build(StudyResult, value, str(path), SettingsError)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
