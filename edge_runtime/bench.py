"""Measure a bundle on this device: labelled or unlabelled records through the pipeline, every call timed singly."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import edge_runtime
from edge_runtime import probes
from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import MANIFEST, Bundle, file_sha256, open_bundle
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.latency import Latency, latency
from edge_runtime.contract.manifest import BeatManifest, Graph, Manifest, Precision, WindowManifest
from edge_runtime.contract.record_result import RecordResult, record_result
from edge_runtime.contract.report import BenchReport, ColdStart, Conditions, Memory, Probe
from edge_runtime.contract.signal import Block, Reading, StreamSpec
from edge_runtime.contract.strict import build
from edge_runtime.contract.window_readings import window_readings
from edge_runtime.engine.engine import Engine, Stepper
from edge_runtime.forms import EngineWish, open_form
from edge_runtime.golden import stream_spec
from edge_runtime.pipeline import Pipeline

HOP = "hop"  # stage name: all samples of one hop in, readings out
WARM_UP_BATCH, WARM_UP_MOST, SETTLED = 100, 30, 0.05
BUSY_PERCENT = 5.0
RECORDS = "records.json"
RECORDS_SCHEMA = 2
WINDOW_BLOCK_S = 0.1

Clock = Callable[[], int]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class StoredRecord:
    """A record to replay: an .npy file of integers or floats, (n,) or (n, channels); sample = value * scale."""

    name: str
    file: str
    rate_hz: float
    scale: float
    unit: str
    channels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StoredRecords:
    """The content of `records.json`."""

    schema: int
    simulated: bool
    records: tuple[StoredRecord, ...]


def read_records(folder: Path) -> StoredRecords:
    """Read `records.json`; raises SettingsError if it is not one."""
    place = folder / RECORDS
    try:
        value = json.loads(place.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{place}: cannot be read ({error}); a list of records wanted") from error
    stored = build(StoredRecords, value, str(place), SettingsError)
    if stored.schema > RECORDS_SCHEMA:
        raise SettingsError(f"{place}: schema is {stored.schema}; this runtime reads up to {RECORDS_SCHEMA}")
    return stored


class TimedEngine:
    """An engine whose steppers note how long each step took."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.name, self.version, self.provider = engine.name, engine.version, engine.provider
        self._engine, self._clock = engine, clock
        self.step_ns: dict[str, list[int]] = {}

    def load(self, bundle: Bundle, graph: Graph) -> Stepper:
        """Load a graph and time its steps."""
        return _TimedStepper(self._engine.load(bundle, graph), self.step_ns.setdefault(graph.name, []), self._clock)


class _TimedStepper:
    def __init__(self, stepper: Stepper, step_ns: list[int], clock: Clock) -> None:
        self.inputs, self.outputs, self.reset = stepper.inputs, stepper.outputs, stepper.reset
        self._step, self._step_ns, self._clock = stepper.step, step_ns, clock

    def step(self) -> None:
        begun = self._clock()
        self._step()
        self._step_ns.append(self._clock() - begun)


def measure(
    bundle_path: Path,
    records_folder: Path,
    *,
    threads: int = 1,
    engine: EngineWish = "auto",
    precision: Precision | None = None,
    provider: str = "cpu",
    allow_fallback: bool = False,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter_ns,
    root: Path = probes.ROOT,
) -> BenchReport:
    """Replay the records in `records_folder` and measure; the first thing a fresh process should do.

    engine, precision, provider, allow_fallback  which form runs where, see `open_form`
    Cold start is that of this very process, so call it once per process.
    """
    baseline = probes.memory(root=root)
    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    before, busy = probes.machine_state(root), _busy_percent()
    begun = clock()
    whole = open_bundle(bundle_path)
    opened_ns = clock() - begun
    bundle, library = open_form(whole, engine, precision, threads, provider=provider, allow_fallback=allow_fallback)
    timed = TimedEngine(library, clock)
    import_ms = 1e3 * (_process_age_s() - _BUSY_WINDOW_S) - opened_ns / 1e6
    begun = clock() - opened_ns
    stored = read_records(records_folder)
    step = bundle.manifest.step_graph.name
    pipeline = open_pipeline(bundle, stream_spec(bundle, bundle.manifest.golden.rate_hz), timed)
    loaded = clock()
    _feed_until_step(pipeline, bundle.manifest, timed.step_ns[step])
    first_ns = timed.step_ns[step][0]
    page_cache = _page_cache(probes.bytes_from_disk(root=root))
    _warm_up(bundle, timed, clock)
    for times in timed.step_ns.values():
        times.clear()
    hop_ns: list[int] = []
    results = []
    for i, record in enumerate(stored.records):
        results.append(_replay(bundle, timed, records_folder, record, hop_ns, clock))
        if progress is not None:
            progress(record.name, i + 1, len(stored.records))
    after = probes.machine_state(root)
    used = probes.memory(root=root)
    latencies: list[Latency] = [latency(HOP, hop_ns), latency(step, timed.step_ns[step])]
    latencies += [latency(name, times) for name, times in timed.step_ns.items() if name != step and times]
    return BenchReport(
        simulated=stored.simulated,
        conditions=_conditions(bundle, library, threads, started, before, after, busy, root),
        latencies=tuple(latencies),
        overhead_ns=_overhead_ns(clock),
        memory=Memory(
            baseline_rss_bytes=baseline.rss_bytes,
            peak_rss_bytes=used.peak_rss_bytes,
            pss_bytes=used.pss_bytes,
        ),
        cold_start=ColdStart(
            import_ms=round(import_ms, 1),
            load_ms=(loaded - begun) / 1e6,
            first_inference_ms=first_ns / 1e6,
            page_cache=page_cache,
        ),
        records=tuple(results),
    )


def _replay(
    bundle: Bundle, engine: TimedEngine, folder: Path, record: StoredRecord, hop_ns: list[int], clock: Clock
) -> RecordResult:
    """One record, fed in small blocks as a wearable would send it; a hop's time is that of all its blocks."""
    values = np.load(folder / record.file, mmap_mode="r", allow_pickle=False)
    spec = StreamSpec(rate_hz=record.rate_hz, unit=record.unit, channels=record.channels)
    pipeline = open_pipeline(bundle, spec, engine)
    m = bundle.manifest
    size = _block_samples(m, record.rate_hz)
    steps = engine.step_ns[m.step_graph.name]
    readings: list[Reading] = []
    delay = spent = 0
    begun = clock()
    for start in range(0, len(values), size):
        block = Block(start=start, samples=scaled(values[start : start + size], record.scale))
        n_steps, before = len(steps), clock()
        new = pipeline.feed(block)
        spent += clock() - before
        if len(steps) > n_steps:
            hop_ns.append(spent)
            spent = 0
        readings += new
        delay = max([delay, *(block.stop - r.sample for r in new)])
    readings += pipeline.finish()
    wall_s = (clock() - begun) / 1e9
    return record_result(
        record.name,
        rate_hz=record.rate_hz,
        readings=readings,
        ledger=pipeline.ledger,
        wall_s=wall_s,
        max_delay_s=delay / record.rate_hz,
        windows=window_readings(readings, m.classes) if isinstance(m, WindowManifest) else None,
    )


def scaled(values: np.ndarray, scale: float) -> np.ndarray:
    """Stored values (n,) or (n, channels) as samples float32 (n, channels)."""
    return (values.astype(np.float32) * np.float32(scale)).reshape(len(values), -1)


def _block_samples(m: Manifest, rate_hz: float) -> int:
    """Samples of a block at the source's rate: a frame of a trunk; a tenth of a second of windows, at most a hop."""
    at_model = m.timing.stride if isinstance(m, BeatManifest) else min(m.hop_samples, WINDOW_BLOCK_S * m.rate_hz)
    return max(1, round(at_model * rate_hz / m.rate_hz))


def _feed_until_step(pipeline: Pipeline, m: Manifest, steps: list[int]) -> None:
    """Feed silence, a second a block, until the model ran."""
    silence = np.zeros((math.ceil(m.golden.rate_hz), m.n_channels), np.float32)
    start = 0
    while not steps:
        pipeline.feed(Block(start=start, samples=silence))
        start += len(silence)


def _warm_up(bundle: Bundle, engine: TimedEngine, clock: Clock) -> None:
    """Step until the median of a batch of steps is within 5 % of the one before."""
    m = bundle.manifest
    pipeline, steps = open_pipeline(bundle, stream_spec(bundle, m.rate_hz), engine), engine.step_ns[m.step_graph.name]
    # What comes before the first whole window gives no step.
    first = m.window.window_samples - m.hop_samples if isinstance(m, WindowManifest) else 0
    size = (first + m.hop_samples * WARM_UP_BATCH, m.n_channels)
    noise = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    last = math.inf
    for i in range(WARM_UP_MOST):
        steps.clear()
        pipeline.feed(Block(start=i * len(noise), samples=noise))
        median = float(np.median(steps))
        if abs(median - last) <= SETTLED * last:
            return
        last = median


def _overhead_ns(clock: Clock) -> int:
    """Median cost of timing an empty call."""
    spans = []
    for _ in range(1000):
        begun = clock()
        spans.append(clock() - begun)
    return int(np.median(spans))


_BUSY_WINDOW_S = 0.3


def _busy_percent() -> float | None:
    """Share of all CPUs in use by anyone over 0.3 s, in percent."""
    try:
        import psutil
    except ImportError:
        return None
    return float(psutil.cpu_percent(interval=_BUSY_WINDOW_S))


def _page_cache(bytes_from_disk: int | None) -> Literal["warm", "cold", "unknown"]:
    if bytes_from_disk is None:
        return "unknown"
    return "cold" if bytes_from_disk else "warm"


def _process_age_s() -> float:
    """Seconds since this process was started; the system counts in 1/100 s."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _conditions(
    bundle: Bundle,
    engine: Engine,
    threads: int,
    started: str,
    before: probes.MachineState,
    after: probes.MachineState,
    busy: float | None,
    root: Path,
) -> Conditions:
    machine = probes.machine(root)
    reasons = []
    if busy is not None and busy > BUSY_PERCENT:
        reasons.append(f"CPU was {busy:.0f} % busy before the run; under {BUSY_PERCENT:g} % wanted")
    new = sorted(set(after.throttled or ()) - set(before.throttled or ()))
    if new:
        reasons.append(f"the board throttled during the run: {', '.join(new)}")
    return Conditions(
        board=machine.board or platform.node() or "unknown",
        machine=platform.machine(),
        os=_os_name(root),
        kernel=platform.release(),
        cpu_model=machine.cpu or "unknown",
        n_cpus=machine.cpus or os.cpu_count() or 1,
        governor=before.governor,
        python=sys.version.split()[0],
        numpy=np.__version__,
        runtime=edge_runtime.__version__,
        engine=engine.name,
        engine_version=engine.version,
        provider=engine.provider,
        threads=threads,
        bundle_id=bundle.id,
        bundle_sha256=file_sha256(bundle.file(MANIFEST)),
        scenario="SingleStream, closed loop",
        started=started,
        before=_probe(before, busy),
        after=_probe(after, None),
        verdict="INVALID" if reasons else "VALID",
        reasons=tuple(reasons),
    )


def _probe(state: probes.MachineState, busy: float | None) -> Probe:
    return Probe(
        frequency_mhz=None if state.frequency_hz is None else state.frequency_hz / 1e6,
        temperature_c=state.temperature_c,
        throttled=state.throttled,
        idle_percent=None if busy is None else 100.0 - busy,
        swap_used_bytes=state.swap_used_bytes,
    )


def _os_name(root: Path) -> str:
    try:
        lines = (root / "etc/os-release").read_text().splitlines()
    except OSError:
        return platform.system()
    table = dict(line.split("=", 1) for line in lines if "=" in line)
    return table.get("PRETTY_NAME", platform.system()).strip('"')
