"""What travels back from a device: conditions, latency with its raw values, memory, cold start, readings."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_runtime.contract.errors import EdgeError
from edge_runtime.contract.signal import AAMI_CLASSES, Ledger, Reading
from edge_runtime.contract.strict import build

SCHEMA = 1
IntArray = NDArray[np.int64]

MAX_NS = 2**32 - 1  # a value of 4.29 s stands for "4.29 s or more"
CONFIDENCE_STEPS = 10_000  # confidences travel as whole ten-thousandths, as they are printed
NO_CLASS = "-"
CONFIDENCE_LEVEL = 0.99
NO_VALUE = -(2**31)
VALUE_STEPS = 1000  # numbers travel as whole thousandths


class ReportError(EdgeError):
    """A report is damaged, contradicts itself, or is newer than this reader."""


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
class Latency:
    """Times of one stage, each call timed singly; made by `latency`.

    p*_ns    nearest-rank percentiles; None where there are too few calls to claim one, named in `refused`
    values   all of them in order of time: base64 of zlib of little-endian uint32 nanoseconds; empty in a summary
    """

    stage: str
    n: int
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None
    max_ns: int | None
    refused: str
    values: str

    @property
    def values_ns(self) -> IntArray:
        """All times in nanoseconds; int64 (n,)."""
        return unpack(self.values, "<u4", f"latency of {self.stage}")


def latency(stage: str, values_ns: ArrayLike) -> Latency:
    """Summary of the times of one stage; refuses percentiles that the number of calls cannot support."""
    values = np.minimum(np.asarray(values_ns, np.int64).reshape(-1), MAX_NS)
    p = {p: _percentile(values, p) for p in (50, 95, 99)}
    refused = "; ".join(f"p{p}: {len(values)} calls, {min_calls(p)} wanted" for p, value in p.items() if value is None)
    return Latency(
        stage=stage,
        n=len(values),
        p50_ns=p[50],
        p95_ns=p[95],
        p99_ns=p[99],
        max_ns=int(values.max()) if len(values) else None,
        refused=refused,
        values=pack(values, "<u4"),
    )


def without_values(full: Latency) -> Latency:
    """The summary alone, where the raw values are kept in another file."""
    return replace(full, values="")


def min_calls(percentile: float) -> int:
    """Fewest calls from which a percentile may be claimed with confidence 0.99.

    Source: MLPerf Inference rules, early stopping: the smallest n for which at most one of n calls lies above
    the true percentile with probability <= 0.01; 64 for p90, 662 for p99, 6,636 for p99.9.
    """
    above = 1.0 - percentile / 100.0
    n = 1
    while (1 - above) ** n + n * above * (1 - above) ** (n - 1) > 1.0 - CONFIDENCE_LEVEL:
        n += 1
    return n


def _percentile(values: IntArray, p: int) -> int | None:
    if len(values) < min_calls(p):
        return None
    return int(np.sort(values)[math.ceil(p * len(values) / 100) - 1])


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
class WindowReadings:
    """What the device said about the windows of one record, in order of time; made by `window_readings`.

    labels       the classes; empty if the values are numbers
    samples      of the windows' ends, in the record's own samples: base64 of zlib of little-endian uint32
    values       indices of classes, or thousandths of numbers; -2**31 for none: the same of int32
    confidences  the same of uint16 ten-thousandths
    """

    labels: tuple[str, ...]
    n: int
    samples: str
    values: str
    confidences: str

    @property
    def at(self) -> IntArray:
        """Positions; int64 (n,)."""
        return unpack(self.samples, "<u4", "samples of windows")

    @property
    def numbers(self) -> NDArray[np.float64]:
        """Indices of classes, or numbers; NaN where there is none. float64 (n,)."""
        whole = unpack(self.values, "<i4", "values of windows")
        return np.where(whole == NO_VALUE, np.nan, whole / (1 if self.labels else VALUE_STEPS))

    @property
    def sure(self) -> NDArray[np.float64]:
        """Confidences; float64 (n,)."""
        return unpack(self.confidences, "<u2", "confidences of windows") / CONFIDENCE_STEPS


def window_readings(readings: Sequence[Reading], classes: tuple[str, ...]) -> WindowReadings:
    """Readings of windows as they travel."""
    whole = [
        NO_VALUE
        if r.value is None
        else classes.index(r.value)
        if isinstance(r.value, str)
        else max(NO_VALUE + 1, min(-NO_VALUE - 1, round(r.value * VALUE_STEPS)))
        for r in readings
    ]
    return WindowReadings(
        labels=classes,
        n=len(readings),
        samples=pack([r.sample for r in readings], "<u4"),
        values=pack(whole, "<i4"),
        confidences=pack([round((r.confidence or 0.0) * CONFIDENCE_STEPS) for r in readings], "<u2"),
    )


@dataclass(frozen=True, kw_only=True)
class RecordResult:
    """What the device said about one record; made by `record_result`.

    windows      readings of windows; None, as are the beats empty, where the bundle is of the other kind
    samples      positions in the record's own samples: base64 of zlib of little-endian uint32
    classes      one letter per beat, N S V F Q; "-" where the beat could not be classified
    confidences  base64 of zlib of little-endian uint16 ten-thousandths
    max_delay_s  longest signal time from an R peak to the newest sample its reading needed
    """

    name: str
    rate_hz: float
    ledger: Ledger
    signal_s: float
    wall_s: float
    max_delay_s: float | None
    n_beats: int
    samples: str
    classes: str
    confidences: str
    windows: WindowReadings | None = None

    @property
    def real_time_factor(self) -> float:
        """Seconds of signal per second of work."""
        return self.signal_s / self.wall_s if self.wall_s > 0 else math.inf

    @property
    def beat_samples(self) -> IntArray:
        """Positions of the beats; int64 (n_beats,)."""
        return unpack(self.samples, "<u4", f"samples of {self.name}")

    @property
    def beat_classes(self) -> IntArray:
        """Classes as index into AAMI_CLASSES; an unclassified beat is a Q. int64 (n_beats,)."""
        return np.array([class_index(c) for c in self.classes], np.int64)

    @property
    def beat_confidences(self) -> NDArray[np.float64]:
        """Confidences; float64 (n_beats,)."""
        return unpack(self.confidences, "<u2", f"confidences of {self.name}") / CONFIDENCE_STEPS


def class_index(letter: str) -> int:
    """Index into AAMI_CLASSES of a reading's class; what was not classified is a Q."""
    return AAMI_CLASSES.index("Q" if letter == NO_CLASS else letter)


def record_result(
    name: str,
    *,
    rate_hz: float,
    readings: Sequence[Reading],
    ledger: Ledger,
    wall_s: float,
    max_delay_s: float | None = None,
    windows: WindowReadings | None = None,
) -> RecordResult:
    """Result of one record from its readings, of which only beats are kept, and from what windows said."""
    beats = [r for r in readings if r.name == "beat"]
    confidence = [round((r.confidence or 0.0) * CONFIDENCE_STEPS) for r in beats]
    return RecordResult(
        name=name,
        rate_hz=rate_hz,
        ledger=ledger,
        signal_s=ledger.received / rate_hz,
        wall_s=wall_s,
        max_delay_s=max_delay_s,
        n_beats=len(beats),
        samples=pack([r.sample for r in beats], "<u4"),
        classes="".join(NO_CLASS if r.value is None else str(r.value) for r in beats),
        confidences=pack(confidence, "<u2"),
        windows=windows,
    )


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
        _check_record(record, where)
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


def _check_record(record: RecordResult, where: str) -> None:
    unknown = set(record.classes) - {*AAMI_CLASSES, NO_CLASS}
    if unknown:
        raise ReportError(f"{where}: record {record.name}: unknown class {sorted(unknown)[0]!r}")
    lengths = {len(record.beat_samples), len(record.classes), len(record.beat_confidences)}
    if lengths != {record.n_beats}:
        raise ReportError(f"{where}: record {record.name}: {sorted(lengths)} beats; {record.n_beats} wanted")
    if record.windows is not None:
        _check_windows(record.windows, f"{where}: record {record.name}")
    if not record.ledger.is_balanced:
        raise ReportError(f"{where}: record {record.name}: ledger does not balance ({record.ledger})")


def _check_windows(windows: WindowReadings, where: str) -> None:
    lengths = {len(windows.at), len(windows.numbers), len(windows.sure)}
    if lengths != {windows.n}:
        raise ReportError(f"{where}: {sorted(lengths)} readings; {windows.n} wanted")
    known = windows.numbers[~np.isnan(windows.numbers)]
    if windows.labels and len(known) and not 0 <= known.min() <= known.max() < len(windows.labels):
        raise ReportError(f"{where}: class {known.max():g}; 0 to {len(windows.labels) - 1} wanted")


def pack(values: ArrayLike, dtype: str) -> str:
    """Whole numbers as base64 of zlib of `dtype`, such as "<u4"; raises ValueError if one does not fit."""
    whole = np.asarray(values, np.int64).reshape(-1)
    limits = np.iinfo(dtype)
    if len(whole) and (whole.min() < limits.min or whole.max() > limits.max):
        raise ValueError(f"values from {whole.min()} to {whole.max()} do not fit {dtype}")
    return base64.b64encode(zlib.compress(whole.astype(dtype).tobytes(), 9)).decode("ascii")


def unpack(text: str, dtype: str, what: str) -> IntArray:
    """Whole numbers from `pack`, int64 (n,); raises ReportError naming `what` if the text is damaged."""
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
        return np.frombuffer(raw, dtype).astype(np.int64)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ReportError(f"{what}: damaged ({error})") from error
