"""The ECG simulator: deterministic, however cut; its labels and rhythm are what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.sensors.synthetic import EcgSimulator, N, S, Scenario, SimulatedEcg, V, simulate
from host_tools.data import simulated

BUSY = Scenario(pvc=0.1, pac=0.08, pause=0.01, patient=3)


def intervals_s(ecg: SimulatedEcg) -> np.ndarray:
    return np.diff(ecg.beat_samples) / ecg.rate_hz


@pytest.mark.parametrize("sizes", [[7200], [100] * 72, [1, 7199], [3599, 3601], [0, 7200]])
def test_cutting_the_recording_differently_changes_nothing(sizes: list[int]) -> None:
    whole = EcgSimulator(BUSY, rate_hz=360.0, seed=5).take(7200)
    simulator = EcgSimulator(BUSY, rate_hz=360.0, seed=5)
    parts = [simulator.take(n) for n in sizes]
    np.testing.assert_allclose(np.concatenate([p.samples for p in parts]), whole.samples, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([p.beat_samples for p in parts]), whole.beat_samples)
    np.testing.assert_array_equal(np.concatenate([p.beat_classes for p in parts]), whole.beat_classes)


def test_same_arguments_same_samples_and_another_seed_others() -> None:
    one, again, other = (simulate(10, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.samples, again.samples)
    assert not np.array_equal(one.beat_samples, other.beat_samples)


def test_every_beat_is_where_the_signal_has_its_qrs() -> None:
    for patient in range(1, 12):
        ecg = simulate(60, patient=patient, noise_mv=0.0, pvc=0.15, pac=0.1)
        for at, kind in zip(ecg.beat_samples, ecg.beat_classes, strict=True):
            near = ecg.samples[max(0, at - 36) : at + 37, 0]
            near = np.abs(near) if kind == V else near
            peak = max(0, at - 36) + int(np.argmax(near))
            assert abs(peak - at) / ecg.rate_hz <= 0.01 or at < 36 or at > len(ecg.samples) - 37


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 360.0])
def test_rate_and_shares_are_what_was_asked_for(rate_hz: float) -> None:
    ecg = simulate(1800, rate_hz=rate_hz, heart_rate_bpm=70, pvc=0.1, pac=0.08)
    share = np.bincount(ecg.beat_classes, minlength=3) / len(ecg.beat_classes)
    assert share[V] == pytest.approx(0.1, abs=0.03)
    assert share[S] == pytest.approx(0.08, abs=0.03)
    assert len(ecg.samples) == 1800 * rate_hz
    assert len(ecg.beat_samples) / 30 == pytest.approx(70, rel=0.08)


def test_premature_beats_are_early_and_only_ventricular_pauses_compensate() -> None:
    ecg = simulate(1800, pvc=0.06, pac=0.06)
    rr = intervals_s(ecg) / np.median(intervals_s(ecg))
    kinds = ecg.beat_classes
    around = {S: [], V: []}
    for i in range(1, len(kinds) - 1):
        if kinds[i] != N and kinds[i - 1] == kinds[i + 1] == N:
            around[int(kinds[i])].append((rr[i - 1], rr[i]))
    before, after = np.array(around[V]).T
    assert before.max() < 0.9
    assert np.median(before + after) == pytest.approx(2.0, abs=0.05)
    before, after = np.array(around[S]).T
    assert before.max() < 0.95
    assert np.median(before + after) < 1.9


def test_ventricular_beats_are_wide_and_atrial_beats_are_not() -> None:
    ecg = simulate(600, pvc=0.1, pac=0.1, noise_mv=0.0, patient=2)

    def width_s(at: int) -> float:
        near = np.abs(ecg.samples[at - 50 : at + 50, 0])
        above = near > near[50] / 2
        right = int(np.argmin(above[50:]))
        left = int(np.argmin(above[50::-1]))
        return (left + right) / ecg.rate_hz

    inner = (ecg.beat_samples > 60) & (ecg.beat_samples < len(ecg.samples) - 60)
    widths = {k: [width_s(a) for a in ecg.beat_samples[inner & (ecg.beat_classes == k)]] for k in (N, S, V)}
    assert np.median(widths[V]) > 2 * np.median(widths[N])
    assert np.median(widths[S]) < 1.2 * np.median(widths[N])


def test_a_pause_is_a_missing_beat() -> None:
    calm, pausing = simulate(600), simulate(600, pause=0.05)
    assert intervals_s(calm).max() < 1.3
    assert np.sum(intervals_s(pausing) > 1.5) > 10


def test_leads_are_two_views_of_one_heart() -> None:
    ecg = simulate(60, noise_mv=0.0)
    assert 0.2 < abs(np.corrcoef(ecg.samples.T)[0, 1]) < 0.99


def test_t_wave_follows_the_heart_rate() -> None:
    def t_peak_s(bpm: float) -> float:
        ecg = simulate(60, heart_rate_bpm=bpm, noise_mv=0.0, patient=1)
        delays = [
            100 + np.argmax(ecg.samples[a + 100 : a + 200, 0])
            if bpm < 90
            else 50 + np.argmax(ecg.samples[a + 50 : a + 120, 0])
            for a in ecg.beat_samples
            if a + 200 < len(ecg.samples)
        ]
        return float(np.median(delays)) / ecg.rate_hz

    # Framingham: 0.154 s of QT for each second of RR (Sagie et al., 1992).
    assert t_peak_s(50) - t_peak_s(100) == pytest.approx(0.154 * (60 / 50 - 60 / 100), abs=0.015)


def test_noise_has_the_level_that_was_asked_for() -> None:
    loud, silent = simulate(60, noise_mv=0.1), simulate(60, noise_mv=0.0)
    noise = loud.samples - silent.samples
    # A second difference keeps muscle noise and removes wander; AR weights 1, -2.6, 2.2, -0.6.
    gain = np.sqrt((1 + 2.6**2 + 2.2**2 + 0.6**2) / 1.36)
    assert np.diff(noise[:, 0], n=2).std() / gain == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"heart_rate_bpm": 0},
        {"pvc": 0.3, "pac": 0.3},
        {"pause": -1},
        {"noise_mv": float("nan")},
        {"rate_hz": 1},
    ],
)
def test_what_no_heart_does_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="wanted"):
        simulate(1, **wrong)


def test_the_data_set_is_simulated_and_says_so() -> None:
    split = simulated.split()
    names = (*split.train, *split.validation, *split.test)
    assert len(set(names)) == 20
    for group in (split.train, split.validation, split.test):
        records = [simulated.load(Path("unused"), name, seconds=120.0) for name in group]
        assert all(r.simulated and r.leads.dtype == np.float32 for r in records)
        assert all(r.beat_samples.shape == r.beat_classes.shape for r in records)
        counts = np.sum([np.bincount(r.beat_classes, minlength=3) for r in records], axis=0)
        assert (counts > 10).all()


def test_an_unknown_record_is_refused() -> None:
    with pytest.raises(SourceError, match="sim99"):
        simulated.load(Path("unused"), "sim99")
