"""What travels back from a device: conditions, latency with its raw values, memory, cold start, readings."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from edge_runtime.contract.errors import ReportError
from edge_runtime.contract.latency import Latency, latency
from edge_runtime.contract.record_result import RecordResult, check_record
from edge_runtime.contract.strict import build

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Probe:
    """State of the machine at one moment; None where it does not say.

    throttled        what the board complains of, in words; empty if of nothing
    idle_percent     of all CPUs, over 0.3 s; asked only before the run
    swap_used_bytes  by anyone
    """

    frequency_mhz: float | None = None
    temperature_c: float | None = None
    throttled: tuple[str, ...] | None = None
    idle_percent: float | None = None
    swap_used_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Where and how a measurement was made.

    engine    name of the inference library; `provider` is the backend it really used
    scenario  how calls were made, in MLPerf's words: "SingleStream, closed loop"
    started   wall time, ISO 8601 with zone
    reasons   why the run is INVALID; empty exactly if it is VALID
    """

    board: str
    machine: str
    os: str
    kernel: str
    cpu_model: str
    n_cpus: int
    governor: str | None
    python: str
    numpy: str
    runtime: str
    engine: str
    engine_version: str
    provider: str
    threads: int
    bundle_id: str
    bundle_sha256: str
    scenario: str
    started: str
    before: Probe
    after: Probe
    verdict: Literal["VALID", "INVALID"]
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a verdict that contradicts its reasons."""
        if (self.verdict == "VALID") == bool(self.reasons):
            raise ReportError(f"conditions: {self.verdict} with {len(self.reasons)} reasons against it")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of the measured process in bytes; None where the system does not say.

    baseline_rss_bytes  before the inference library was imported
    """

    baseline_rss_bytes: int | None
    peak_rss_bytes: int | None
    pss_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Time from process start to the first reading's inference, in milliseconds.

    page_cache  "warm": all files were in memory; "cold": some came from the disk; "unknown": the system does not say
    """

    import_ms: float
    load_ms: float
    first_inference_ms: float
    page_cache: Literal["warm", "cold", "unknown"] = "unknown"


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Everything one run on one device brings back.

    overhead_ns  cost of timing one call, already contained in every latency
    """

    schema: int = SCHEMA
    simulated: bool
    conditions: Conditions
    latencies: tuple[Latency, ...]
    overhead_ns: int
    memory: Memory
    cold_start: ColdStart
    records: tuple[RecordResult, ...]

    @property
    def real_time_factor(self) -> float:
        """Seconds of signal per second of work over all records."""
        wall_s = sum(r.wall_s for r in self.records)
        return sum(r.signal_s for r in self.records) / wall_s if wall_s > 0 else math.inf

    def latency(self, stage: str) -> Latency:
        """The latency of a stage; raises ReportError naming the stages that exist."""
        for found in self.latencies:
            if found.stage == stage:
                return found
        stages = ", ".join(found.stage for found in self.latencies)
        raise ReportError(f"report: no stage '{stage}'; stages are {stages}")


def to_json(report: BenchReport) -> str:
    """The report as JSON text."""
    return json.dumps(asdict(report), indent=1, allow_nan=False) + "\n"


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Make sure before a long measurement that its report can be written to `path`; raises OSError if not.

    Missing folders are made. If the measurement fails, an empty file that was made here goes again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a"):
        pass
    try:
        yield
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise


def from_json(text: str, where: str) -> BenchReport:
    """Read a report; raises ReportError for a newer schema, unknown keys, or contradictions inside.

    where  how the file is named in messages
    """
    report = build(BenchReport, checked_schema(text, where, SCHEMA), where, ReportError)
    for found in report.latencies:
        # Two machines' zlib may pack the same values differently.
        if replace(latency(found.stage, found.values_ns), values=found.values) != found:
            raise ReportError(f"{where}: latency of {found.stage} does not fit its raw values")
    for record in report.records:
        check_record(record, where)
    return report


def checked_schema(text: str, where: str, newest: int) -> object:
    """JSON text whose `schema` is not newer than `newest`; raises ReportError otherwise."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ReportError(f"{where}: not JSON ({error})") from error
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, int):
        raise ReportError(f"{where}: schema is {schema!r}; a number wanted")
    if schema > newest:
        raise ReportError(f"{where}: schema is {schema}; this program reads up to {newest}, so update it")
    return value
