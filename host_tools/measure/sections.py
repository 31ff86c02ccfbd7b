"""The sections of the HTML report, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from edge_runtime.contract.latency import Latency, min_calls
from host_tools.measure.cells import (
    NONE,
    duration,
    interval,
    limit,
    mib,
    percent,
    probe,
    si,
    size,
    with_unit,
)
from host_tools.measure.drawings import latency_svg, strip_svg
from host_tools.measure.intervals import RESAMPLES, Interval
from host_tools.measure.page import banner, definitions, divided, page, pill, table, track
from host_tools.measure.score import LABELS, SCORED_CLASSES, figures
from host_tools.measure.study import Accuracy, StepResult, StudyReport

PILLS = {
    "goal met": "good",
    "floor met": "fair",
    "missed": "bad",
    "goal missed": "bad",
    "reported": "",
    "not measured": "",
}
NAMES = {"se": "Se", "ppv": "P+", "f1": "F1"}


def to_html(report: StudyReport) -> str:
    """The page: no request leaves it, and all it shows is inside it."""
    return page(report.title, _sections(report))


def _sections(report: StudyReport) -> Iterator[str]:
    yield from _banners(report)
    yield from _opening(report)
    yield from _requirements(report)
    yield from _chain(report.steps)
    yield from _accuracy(report.test)
    yield from _matrix(report.test)
    yield from _apart(report.apart)
    yield from _seeds(report)
    yield from _latency(report)
    yield from _against_host(report)
    yield from _strips(report)
    yield from _records(report)
    yield from _conditions(report)
    yield from _method()


def _banners(report: StudyReport) -> Iterator[str]:
    if report.simulated:
        yield banner(
            "SIMULATED DATA",
            "The ECGs were made by a program, not by hearts. The figures show that the chain works; they say "
            "nothing about patients.",
        )
    if report.device_conditions.reasons:
        yield banner("INVALID RUN", "; ".join(report.device_conditions.reasons), "bad")


def _opening(report: StudyReport) -> Iterator[str]:
    yield f"<h1>{escape(report.title)}</h1>"
    yield f'<p class="lede">{escape(report.data)}</p>'
    yield (
        f'<p class="soft">{escape(report.created)} · commit <code>{escape(report.commit)}</code> · recipe '
        f"{escape(report.recipe)} · seed {report.seed}<br><code>{escape(report.command)}</code></p>"
    )
    if report.notes:
        yield "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>"


def _requirements(report: StudyReport) -> Iterator[str]:
    yield "<h2>What was wanted, what was found</h2>"
    held = [r for r in report.requirements if r.floor is not None]
    above = sum(r.verdict in ("goal met", "floor met") for r in held)
    goals = [r for r in report.requirements if r.goal is not None]
    met = sum(r.verdict == "goal met" for r in goals)
    yield f"<p>{above} of {len(held)} floors held, {met} of {len(goals)} goals reached.</p>"
    yield table(
        ["", "found", "", "95 % interval", "floor", "goal"],
        (
            [
                escape(r.name) + (f"<small>{escape(r.note)}</small>" if r.note else ""),
                f'<span class="value">{with_unit(r, r.value)}</span>',
                f'<td class="left">{pill(r.verdict, PILLS[r.verdict])}</td>',
                interval(r),
                limit(r, r.floor),
                limit(r, r.goal),
            ]
            for r in report.requirements
        ),
    )


def _chain(steps: Sequence[StepResult]) -> Iterator[str]:
    if not steps:
        return
    yield "<h2>From teacher to gateway, step by step</h2>"
    yield (
        "<p>Every step on the same records, streaming, with its own beat detection where nothing else is "
        "said. Se, P+ and F1 in percent; latency on the machine described below.</p>"
    )
    head = ["", "parameters", "MAC/s", "size", "Se", "P+", "N, S, V"]
    head += [name for _ in SCORED_CLASSES for name in NAMES.values()] + ["p50", "p99"]
    groups = (
        '<tr><th></th><th colspan="3" class="group">cost</th><th colspan="2" class="group">detection</th>'
        '<th class="group">macro-F1</th>'
        + "".join(f'<th colspan="3" class="group">{name}</th>' for name in SCORED_CLASSES)
        + '<th colspan="2" class="group">one step</th></tr>'
    )
    yield table(head, [_step_row(step) for step in steps], groups=groups, kind="dense")
    for step in steps:
        if step.note:
            yield f'<p class="soft">{escape(step.name)}: {escape(step.note)}</p>'


def _step_row(step: StepResult) -> list[str]:
    f = {name: float(value) for name, value in figures(step.test.counts.sum(0)).items()}
    row = [escape(step.name), divided(f"{step.parameters:,}"), si(step.macs_per_s), size(step.model_bytes)]
    row += [divided(percent(f["detection_se"], 2)), percent(f["detection_ppv"], 2)]
    row.append(divided(f'<span class="value">{percent(f["macro_f1"])}</span>'))
    for name in SCORED_CLASSES:
        cells = [percent(f[f"{name.lower()}_{figure}"]) for figure in NAMES]
        row += [divided(cells[0]), *cells[1:]]
    row += [divided(duration(step.latency.p50_ns if step.latency else None))]
    row += [duration(step.latency.p99_ns if step.latency else None)]
    return row


def _accuracy(test: Accuracy) -> Iterator[str]:
    found = test.intervals()
    yield "<h2>Accuracy, class by class</h2>"
    yield f"<p>{escape(test.title)}: {len(test.records)} records, {_beats(test):,} beats. {_timing(test)}</p>"
    notes = {i.note for i in found.values()} - {""}
    if notes:
        yield f"<p>{pill('; '.join(sorted(notes)), 'bad')}</p>"
    yield table(["", "%", "95 % interval", "0 to 100 %"], _interval_rows(found))


def _interval_rows(found: dict[str, Interval]) -> Iterator[list[str]]:
    for name, i in found.items():
        what, _, figure = name.rpartition("_")
        label = {"detection": "beat detection", "macro": "macro (N, S, V)"}.get(what, f"class {what.upper()}")
        bounds = NONE if i.low is None or i.high is None else f"{100 * i.low:.1f} to {100 * i.high:.1f}"
        value = NONE if i.value is None else f"{100 * i.value:.2f}"
        bar = f'<td style="width:45%">{track(i.low, i.value, i.high)}</td>'
        yield [f"{label} {NAMES[figure]}", f'<span class="value">{value}</span>', bounds, bar]


def _matrix(test: Accuracy) -> Iterator[str]:
    counts = test.counts.sum(0)
    yield "<h2>What was called what</h2>"
    yield (
        "<p>Rows are the annotation, columns the model; percent of the row. <em>none</em> as a column: "
        "missed beats; as a row: detections where there is no beat.</p>"
    )
    rows = []
    for i, label in enumerate(LABELS):
        total = int(counts[i].sum())
        cells = [_matrix_cell(int(counts[i, j]), total, i == j) for j in range(len(LABELS))]
        if label == "none":
            cells[-1] = "<td></td>"
        rows.append([label, *cells, f"<small>{total:,}</small>"])
    yield table(["annotated", *LABELS, "all"], rows, kind="matrix")


def _matrix_cell(n: int, total: int, is_hit: bool) -> str:
    if n == 0:
        return '<td><small style="opacity:.4">0</small></td>'
    share = n / total
    colour = "--heat" if is_hit else "--miss"
    # The square root lets small shares of errors still be seen.
    return (
        f'<td style="background:rgba(var({colour}),{0.55 * share**0.5:.3f})">{100 * share:.1f}<small>{n:,}</small></td>'
    )


def _apart(sets: Sequence[Accuracy]) -> Iterator[str]:
    if not sets:
        return
    yield "<h2>Other records and models</h2>"
    shown = ["detection_se", "detection_ppv", "v_se", "v_ppv", "s_se", "s_ppv", "s_f1", "macro_f1"]
    head = ["", "records", "beats", "Se", "P+", "V Se", "V P+", "S Se", "S P+", "S F1", "macro-F1"]
    yield table(
        head,
        (
            [escape(s.title), str(len(s.records)), f"{_beats(s):,}"]
            + [percent(float(figures(s.counts.sum(0))[name])) for name in shown]
            for s in sets
        ),
    )


def _seeds(report: StudyReport) -> Iterator[str]:
    if not report.seeds:
        return
    yield "<h2>Does the teacher help?</h2>"
    yield "<p>The same student with and without its teacher: macro-F1 (N, S, V) in percent.</p>"
    yield table(
        ["seed", "distilled", "alone", "gain"],
        ([str(s.seed), f"{s.distilled:.2f}", f"{s.alone:.2f}", f"{s.distilled - s.alone:+.2f}"] for s in report.seeds),
        kind="fit",
    )


def _latency(report: StudyReport) -> Iterator[str]:
    yield "<h2>Time and memory on the device</h2>"
    cold, memory = report.device_cold_start, report.device_memory
    yield (
        f"<p>Signal is worked through {report.device_real_time_factor:,.0f} times faster than it arrives. "
        f"Every call was timed singly; timing itself costs {duration(report.device_overhead_ns)}.</p>"
    )
    yield f'<figure class="scroll">{latency_svg(report.device_latencies)}</figure>'
    yield table(["stage", "n", "p50", "p95", "p99", "max", ""], map(_latency_row, report.device_latencies))
    yield definitions(
        [
            (
                "cold start",
                f"import {cold.import_ms:.0f} ms, load {cold.load_ms:.0f} ms, first inference "
                f"{cold.first_inference_ms:.1f} ms (page cache {cold.page_cache})",
            ),
            (
                "memory",
                f"peak RSS {mib(memory.peak_rss_bytes)}, PSS {mib(memory.pss_bytes)}, before the inference "
                f"library {mib(memory.baseline_rss_bytes)}",
            ),
        ]
    )


def _latency_row(found: Latency) -> list[str]:
    times = [duration(t) for t in (found.p50_ns, found.p95_ns, found.p99_ns, found.max_ns)]
    refused = f"<small>too few calls: {escape(found.refused)}</small>" if found.refused else ""
    return [escape(found.stage), f"{found.n:,}", *times, f'<td class="text">{refused}</td>']


def _against_host(report: StudyReport) -> Iterator[str]:
    found = report.against_host
    if found is None:
        return
    yield "<h2>Host against device</h2>"
    verdict = pill("equal, beat for beat", "good") if found.is_equal else pill("not equal", "bad")
    yield (
        f"<p>{verdict} {found.equal_beats:,} of {found.beats:,} beats of {found.records} records have the "
        f"same position and class; confidences differ by at most {found.max_confidence_difference:.4f}. "
        f"{escape(found.first_difference)}</p>"
    )
    yield definitions([("host", found.host), ("device", found.device)])
    device = {latency.stage: latency for latency in report.device_latencies}
    rows = []
    for host in found.host_latencies:
        other = device.get(host.stage)
        pairs = [(host.p50_ns, other.p50_ns), (host.p99_ns, other.p99_ns)] if other else [(host.p50_ns, None)] * 2
        ratio = f"{pairs[0][1] / pairs[0][0]:.2f} x" if pairs[0][0] and pairs[0][1] else NONE
        rows.append([escape(host.stage), *(duration(t) for pair in pairs for t in pair), ratio])
    yield table(["stage", "host p50", "device p50", "host p99", "device p99", "p50 ratio"], rows)


def _strips(report: StudyReport) -> Iterator[str]:
    if not report.strips:
        return
    yield "<h2>Look at the signal</h2>"
    yield (
        "<p>Letters above are the annotation, letters below what the device printed; where they disagree "
        "both are red. Thin lines every 0.2 s and 0.5 mV, strong ones every 1 s and 1 mV.</p>"
    )
    for strip in report.strips:
        start_s = strip.start / strip.rate_hz
        yield (
            f"<figure><figcaption>{escape(strip.title)} <span class='soft'>{escape(strip.lead)}, from "
            f"{start_s // 60:.0f} min {start_s % 60:.0f} s</span></figcaption>"
            f'<div class="scroll">{strip_svg(strip)}</div></figure>'
        )


def _records(report: StudyReport) -> Iterator[str]:
    yield "<h2>Record by record, worst first</h2>"
    yield "<p>Ordered by the share of beats that were missed, invented or called by another class.</p>"

    def wrong(counts: np.ndarray) -> float:
        return 1.0 - float(np.trace(counts)) / max(float(counts.sum()), 1.0)

    rows = []
    for record in sorted(report.test.records, key=lambda r: (-wrong(r.array), r.name)):
        c = record.array
        f = {name: float(value) for name, value in figures(c).items()}
        beats = c[: len(LABELS) - 1].sum(1)
        row = [escape(record.name), percent(wrong(c)), f"{beats.sum():,}"]
        row += [percent(f["detection_se"], 2), percent(f["detection_ppv"], 2)]
        for i, name in enumerate(("N", "S", "V")):
            row += [
                divided(f"{beats[i]:,}"),
                percent(f[f"{name.lower()}_se"]),
                percent(f[f"{name.lower()}_ppv"]),
            ]
        rows.append(row)
    groups = '<tr><th></th><th colspan="2"></th><th colspan="2" class="group">detection</th>' + "".join(
        f'<th colspan="3" class="group">{name}</th>' for name in "NSV"
    )
    yield table(
        ["record", "wrong %", "beats", "Se", "P+", *("beats", "Se", "P+") * 3],
        rows,
        groups=groups + "</tr>",
        kind="dense",
    )


def _conditions(report: StudyReport) -> Iterator[str]:
    c = report.device_conditions
    yield "<h2>Conditions</h2>"
    kind = "good" if c.verdict == "VALID" else "bad"
    yield f"<p>{pill(c.verdict, kind)} {escape('; '.join(c.reasons))}</p>"
    yield definitions(
        [
            ("device", f"{c.board}, {c.cpu_model}, {c.n_cpus} CPUs, {c.machine}"),
            ("system", f"{c.os}, kernel {c.kernel}"),
            ("software", f"edge_runtime {c.runtime}, Python {c.python}, numpy {c.numpy}"),
            ("engine", f"{c.engine} {c.engine_version}, {c.provider}, {c.threads} thread(s)"),
            ("bundle", f"{c.bundle_id}, sha256 {c.bundle_sha256}"),
            ("scenario", f"{c.scenario}; started {c.started}"),
            ("governor", c.governor or "not known"),
            ("before", probe(c.before)),
            ("after", probe(c.after)),
        ]
    )


def _method() -> Iterator[str]:
    yield "<h2>How the figures are made</h2>"
    yield (
        "<p>Beat by beat after ANSI/AAMI EC57: a detection within 150 ms of an annotated beat is a hit, one "
        "to one, closest pairs first; all beats count, except inside ventricular flutter. Missed beats count "
        "against their class, false detections against the class they were given. F called V counts as a "
        "false V. Beats of class Q count for detection only. Several records: counts are summed, then "
        "divided.</p>"
        f"<p>Intervals: {RESAMPLES:,} resamples of whole records, percentiles 2.5 and 97.5. Percentiles of "
        "latency are nearest ranks and are claimed only from as many calls as MLPerf asks for "
        f"({', '.join(f'{min_calls(p)} for p{p}' for p in (50, 95, 99))}). 1 kB is 1,000 bytes.</p>"
    )


def _beats(test: Accuracy) -> int:
    return int(test.counts[:, :-1].sum())


def _timing(test: Accuracy) -> str:
    if test.timing is None:
        return ""
    t = test.timing
    return (
        f"Detected beats lie {t.median_ms:.1f} ms from the annotation (median), {t.p95_ms:.1f} ms at the "
        f"95th percentile; median offset {t.offset_ms:+.1f} ms."
    )
