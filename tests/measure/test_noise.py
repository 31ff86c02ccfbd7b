"""The noise stress test: which lead is disturbed, which beats are scored, and the command on a tiny bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EdgeError, SettingsError
from host_tools.cli import main
from host_tools.data import nstdb
from host_tools.data.records import EcgRecord
from host_tools.measure.intervals import Interval
from host_tools.measure.noise import NOISY, SHOWN, WHOLE, Stress, StressLine, noisy_record, scored_part, stress_bundle
from host_tools.measure.score import NO_SPANS
from host_tools.measure.streaming import score_readings

RATE_HZ, MINUTE = 360.0, 21600
SHIPPED = Path(__file__).parents[2] / "deploy" / "bundles" / "ecg-beats"


def record(minutes: int = 12, masked: np.ndarray = NO_SPANS) -> EcgRecord:
    """A spike of 2 mV every second; every tenth is a ventricular beat of 8 mV."""
    n = minutes * MINUTE
    beats = np.arange(180, n, 360)
    classes = np.where(np.arange(len(beats)) % 10 == 9, 2, 0)
    leads = np.zeros((n, 2), np.float32)
    leads[beats, 0] = np.where(classes == 2, 8.0, 2.0)
    return EcgRecord(
        name="made", rate_hz=RATE_HZ, lead_names=("MLII", "V1"), leads=leads, beat_samples=beats,
        beat_classes=classes, masked=masked,
    )  # fmt: skip


def noise(rate_hz: float = RATE_HZ) -> nstdb.NoiseRecord:
    rng = np.random.default_rng(0)
    return nstdb.NoiseRecord(name="em", rate_hz=rate_hz, signals=rng.normal(0, 0.4, (90_000, 2)).astype(np.float32))


@pytest.mark.parametrize("snr_db", [12.0, 0.0])
def test_the_lead_of_the_student_gets_noise_of_the_wanted_level(snr_db: float) -> None:
    clean = record()
    noisy = noisy_record(clean, noise(), snr_db, start=17)
    added = noisy.leads[:, 0].astype(np.float64) - clean.leads[:, 0]
    assert noisy.lead_names == ("MLII",)
    assert not added[: 5 * MINUTE].any()
    # Normal beats alone are 2 mV high: their power is 2^2 / 8.
    for minute in (5, 6, 9, 10):
        power = added[minute * MINUTE : (minute + 1) * MINUTE].var()
        assert 10 * np.log10(0.5 / power) == pytest.approx(snr_db, abs=0.2)
    assert added[7 * MINUTE : 9 * MINUTE].var() == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_array_equal(noisy.beat_samples, clean.beat_samples)


def test_another_start_is_another_part_of_the_noise() -> None:
    one, other = (noisy_record(record(), noise(), 6.0, start=s).leads[:, 0] for s in (0, 1))
    a, b = (np.diff(x[5 * MINUTE : 6 * MINUTE].astype(np.float64)) for x in (one, other))
    clean = np.diff(record().leads[5 * MINUTE : 6 * MINUTE, 0].astype(np.float64))
    np.testing.assert_allclose((a - clean)[2:], (b - clean)[1:-1], atol=1e-4)


def test_noise_of_another_rate_and_a_silent_record_are_refused() -> None:
    with pytest.raises(SettingsError, match="made has 360 Hz; that of the noise, 250 Hz"):
        noisy_record(record(), noise(250.0), 6.0)
    silent = record()
    silent.leads[:] = 0
    with pytest.raises(SettingsError, match="made: QRS amplitude is 0 mV"):
        noisy_record(silent, noise(), 6.0)


@pytest.mark.parametrize(("part", "minutes"), [(WHOLE, range(5, 12)), (NOISY, (5, 6, 9, 10))])
def test_only_beats_of_the_part_are_scored(part: str, minutes: range | tuple[int, ...]) -> None:
    """Nothing is detected, so that every scored beat is a missed one."""
    flutter = np.array([[5 * MINUTE, 5 * MINUTE + 3600]])  # ten seconds of the fifth minute
    found = score_readings(scored_part(record(masked=flutter), part), [])
    wanted = [i for i, s in enumerate(record().beat_samples) if s // MINUTE in minutes and not 0 <= s - 108000 < 3600]
    assert found.missed.tolist() == wanted


def test_a_record_that_ends_before_the_noise_has_nothing_to_score() -> None:
    for part in (WHOLE, NOISY):
        assert score_readings(scored_part(record(4), part), []).counts.sum() == 0


def test_the_table_names_each_test_once_and_shows_percent() -> None:
    value = Interval(value=0.5, low=0.25, high=0.75, n_records=3)
    none = Interval(value=None, low=None, high=None, n_records=3)
    figures = {**dict.fromkeys(SHOWN, value), "s_f1": none}
    lines = [
        StressLine(test=t, part=p, snr_db=s, figures=figures, records=())
        for t in ("A", "B")
        for p in (WHOLE, NOISY)
        for s in (None, 6.0)
    ]
    found = Stress(schema=1, bundle="b-1", models={"trunk.onnx": "0"}, noise="em", seed=3, lines=tuple(lines))
    text = found.to_text()
    assert text.count("A, noisy stretches only (only 3 records: the interval is too narrow)") == 1
    assert text.count("50.00 [25.0, 75.0]") == 4 * len(lines)
    assert [x.split()[0] for x in text.splitlines()[4:6]] == ["clean", "6"]
    assert json.loads(found.to_json())["lines"][1]["snr_db"] == 6.0


def test_what_is_missing_is_said_in_one_line(
    window_bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "mitdb").mkdir()
    monkeypatch.setenv("VITALEDGE_DATA", str(tmp_path))
    out = tmp_path / "stress.json"
    assert main(["stress", str(SHIPPED), "--out", str(out)]) == 1
    assert not out.exists()
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("vitaledge:")]
    assert len(lines) == 1
    assert "em.hea: no such file" in lines[0]
    with pytest.raises(EdgeError, match="ecg-beats wanted"):
        stress_bundle(next(iter(window_bundles.values())).path, tmp_path, [6.0])
    with pytest.raises(SettingsError, match="one or more numbers"):
        stress_bundle(SHIPPED, tmp_path, [float("nan")])
