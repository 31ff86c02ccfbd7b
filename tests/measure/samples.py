"""Made-up records, detections and studies for the tests of reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_runtime.contract.latency import latency
from edge_runtime.contract.record_result import record_result
from edge_runtime.contract.report import BenchReport, ColdStart, Conditions, Memory, Probe
from edge_runtime.contract.signal import AAMI_CLASSES, Ledger, Reading
from host_tools.data.records import EcgRecord
from host_tools.measure.intervals import Interval
from host_tools.measure.requirements import ecg_requirements
from host_tools.measure.runs import compare_runs, score_bench
from host_tools.measure.score import RecordScore
from host_tools.measure.strips import pick_strips
from host_tools.measure.study import SeedRun, StepResult, StudyReport, accuracy

CONDITIONS = Conditions(
    board="Raspberry Pi 4 Model B",
    machine="aarch64",
    os="Debian GNU/Linux 12",
    kernel="6.1.0",
    cpu_model="Cortex-A72",
    n_cpus=4,
    governor=None,
    python="3.11.2",
    numpy="2.0.0",
    runtime="0.1.0",
    engine="onnxruntime",
    engine_version="1.20.0",
    provider="CPUExecutionProvider",
    threads=1,
    bundle_id="ecg-beats-0123456789ab",
    bundle_sha256="0" * 64,
    scenario="SingleStream, closed loop",
    started="2026-01-02T03:04:05+00:00",
    before=Probe(frequency_mhz=1500.0, temperature_c=48.5),
    after=Probe(throttled=(), idle_percent=96.0, swap_used_bytes=0),
    verdict="VALID",
)


def made_up_record(name: str, seed: int, n_beats: int = 60) -> EcgRecord:
    """A record whose beats are spikes of different width, of classes N, S, V, F and Q."""
    rng = np.random.default_rng(seed)
    beats = np.cumsum(rng.integers(200, 400, n_beats))
    classes = rng.choice(5, n_beats, p=[0.6, 0.15, 0.15, 0.05, 0.05])
    t = np.arange(int(beats[-1]) + 300)
    x = 0.03 * rng.standard_normal(len(t))
    for beat, c in zip(beats, classes, strict=True):
        near = slice(max(0, beat - 100), beat + 100)
        width = 14.0 if c == 2 else 5.0
        x[near] += 1.2 * np.exp(-0.5 * ((t[near] - beat) / width) ** 2)
    return EcgRecord(
        name=name,
        rate_hz=360.0,
        lead_names=("MLII",),
        leads=x.astype(np.float32)[:, None],
        beat_samples=beats.astype(np.int64),
        beat_classes=classes.astype(np.int64),
        masked=np.zeros((0, 2), np.int64),
        simulated=True,
    )


def imperfect_readings(record: EcgRecord, seed: int, error: float) -> list[Reading]:
    """The annotation with a share of beats missed, invented, or called by another class."""
    rng = np.random.default_rng(seed)
    found = []
    for sample, c in zip(record.beat_samples.tolist(), record.beat_classes.tolist(), strict=True):
        u = rng.uniform()
        if u < error / 4:
            continue
        if u < error / 2:
            found.append((sample + 90, 2))
        found.append((sample + int(rng.integers(-6, 7)), int(rng.integers(0, 4)) if u > 1 - error else min(c, 3)))
    return [
        Reading(name="beat", sample=s, t_s=s / record.rate_hz, value=AAMI_CLASSES[c], confidence=0.9)
        for s, c in sorted(found)
    ]


def made_up_bench(records: Sequence[EcgRecord], error: float = 0.1) -> BenchReport:
    """What a device might bring back from these records."""
    rng = np.random.default_rng(11)
    n = 4000
    step = rng.lognormal(np.log(310e3), 0.12, n) + 400e3 * (rng.uniform(size=n) < 0.03)
    return BenchReport(
        simulated=any(r.simulated for r in records),
        conditions=CONDITIONS,
        latencies=(
            latency("condition", rng.lognormal(np.log(40e3), 0.2, n)),
            latency("trunk step", step),
            latency("beat head", rng.lognormal(np.log(90e3), 0.15, 500)),
        ),
        overhead_ns=62,
        memory=Memory(baseline_rss_bytes=31_000_000, peak_rss_bytes=58_000_000, pss_bytes=52_000_000),
        cold_start=ColdStart(import_ms=410.0, load_ms=35.0, first_inference_ms=1.9, page_cache="warm"),
        records=tuple(
            record_result(
                r.name,
                rate_hz=r.rate_hz,
                readings=imperfect_readings(r, seed, error),
                ledger=Ledger(received=len(r.leads), scored=len(r.leads)),
                wall_s=r.duration_s / 150,
                max_delay_s=0.92,
            )
            for seed, r in enumerate(records)
        ),
    )


def made_up_study(records: Sequence[EcgRecord]) -> StudyReport:
    """A whole study of these records."""
    bench = made_up_bench(records)
    host = replace(bench, conditions=replace(CONDITIONS, board="workstation", cpu_model="x86", machine="x86_64"))
    scores = score_bench(bench, records)
    test = accuracy("int8 student, streaming on the device, test records", scores)
    detected = {r.name: (r.beat_samples, r.beat_classes) for r in bench.records}
    against = compare_runs(host, bench)
    seeds = (
        SeedRun(seed=0, distilled=72.4, alone=71.2),
        SeedRun(seed=1, distilled=73.1, alone=72.5),
        SeedRun(seed=2, distilled=71.9, alone=70.8),
    )
    worse: list[RecordScore] = score_bench(made_up_bench(records, 0.14), records)
    fp32 = accuracy("fp32 student", score_bench(made_up_bench(records, 0.098), records))
    rows = (("teacher", 1_900_000, 9.4e7, 7_650_000), ("student alone", 25_500, 478e3, 106_000))
    rows += (
        ("distilled", 25_500, 478e3, 106_000),
        ("pruned", 18_200, 344e3, 76_000),
        ("int8", 18_200, 344e3, 26_400),
    )
    return StudyReport(
        title="Beats and their classes on a gateway",
        created="2026-01-02T03:30:00+00:00",
        command="vitaledge run recipes/ecg-beats.toml",
        commit="0123456789ab",
        recipe="recipes/ecg-beats.toml",
        seed=0,
        data="Trained on 16 records, chosen on 6, tested on made-up ones; every record is another patient.",
        simulated=any(r.simulated for r in records),
        requirements=ecg_requirements(
            test=test,
            fp32=fp32,
            delay_s=0.92,
            int8_bytes=26_400,
            teacher_bytes=7_650_000,
            seeds=seeds,
            speedup=Interval(value=14.2, low=13.1, high=15.3, n_records=20),
            against_host=against,
            simulated=any(r.simulated for r in records),
        ),
        steps=tuple(
            StepResult(
                name=name,
                parameters=parameters,
                macs_per_s=macs,
                model_bytes=n_bytes,
                test=accuracy(name, worse if name == "student alone" else scores),
                latency=None if name == "teacher" else bench.latency("trunk step"),
                note="looks ahead, so it does not stream" if name == "teacher" else "",
            )
            for name, parameters, macs, n_bytes in rows
        ),
        test=test,
        apart=(accuracy("record set apart", scores[:1]),),
        seeds=seeds,
        strips=pick_strips(records, detected),
        device_conditions=bench.conditions,
        device_latencies=bench.latencies,
        device_overhead_ns=bench.overhead_ns,
        device_memory=bench.memory,
        device_cold_start=bench.cold_start,
        device_real_time_factor=bench.real_time_factor,
        against_host=against,
        notes=("Floors are stated for a test set that was not used for any choice.",),
    )
