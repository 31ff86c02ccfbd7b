"""The study report: what is in it, round trip, and that the page keeps to itself."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from edge_runtime.contract.errors import ReportError
from edge_runtime.contract.latency import latency
from edge_runtime.contract.report import to_json as bench_to_json
from host_tools.measure.drawings import disagreements, latency_svg
from host_tools.measure.report import console_table, rewrite_report, write_report
from host_tools.measure.requirements import EQUALITY, ecg_requirements
from host_tools.measure.runs import compare_runs, score_bench
from host_tools.measure.score import figures
from host_tools.measure.sections import to_html
from host_tools.measure.strips import pick_strips, strip_of
from host_tools.measure.study import Requirement, from_json, to_json

from .samples import CONDITIONS, made_up_bench, made_up_record, made_up_study


@pytest.fixture(scope="module")
def records():
    return [made_up_record(f"m{i}", seed=i) for i in range(5)]


@pytest.fixture(scope="module")
def study(records):
    return made_up_study(records)


class Page(HTMLParser):
    """Collects what a browser would fetch, the text it shows, and tags that do not close."""

    VOID = ("meta", "br", "line", "polyline", "polygon")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        if tag in ("script", "link", "img", "iframe", "object", "embed"):
            self.fetched.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_fetches_nothing(study):
    html = to_html(study)
    page = Page(html)
    assert page.fetched == []
    assert page.open == []
    assert not re.search(r"https?:|url\(|@import|//[a-z]", html)


def test_the_page_contains_the_figures(study):
    text = " ".join(Page(to_html(study)).text)
    found = study.test.intervals()
    for name in ("detection_se", "v_se", "s_f1", "macro_f1"):
        assert f"{100 * found[name].value:.2f}" in text
    for wanted in (
        "26.4 kB",
        "1,900,000",
        "478 k",
        "290 x",
        "ecg-beats-0123456789ab",
        "55.3 MiB",
        "48.5 °C",
        "throttling: none",
    ):
        assert wanted in text
    for record in study.test.records:
        assert record.name in text


def test_every_figure_of_the_confusion_matrix_is_on_the_page(study):
    record = study.test.records[0]
    many = replace(record, counts=tuple(tuple(1111 * n for n in row) for row in record.counts))
    study = replace(study, test=replace(study.test, records=(many, *study.test.records[1:])))
    text = Page(to_html(study)).text
    assert study.test.counts.sum(0).max() > 10_000
    for count in study.test.counts.sum(0).ravel():
        assert f"{count:,}" in text


def test_simulated_data_are_said_to_be_simulated_loudly(study):
    assert "SIMULATED DATA" in to_html(study)
    assert "SIMULATED DATA" in str(console_table(study).title)
    real = replace(study, simulated=False)
    assert "SIMULATED DATA" not in to_html(real)
    assert "SIMULATED DATA" not in str(console_table(real).title)


def test_an_invalid_run_is_said_to_be_invalid_loudly(study):
    conditions = replace(CONDITIONS, verdict="INVALID", reasons=("throttled at 1.2 s",))
    html = to_html(replace(study, device_conditions=conditions))
    assert "INVALID RUN" in html
    assert "throttled at 1.2 s" in html


def test_text_from_outside_cannot_become_markup(study):
    html = to_html(replace(study, data="<script>alert(1)</script>", title="a & b"))
    assert "<script>" not in html
    assert "<title>a &amp; b</title>" in html


def test_a_study_survives_the_journey(study, tmp_path):
    data, html = write_report(study, tmp_path / "new" / "folder")
    assert from_json(data.read_text("utf-8"), "report.json") == study
    assert html.read_text("utf-8") == to_html(study)


def test_a_report_written_again_is_the_same(study, tmp_path):
    data, html = write_report(study, tmp_path / "run")
    again = rewrite_report(data, None, tmp_path / "again")
    assert [p.read_text("utf-8") for p in again] == [p.read_text("utf-8") for p in (data, html)]


def test_a_published_report_holds_no_recording_and_no_raw_times(study, tmp_path):
    data, html = write_report(study, tmp_path / "run")
    assert study.strips
    published, page = rewrite_report(data, None, tmp_path / "published", publish=True)
    found = from_json(published.read_text("utf-8"), "report.json")
    assert found.strips == ()
    assert {x.values for x in found.device_latencies} == {""}
    assert found.requirements == study.requirements
    assert study.strips[0].title in html.read_text("utf-8")
    assert study.strips[0].title not in page.read_text("utf-8")


def test_a_published_report_can_be_written_again(study, tmp_path):
    data, _ = write_report(study, tmp_path / "run")
    published, _ = rewrite_report(data, None, tmp_path / "published", publish=True)
    again, _ = rewrite_report(published, None, tmp_path / "again")
    assert again.read_text("utf-8") == published.read_text("utf-8")


def test_a_model_card_holds_every_measured_figure_and_the_known_failures(study, tmp_path):
    write_report(study, tmp_path)
    card = (tmp_path / "MODEL_CARD.md").read_text("utf-8")
    assert "Not a medical device" in card
    for requirement in study.requirements:
        assert (requirement.name in card) == (requirement.value is not None)
    assert "Known failures" in card
    assert study.commit in card


def test_a_report_can_show_another_device(study, records, tmp_path):
    data, _ = write_report(study, tmp_path / "run")
    bench = made_up_bench(records)
    other = replace(bench, conditions=replace(CONDITIONS, board="Jetson Orin Nano"), overhead_ns=99)
    (tmp_path / "bench.json").write_text(bench_to_json(other))
    found = from_json(rewrite_report(data, tmp_path / "bench.json", tmp_path / "o")[0].read_text(), "r")
    assert found.device_conditions.board == "Jetson Orin Nano"
    assert found.device_overhead_ns == 99
    assert found.notes[-1].startswith("Accuracy was measured on Raspberry Pi 4 Model B; time and memory are of")
    # Nobody compared that device's beats with the host's.
    assert found.against_host is None
    assert {r.name: r.verdict for r in found.requirements}[EQUALITY] == "not measured"


def test_a_report_shows_no_device_that_ran_another_bundle(study, records, tmp_path):
    data, _ = write_report(study, tmp_path / "run")
    bench = made_up_bench(records)
    (tmp_path / "bench.json").write_text(bench_to_json(replace(bench, conditions=replace(CONDITIONS, bundle_id="b"))))
    with pytest.raises(ReportError, match="the bench about b; one wanted"):
        rewrite_report(data, tmp_path / "bench.json", tmp_path / "o")


def test_a_report_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"none\.json: cannot be read"):
        rewrite_report(tmp_path / "none.json", None, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2; this program reads up to 1"),
        ({"mood": "good"}, "unknown key 'mood'"),
        ({"seed": "0"}, "seed is '0'; int wanted"),
    ],
)
def test_a_study_of_another_kind_is_refused(study, change, message):
    with pytest.raises(ReportError, match=message):
        from_json(json.dumps({**json.loads(to_json(study)), **change}), "report.json")


def test_the_console_table_has_a_row_for_each_requirement(study):
    console = Console(width=160, file=io.StringIO())
    console.print(console_table(study))
    text = console.file.getvalue()
    assert all(r.name in text for r in study.requirements)


@pytest.mark.parametrize(
    ("value", "better", "verdict"),
    [
        (None, "higher", "not measured"),
        (10.0, "higher", "goal met"),
        (9.99, "higher", "floor met"),
        (4.99, "higher", "missed"),
        (4.0, "lower", "goal met"),
        (10.5, "lower", "missed"),
    ],
)
def test_verdicts(value, better, verdict):
    floor, goal = (5.0, 10.0) if better == "higher" else (10.0, 5.0)
    assert Requirement(name="x", unit="", value=value, floor=floor, goal=goal, better=better).verdict == verdict


def test_without_a_floor_a_goal_is_met_or_missed():
    assert Requirement(name="x", unit="", value=0.5, goal=1.0).verdict == "goal missed"
    assert Requirement(name="x", unit="", value=0.5).verdict == "reported"


def requirements(records, **change):
    test = made_up_study(records).test
    given = {
        "test": test,
        "fp32": test,
        "delay_s": 0.9,
        "int8_bytes": 20_000,
        "teacher_bytes": 2_000_000,
        "seeds": (),
        "speedup": None,
        "against_host": None,
        "simulated": False,
    }
    return {r.name: r for r in ecg_requirements(**{**given, **change})}


def test_simulated_data_are_held_to_no_accuracy(records):
    assert requirements(records, simulated=True)["beat detection Se"].verdict == "reported"
    assert requirements(records)["beat detection Se"].verdict == "missed"


def test_requirements_that_were_not_measured_say_so(records):
    rows = requirements(records, delay_s=None)
    assert rows["delay from R peak to reading"].verdict == "not measured"
    assert rows["beats printed by the device equal to the host's"].verdict == "not measured"
    assert rows["macro-F1 gained by distillation"].verdict == "not measured"


def test_s_is_told_with_and_without_the_record_that_holds_most_of_it(records):
    named = [replace(records[0], name="232"), *records[1:]]
    row = requirements(named)["supraventricular (S) F1"]
    rest = made_up_study(named).test.without("232").counts.sum(0)
    assert f"without record 232: F1 {100 * figures(rest)['s_f1']:.1f}" in row.note


def test_device_readings_are_scored_against_their_records(records):
    bench = made_up_bench(records, error=0.0)
    total = sum(s.counts for s in score_bench(bench, records))
    n_beats = sum(len(r.beat_samples) for r in records)
    assert total[:5, :5].sum() == n_beats
    assert np.trace(total[:4, :4]) == sum(int((r.beat_classes < 4).sum()) for r in records)


def test_a_record_that_is_missing_or_at_another_rate_is_refused(records):
    bench = made_up_bench(records)
    with pytest.raises(ReportError, match="record m0 is not among m1"):
        score_bench(bench, records[1:])
    with pytest.raises(ReportError, match="played at 360 Hz, not 250"):
        score_bench(bench, [replace(r, rate_hz=250.0) for r in records])


def test_equal_runs_are_equal(records):
    found = compare_runs(made_up_bench(records), made_up_bench(records))
    assert found.is_equal
    assert found.beats == sum(r.n_beats for r in made_up_bench(records).records)
    assert found.first_difference == ""


def test_one_other_beat_is_found_and_named(records):
    host = made_up_bench(records)
    first = host.records[1]
    other = replace(first, classes="-" + first.classes[1:])
    device = replace(host, records=(host.records[0], other, *host.records[2:]))
    found = compare_runs(host, device)
    assert found.beats - found.equal_beats == 1
    assert not found.is_equal
    assert found.first_difference.startswith(f"record m1, sample {first.beat_samples[0]}: ")


def test_runs_of_different_bundles_or_records_are_not_compared(records):
    host = made_up_bench(records)
    with pytest.raises(ReportError, match="one bundle wanted"):
        compare_runs(host, replace(host, conditions=replace(CONDITIONS, bundle_id="other")))
    with pytest.raises(ReportError, match="the same records wanted"):
        compare_runs(host, replace(host, records=host.records[1:]))


def test_a_strip_holds_the_signal_and_the_beats_around_a_place(records):
    record = records[0]
    strip = strip_of(
        record,
        record.beat_samples,
        record.beat_classes,
        middle=int(record.beat_samples[10]),
        seconds=4.0,
        title="x",
    )
    assert strip.signal_mv == pytest.approx(record.leads[strip.start : strip.start + 1440, 0].astype(float), abs=0.0006)
    inside = record.beat_samples[(record.beat_samples >= strip.start) & (record.beat_samples < strip.start + 1440)]
    assert [m.sample for m in strip.reference] == inside.tolist()
    assert disagreements(strip) == (set(), set())


def test_strips_show_each_kind_of_error_that_occurs(records):
    record = records[0]
    samples, classes = record.beat_samples.copy(), record.beat_classes.copy()
    first_v = int(np.flatnonzero(classes == 2)[0])
    classes[first_v] = 0
    strips = pick_strips([record], {record.name: (samples, classes)})
    (wrong,) = [s for s in strips if "V called N, 1 such here" in s.title]
    assert [m.label for m in disagreements(wrong)[0]] == ["V"]
    assert [m.label for m in disagreements(wrong)[1]] == ["N"]
    assert not any("missed" in s.title or "false" in s.title for s in strips)


def test_a_missed_beat_is_red_but_one_at_the_edge_is_not(records):
    record = records[0]
    middle = int(record.beat_samples[10])
    without = np.delete(np.arange(60), 10)
    strip = strip_of(
        record,
        record.beat_samples[without],
        record.beat_classes[without],
        middle=middle,
        seconds=4.0,
        title="x",
    )
    assert [m.sample for m in disagreements(strip)[0]] == [middle]
    edge = replace(strip, start=middle - 10)
    assert middle not in [m.sample for m in disagreements(edge)[0]]


def test_latency_is_drawn_with_its_percentiles():
    svg = latency_svg([latency("step", np.geomspace(1e4, 1e6, 1000))])
    assert all(f">{name}<" in svg for name in ("p50", "p99", "step", "100 µs"))
    assert latency_svg([latency("step", [])]) == ""
