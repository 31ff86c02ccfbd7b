"""The file that travels back from a device: round trip, refusals, honest percentiles."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.contract.errors import ReportError
from edge_runtime.contract.latency import latency, min_calls
from edge_runtime.contract.record_result import record_result
from edge_runtime.contract.report import BenchReport, ColdStart, Memory, from_json, to_json
from edge_runtime.contract.signal import Ledger, Reading

from .samples import CONDITIONS


def bench_report() -> BenchReport:
    beats = [
        Reading(name="beat", sample=100, t_s=0.5, value="N", confidence=0.98765),
        Reading(name="heart_rate", sample=100, t_s=0.5, value=72.0),
        Reading(name="beat", sample=300, t_s=1.5, value="V", confidence=1.0),
        Reading(name="beat", sample=500, t_s=2.5, value=None),
    ]
    return BenchReport(
        simulated=True,
        conditions=CONDITIONS,
        latencies=(latency("step", np.arange(1, 1001)), latency("head", [5, 7])),
        overhead_ns=60,
        memory=Memory(baseline_rss_bytes=1, peak_rss_bytes=2, pss_bytes=None),
        cold_start=ColdStart(import_ms=1.5, load_ms=2.0, first_inference_ms=3.0),
        records=(
            record_result(
                "100",
                rate_hz=200.0,
                readings=beats,
                ledger=Ledger(received=600, scored=590, dropped=4, gap=6),
                wall_s=0.5,
                max_delay_s=0.8,
            ),
        ),
    )


def test_a_report_survives_the_journey():
    report = bench_report()
    assert from_json(to_json(report), "report.json") == report


def test_readings_survive_packing():
    record = from_json(to_json(bench_report()), "report.json").records[0]
    assert record.beat_samples.tolist() == [100, 300, 500]
    assert record.classes == "NV-"
    assert record.beat_classes.tolist() == [0, 2, 4]
    assert record.beat_confidences == pytest.approx([0.98765, 1.0, 0.0], abs=0.5e-4)
    assert record.real_time_factor == 6.0


@pytest.mark.parametrize(("percentile", "wanted"), [(90, 64), (99, 662), (99.9, 6636)])
def test_the_fewest_calls_are_those_of_mlperf(percentile, wanted):
    assert min_calls(percentile) == wanted


def test_percentiles_are_nearest_ranks():
    found = latency("step", np.random.default_rng(0).permutation(np.arange(1, 1001)))
    assert (found.p50_ns, found.p95_ns, found.p99_ns, found.max_ns) == (500, 950, 990, 1000)
    assert found.refused == ""


def test_a_percentile_without_enough_calls_is_refused():
    found = latency("step", np.arange(1, 662))
    assert found.p99_ns is None
    assert found.p95_ns == 628
    assert found.refused == "p99: 661 calls, 662 wanted"
    assert latency("step", []).max_ns is None


def test_a_call_longer_than_the_format_holds_is_kept_as_its_largest_value():
    assert latency("step", [10**10]).max_ns == 2**32 - 1


def test_another_packing_of_the_same_values_is_welcome():
    report = bench_report()
    step = report.latencies[0]
    other = base64.b64encode(zlib.compress(step.values_ns.astype("<u4").tobytes(), 0)).decode()
    assert other != step.values
    report = replace(report, latencies=(replace(step, values=other), *report.latencies[1:]))
    assert from_json(to_json(report), "report.json").latencies[0].values_ns.tolist() == list(range(1, 1001))


def changed(change):
    value = json.loads(to_json(bench_report()))
    change(value)
    return json.dumps(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema=2), "r.json: schema is 2; this program reads up to 1, so update it"),
        (lambda v: v.update(schema="1"), "r.json: schema is '1'; a number wanted"),
        (lambda v: v.update(colour="red"), "unknown key 'colour'"),
        (lambda v: v["conditions"].pop("board"), "key 'board' is missing"),
        (lambda v: v["conditions"].update(verdict="INVALID"), "INVALID with 0 reasons"),
        (lambda v: v["latencies"][0].update(p99_ns=1), "latency of step does not fit its raw values"),
        (lambda v: v["latencies"][0].update(values="x"), "latency of step: damaged"),
        (lambda v: v["records"][0].update(classes="NX-"), "record 100: unknown class 'X'"),
        (lambda v: v["records"][0].update(n_beats=4), r"record 100: \[3\] beats; 4 wanted"),
        (lambda v: v["records"][0]["ledger"].update(gap=7), "ledger does not balance"),
    ],
)
def test_a_report_that_cannot_be_trusted_is_refused(change, message):
    with pytest.raises(ReportError, match=message):
        from_json(changed(change), "r.json")


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ReportError, match=r"r\.json: not JSON"):
        from_json("{", "r.json")


def test_a_verdict_must_fit_its_reasons():
    with pytest.raises(ReportError, match="VALID with 1 reasons"):
        replace(CONDITIONS, reasons=("throttled",))
