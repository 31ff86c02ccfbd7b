"""What bench runs say: scored against annotations, and one run against another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_runtime.contract.errors import ReportError
from edge_runtime.contract.latency import without_values
from edge_runtime.contract.record_result import RecordResult
from edge_runtime.contract.report import BenchReport, Conditions
from edge_runtime.contract.window_readings import VALUE_STEPS
from host_tools.data.records import EcgRecord
from host_tools.measure.score import IntArray, RecordScore, score_record
from host_tools.measure.study import HostAgainstDevice

SAME_NUMBER = 2.5 / VALUE_STEPS  # numbers travel rounded to a step, and processors round differently


def score_bench(bench: BenchReport, records: Sequence[EcgRecord]) -> list[RecordScore]:
    """Score what a device said about records against their annotations, in the order of the bench.

    Raises ReportError naming a record that is not there or was played at another rate.
    """
    known = {r.name: r for r in records}
    scores = []
    for result in bench.records:
        record = known.get(result.name)
        if record is None:
            raise ReportError(f"bench: record {result.name} is not among {', '.join(sorted(known))}")
        if record.rate_hz != result.rate_hz:
            raise ReportError(
                f"bench: record {result.name} was played at {result.rate_hz:g} Hz, not {record.rate_hz:g}"
            )
        scores.append(score_beats(record, result.beat_samples, result.beat_classes))
    return scores


def score_beats(record: EcgRecord, samples: IntArray, classes: IntArray) -> RecordScore:
    """Score beats, in the record's own samples, against its annotations."""
    return score_record(
        record.name,
        rate_hz=record.rate_hz,
        reference_samples=record.beat_samples,
        reference_classes=record.beat_classes,
        detected_samples=samples,
        detected_classes=classes,
        masked=record.masked,
    )


def compare_runs(host: BenchReport, device: BenchReport) -> HostAgainstDevice:
    """Compare two runs of one bundle over the same records; readings of windows are counted as beats are.

    Raises ReportError naming the bundle or the records if they differ.
    """
    bundles = host.conditions.bundle_id, device.conditions.bundle_id
    if bundles[0] != bundles[1]:
        raise ReportError(f"host ran bundle {bundles[0]}, device {bundles[1]}; one bundle wanted")
    names = [[r.name for r in run.records] for run in (host, device)]
    if names[0] != names[1]:
        raise ReportError(f"host ran records {names[0]}, device {names[1]}; the same records wanted")
    beats = equal = 0
    first, farthest = "", 0.0
    for a, b in zip(host.records, device.records, strict=True):
        on_host, on_device = _said(a), _said(b, near=a)
        both = on_host.keys() & on_device.keys()
        beats += max(len(on_host), len(on_device))
        equal += len(both)
        farthest = max([farthest, *(float(abs(on_host[k] - on_device[k])) for k in both)])
        different = sorted(on_host.keys() ^ on_device.keys())
        if different and not first:
            sample, label = different[0]
            side = "host" if different[0] in on_host else "device"
            first = f"record {a.name}, sample {sample}: {label} only on the {side}"
    return HostAgainstDevice(
        host=_machine(host.conditions),
        device=_machine(device.conditions),
        records=len(host.records),
        beats=beats,
        equal_beats=equal,
        first_difference=first,
        max_confidence_difference=farthest,
        host_latencies=tuple(map(without_values, host.latencies)),
    )


def _said(record: RecordResult, near: RecordResult | None = None) -> dict[tuple[int, str], float]:
    """Confidence by position and value; a number that is as good as that of `near` counts as that."""
    windows = record.windows
    if windows is None:
        keys = zip(record.beat_samples.tolist(), record.classes, strict=True)
        return dict(zip(keys, record.beat_confidences.tolist(), strict=True))
    numbers = windows.numbers
    if near is not None and near.windows is not None and not windows.labels and near.windows.n == windows.n:
        other = near.windows.numbers
        numbers = np.where(np.abs(numbers - other) <= SAME_NUMBER, other, numbers)
    words = ["-" if v != v else windows.labels[int(v)] if windows.labels else f"{v:g}" for v in numbers.tolist()]
    return dict(zip(zip(windows.at.tolist(), words, strict=True), windows.sure.tolist(), strict=True))


def _machine(c: Conditions) -> str:
    return f"{c.board}, {c.cpu_model}, {c.engine} {c.engine_version}, {c.threads} thread(s)"
