"""Bundles of windows through the commands: replay, check, info, deploy to a folder, bench there and here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tiny_windows

from edge_runtime.cli import main as edge_main
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import ReportError, SettingsError
from edge_runtime.contract.record_result import record_result
from edge_runtime.contract.report import from_json, to_json
from edge_runtime.contract.signal import Ledger, Reading
from edge_runtime.contract.window_readings import window_readings
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.golden import readings_of
from host_tools.bench import Benched, bench_bundle
from host_tools.measure.runs import compare_runs
from host_tools.measure.windows import golden_windows, load_windows, score_windows
from host_tools.ship.deploy import DeployResult, deploy
from host_tools.ship.errors import ShipError
from host_tools.ship.options import ShipOptions

Bundles = dict[str, Bundle]
HERE = ShipOptions()


@contextmanager
def wheels() -> Iterator[None]:
    """Skip where pip has no wheels for a runtime."""
    try:
        yield
    except ShipError as error:
        if "index could not be reached" in str(error):
            pytest.skip("needs pip's index, or wheels in the cache")
        raise


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert edge_main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# The device's commands.


def test_rows_of_a_table_are_replayed_from_a_file(
    window_bundles: Bundles, engine: OnnxEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, bundle = tiny_windows.table().given.samples, window_bundles["table"]
    np.save(tmp_path / "rows.npy", rows)
    url = f"npy:{tmp_path}/rows.npy?rate_hz=1&columns=all&unit=row"
    *lines, ledger = said(capsys, "replay", str(bundle.path), url)
    assert lines == [r.to_json() for r in readings_of(bundle, engine, rows, 1.0)]
    assert ledger == {"name": "ledger", "received": 60, "scored": 60, "dropped": 0, "gap": 0}
    assert edge_main(["replay", str(bundle.path), url]) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[0].startswith(f"     0.000 s  vessels {lines[0]['value'] or '-'}  confidence ")
    assert sum("vessels -  " in line for line in text) == sum(line["value"] is None for line in lines) > 0


def test_chosen_columns_come_in_their_order(
    window_bundles: Bundles, engine: OnnxEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = tiny_windows.rate().given.samples
    np.save(tmp_path / "x.npy", np.stack([x[:, 1], np.full(len(x), np.nan), x[:, 0]], axis=1))
    url = f"npy:{tmp_path}/x.npy?rate_hz=50&columns=2,0&unit=NU"
    *lines, _ = said(capsys, "replay", str(window_bundles["rate"].path), url)
    assert lines == [r.to_json() for r in readings_of(window_bundles["rate"], engine, x, 50.0)]
    assert all(
        line["name"] == "respiration_rate" and {"value", "confidence", "quality"} <= line.keys() for line in lines
    )


def test_a_simulated_heart_is_replayed_through_windows(
    window_bundles: Bundles, capsys: pytest.CaptureFixture[str]
) -> None:
    *lines, ledger = said(capsys, "replay", str(window_bundles["rhythm"].path), "synthetic:?seconds=9")
    assert [line["t_s"] for line in lines] == pytest.approx([4.0 + i for i in range(6)], abs=0.01)
    assert {line["value"] for line in lines} <= {"N", "A", "O"}
    assert ledger["received"] == 2250


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("rate_hz=1&columns=0,13&unit=row", "column is 13; 0 to 12 exist"),
        ("rate_hz=1&columns=a&unit=row", "column is a; 0 to 12 exist"),
        (
            "rate_hz=1&columns=0,1&unit=row",
            "stream has 2 channels (column 0, column 1); the bundle tiny-table wants 13",
        ),
        ("rate_hz=1&columns=all", "stream is in mV; the bundle tiny-table wants row"),
        ("rate_hz=2&columns=all&unit=row", "stream rate is 2 Hz; the bundle tiny-table wants 1 Hz"),
    ],
)
def test_a_source_that_does_not_suit_is_one_line(
    window_bundles: Bundles, tmp_path: Path, capsys: pytest.CaptureFixture[str], query: str, words: str
) -> None:
    np.save(tmp_path / "rows.npy", tiny_windows.table().given.samples)
    assert edge_main(["replay", str(window_bundles["table"].path), f"npy:{tmp_path}/rows.npy?{query}"]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("kind", list(tiny_windows.KINDS))
def test_check_and_info_know_windows(window_bundles: Bundles, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    bundle = window_bundles[kind]
    (checked,) = said(capsys, "check", str(bundle.path))
    assert checked["is_equal"] is True
    (info,) = said(capsys, "info", str(bundle.path))
    m = bundle.manifest
    assert info["bundle"] == bundle.id
    assert info["hop_s"] == m.hop_samples / m.window.rate_hz
    assert info["window_s"] == m.window.window_samples / m.window.rate_hz
    assert info["classes"] == list(m.classes)
    assert info["channels"] == list(m.window.channels)
    assert edge_main(["info", str(bundle.path)]) == 0
    assert edge_main(["check", str(bundle.path)]) == 0


# Reports of readings.


def result(readings: list[Reading], classes: tuple[str, ...]) -> object:
    ledger = Ledger(received=10, scored=10)
    return record_result(
        "r", rate_hz=1.0, readings=readings, ledger=ledger, wall_s=1.0, windows=window_readings(readings, classes)
    )


def test_readings_of_windows_travel_rounded_to_thousandths() -> None:
    values: list[float | str | None] = [14.2346, None, -3.0, 1e9]
    said = [Reading(name="x", sample=i, t_s=0.0, value=v, confidence=0.25 * i) for i, v in enumerate(values)]
    back = window_readings(said, ())
    assert back.at.tolist() == [0, 1, 2, 3]
    assert back.numbers.tolist() == pytest.approx([14.235, np.nan, -3.0, 2147483.647], nan_ok=True)
    assert back.sure.tolist() == [0.0, 0.25, 0.5, 0.75]
    words = [Reading(name="x", sample=i, t_s=0.0, value=v, confidence=1.0) for i, v in enumerate(["b", None, "a"])]
    assert window_readings(words, ("a", "b")).numbers.tolist() == pytest.approx([1.0, np.nan, 0.0], nan_ok=True)


# The host's commands.


@dataclass(frozen=True)
class OnTarget:
    """A folder of this machine as a target: what deploying said, and benches there."""

    target: str
    deployed: DeployResult
    benches: dict[str, Benched]


@pytest.fixture(scope="module")
def gateway(window_bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> OnTarget:
    """Rates from a file with labels, and the golden signal of rhythms."""
    folder = tmp_path_factory.mktemp("bench")
    target, (path, *_) = f"local:{folder / 'target'}", labelled("rate", window_bundles["rate"], folder)
    with wheels():
        deployed = deploy(window_bundles["rate"].path, target, options=HERE)
        benches = {
            kind: bench_bundle(
                window_bundles[kind].path,
                target,
                data=None,
                names=names,
                threads=1,
                ship=HERE,
                out=folder / f"{kind}.json",
                progress=lambda text, done, total: None,
            )
            for kind, names in (("rate", [str(path)]), ("rhythm", None))
        }
    return OnTarget(target, deployed, benches)


def labelled(kind: str, bundle: Bundle, folder: Path) -> list[Path]:
    """Two files of samples with labels beside them."""
    source, engine, paths = tiny_windows.KINDS[kind]().given, OnnxEngine(), []
    for i in range(2):
        x = source.samples[: len(source.samples) - 10 * i]
        readings = readings_of(bundle, engine, x, source.rate_hz)
        paths.append(folder / f"{kind}{i}.npy")
        np.save(paths[-1], x)
        labels = np.array([truth(r, bundle.manifest.classes, j) for j, r in enumerate(readings)])
        np.save(folder / f"{kind}{i}.labels.npy", labels)
    return paths


def truth(r: Reading, classes: tuple[str, ...], j: int) -> float:
    """A label that every third reading misses, by a class or by 3; every tenth has none."""
    if j % 10 == 9:
        return np.nan
    if isinstance(r.value, str):
        return float((classes.index(r.value) + (j % 3 == 0)) % len(classes))
    return (r.value or 20.0) + 3.0 * (j % 3 == 0)


def test_a_bundle_of_windows_is_deployed_checked_and_not_sent_twice(gateway: OnTarget, window_bundles: Bundles) -> None:
    assert json.loads(gateway.deployed.check.splitlines()[-1])["is_equal"] is True
    assert deploy(window_bundles["rhythm"].path, gateway.target, options=HERE).steps == ()
    current = Path(gateway.target.removeprefix("local:")) / "current"
    assert (current / "MODEL_CARD.md").read_text() == tiny_windows.CARD


@pytest.mark.parametrize("kind", ["rate", "rhythm"])
def test_the_device_says_what_this_machine_says_and_how_long_it_took(
    gateway: OnTarget, window_bundles: Bundles, kind: str
) -> None:
    found = gateway.benches[kind]
    assert found.against_host.equal_beats == found.against_host.beats > 8
    assert found.against_host.max_confidence_difference == 0.0
    assert [x.stage for x in found.device.latencies] == ["hop", "model"]
    (record,) = found.device.records
    assert found.device.latency("model").n == record.windows.n
    # The last window may wait for the end of the stream, which is no hop.
    assert 0 <= record.windows.n - found.device.latency("hop").n <= 1
    assert found.device.memory.peak_rss_bytes
    assert from_json(found.file.read_text(), "here") == found.device
    assert f"{found.against_host.beats} of {found.against_host.beats} readings" in found.to_text()
    # What the device brings back is what a pipeline here says, rounded for the journey.
    source, bundle = tiny_windows.KINDS[kind]().given, window_bundles[kind]
    here = readings_of(bundle, OnnxEngine(), source.samples, source.rate_hz)[:-1]
    assert record.windows.at[: len(here)].tolist() == [r.sample for r in here]
    assert record.windows.sure[: len(here)] == pytest.approx([r.confidence for r in here], abs=5.1e-5)


@pytest.mark.parametrize("kind", ["table", "rate"])
def test_readings_are_scored_against_labels(window_bundles: Bundles, kind: str, tmp_path: Path) -> None:
    """The labels were made from the readings, so what is right is known by counting."""
    bundle = window_bundles[kind]
    records = load_windows(bundle, [str(p) for p in labelled(kind, bundle, tmp_path)])
    n = answered = known = 0
    wrong, results = 0.0, []
    for record in records:
        readings = readings_of(bundle, OnnxEngine(), record.samples, record.rate_hz)
        results.append(result(readings, bundle.manifest.classes))
        for j, r in enumerate(readings):
            n, answered = n + 1, answered + (r.value is not None)
            if r.value is not None and j % 10 != 9:
                known, wrong = known + 1, wrong + (j % 3 == 0)
    figures = score_windows(bundle, results, records)
    assert 0 < answered < n
    assert figures["answered"].value == pytest.approx(answered / n)
    if kind == "rate":
        assert figures["mae"].value == pytest.approx(3.0 * wrong / known, abs=1e-3)
        assert figures["mae"].n_records == 2
    else:
        assert figures["accuracy"].value == pytest.approx(1.0 - wrong / known)
        assert figures["accuracy"].n_records == n  # rows are independent of each other
    short = replace(records[0], labels=np.zeros(3))
    with pytest.raises(SettingsError, match=r"3 labels; \d+ readings were given"):
        score_windows(bundle, results, [short, records[1]])


def test_a_bench_without_records_replays_the_golden_signal(gateway: OnTarget, window_bundles: Bundles) -> None:
    found = gateway.benches["rhythm"]
    assert found.device.simulated
    assert not gateway.benches["rate"].device.simulated
    assert found.figures["accuracy"].value is None
    assert gateway.benches["rate"].figures["mae"].value is not None
    assert found.device.latency("model").p99_ns is not None
    assert golden_windows(window_bundles["rhythm"])[0].rate_hz == 250.0


def test_records_and_options_that_do_not_fit_are_refused(window_bundles: Bundles, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((50, 3), np.float32))
    with pytest.raises(SettingsError, match="3 columns; the bundle tiny-rate wants 2"):
        load_windows(window_bundles["rate"], [str(tmp_path / "x.npy")])
    with pytest.raises(SettingsError, match=r"gone.npy: cannot be read as an .npy array"):
        load_windows(window_bundles["rate"], [str(tmp_path / "gone.npy")])
    with pytest.raises(SettingsError, match="--data is mitdb; bundle tiny-rate-"):
        bench_bundle(
            window_bundles["rate"].path,
            f"local:{tmp_path / 'target'}",
            data="mitdb",
            names=None,
            threads=1,
            ship=HERE,
            out=tmp_path / "r.json",
            progress=lambda text, done, total: None,
        )
    assert not (tmp_path / "target").exists()


def test_numbers_that_differ_by_rounding_are_equal_and_others_are_not(gateway: OnTarget) -> None:
    report = gateway.benches["rate"].device
    record = report.records[0]
    for by, is_equal in ((0.002, True), (0.02, False)):
        moved = [
            Reading(name="x", sample=s, t_s=0.0, value=None if v != v else v + by, confidence=c)
            for s, v, c in zip(record.windows.at.tolist(), record.windows.numbers, record.windows.sure, strict=True)
        ]
        other = replace(record, windows=window_readings(moved, ()))
        found = compare_runs(report, replace(report, records=(other, *report.records[1:])))
        assert (found.equal_beats == found.beats) == is_equal


@pytest.mark.parametrize(
    ("change", "words"), [({"n": 3}, r"\[2\] readings; 3 wanted"), ({"labels": ("a",)}, "class 1; 0 to 0 wanted")]
)
def test_a_report_whose_readings_contradict_themselves_is_refused(
    gateway: OnTarget, change: dict[str, object], words: str
) -> None:
    said = [Reading(name="x", sample=i, t_s=0.0, value=v, confidence=1.0) for i, v in enumerate("ab")]
    made = result(said, ("a", "b"))
    bad = replace(made, windows=replace(made.windows, **change))
    with pytest.raises(ReportError, match=words):
        from_json(to_json(replace(gateway.benches["rate"].device, records=(bad,))), "here")
