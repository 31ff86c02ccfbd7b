"""Fixed parts of the pulse networks against scipy and numpy; the networks as graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal

from host_tools.export.plain import export_plain
from host_tools.measure.logits import graph_logits, network_logits
from host_tools.measure.macs import macs, parameters
from host_tools.nets.ppg import Demodulated, RateNet, Spectra
from host_tools.tasks.ppg_heart_rate import PpgHeartRate
from host_tools.tasks.ppg_respiration import PpgRespiration
from host_tools.tasks.task import Task

TASKS: list[Task] = [PpgRespiration(), PpgHeartRate()]
RATE_HZ, EVERY = 25, 5
T = np.arange(1600) / RATE_HZ
INSIDE = slice(20, -20)  # frames whose filters saw no edge


def demodulated(wave: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(wave.astype(np.float32))[None, None, None]
    return Demodulated(RATE_HZ, EVERY)(x)[0, :, 0].numpy()


def test_amplitude_is_the_envelope_of_the_pulse() -> None:
    wave = (1 + 0.4 * np.sin(2 * np.pi * 0.25 * T)) * np.cos(2 * np.pi * 1.5 * T)
    envelope = np.abs(signal.hilbert(wave))[::EVERY]
    found = demodulated(wave)[1]
    assert np.corrcoef(found[INSIDE], envelope[INSIDE])[0, 1] > 0.999
    assert found[INSIDE].mean() == pytest.approx(envelope[INSIDE].mean(), rel=0.03)


def test_pulse_rate_is_the_phase_s_advance() -> None:
    for f_hz in (1.0, 1.5, 2.5):
        found = demodulated(2.0 * np.cos(2 * np.pi * f_hz * T))[2][INSIDE]
        assert found == pytest.approx(np.full(len(found), np.sin(2 * np.pi * f_hz / RATE_HZ)), rel=0.05)


def test_baseline_keeps_breathing_and_loses_the_pulse() -> None:
    breath = 0.3 * np.sin(2 * np.pi * 0.25 * T)
    found = demodulated(breath + np.cos(2 * np.pi * 4.9 * T))[0]
    assert found[INSIDE] == pytest.approx(breath[::EVERY][INSIDE], abs=0.03)


def test_spectra_are_the_dft_s_power_over_its_mean() -> None:
    rates = tuple(np.arange(6.0, 30.0, 0.5))
    y = np.random.default_rng(0).standard_normal(160)
    found = Spectra(160, 5.0, rates)(torch.from_numpy(y.astype(np.float32))[None, None, None])[0, 0, 0].numpy()
    taper = signal.windows.hann(162)[1:-1]
    # scipy's periodogram of a zero-padded series has a line at every 0.5 per minute.
    f, power = signal.periodogram(y, 5.0, window=taper, nfft=600, detrend=False)
    lines = power[np.round(np.array(rates) / 0.5).astype(int)]
    assert f[12] * 60 == pytest.approx(6.0)
    assert found == pytest.approx(np.log(lines / lines.mean() + 0.02), abs=2e-3)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_gain_and_offset_of_a_window_change_nothing(task: Task) -> None:
    torch.manual_seed(0)
    student = task.student().eval()
    assert isinstance(student, RateNet)
    x = torch.randn(3, 1, task.plan.samples)  # type: ignore[attr-defined]
    with torch.no_grad():
        assert torch.allclose(student(x), student(0.3 * x + 0.5), atol=1e-3)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_a_network_and_its_graph_agree(task: Task) -> None:
    torch.manual_seed(1)
    network = task.student().eval()
    samples = task.plan.samples  # type: ignore[attr-defined]
    x = np.random.default_rng(2).standard_normal((5, 1, samples)).cumsum(axis=2).astype(np.float32)
    graph = export_plain(network, (1, samples))
    assert np.abs(graph_logits(graph, x) - network_logits(network, x)).max() <= 1e-4
    flat = np.zeros((1, 1, samples), np.float32)  # a sensor without contact
    assert np.isfinite(graph_logits(graph, flat)).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_students_are_small(task: Task) -> None:
    student = task.student()
    plan = task.plan  # type: ignore[attr-defined]
    # What the fixed filters and spectra multiply is not in modules; counted here from their shapes.
    assert isinstance(student, RateNet)
    fixed = 2 * student.spectra.lines.shape[0] * len(plan.centres) * 9
    if student.demodulated is not None:
        fixed += 2 * plan.samples * student.demodulated.pair.shape[-1]
    assert parameters(student) <= 30_000
    assert macs(student, (1, plan.samples)) + fixed <= 3_000_000
    assert parameters(task.teacher()) > 2 * parameters(student)
