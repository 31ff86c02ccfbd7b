"""Inputs of golden vectors, all made up: no recording of a person travels in a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge_runtime.contract.signal import Float32Array
from edge_runtime.sensors.synthetic import simulate


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenInput:
    """Samples float32 (n, channels) as a source gives them, at `rate_hz`."""

    samples: Float32Array
    rate_hz: float


def ecg(seconds: float, rate_hz: float, n_channels: int = 1, seed: int = 7) -> GoldenInput:
    """A simulated patient with ectopic beats, one or two leads, mV."""
    found = simulate(seconds, rate_hz=rate_hz, seed=seed, heart_rate_bpm=75, pvc=0.12, pac=0.12, noise_mv=0.02)
    return GoldenInput(samples=found.samples[:, :n_channels].copy(), rate_hz=rate_hz)


def pulse_wave(seconds: float, rate_hz: float, seed: int = 7) -> GoldenInput:
    """A photoplethysmogram-like wave around 0.5, amplitude about 0.4; breathing rises from 10 to 20 a minute.

    Two Gaussians a beat, systolic peak and diastolic shoulder, on which breathing acts in the three ways that
    Charlton et al. name: baseline, amplitude and frequency ("Breathing rate estimation from the electrocardiogram and
    photoplethysmogram: a review", IEEE Rev Biomed Eng 11, 2018).
    """
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    breath = np.sin(2.0 * np.pi * np.cumsum(np.linspace(10.0, 20.0, len(t)) / 60.0) / rate_hz)
    beats = np.cumsum((1.2 + 0.05 * breath) / rate_hz)  # 72 beats a minute
    phase = beats % 1.0
    pulse = np.exp(-0.5 * ((phase - 0.25) / 0.09) ** 2) + 0.35 * np.exp(-0.5 * ((phase - 0.6) / 0.12) ** 2)
    wave = 0.5 + 0.4 * (1.0 + 0.1 * breath) * (pulse - 0.4) + 0.06 * breath + 0.004 * rng.standard_normal(len(t))
    return GoldenInput(samples=wave.astype(np.float32).reshape(-1, 1), rate_hz=rate_hz)


def rows(n: int, low: np.ndarray, high: np.ndarray, *, missing: float = 0.0, seed: int = 7) -> GoldenInput:
    """`n` rows of a table, each column drawn evenly from [low, high] (columns,); a share of the cells is NaN."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(low, high, (n, len(low)))
    x[rng.random(x.shape) < missing] = np.nan
    return GoldenInput(samples=x.astype(np.float32), rate_hz=1.0)


def in_steps(given: GoldenInput, step: float) -> GoldenInput:
    """The input in whole steps, as a converter gives it.

    Steps of a power of two leave the lower half of every float32 zero, and zeros pack well.
    """
    return replace(given, samples=(np.round(given.samples / step) * step).astype(np.float32))


def repeated(given: GoldenInput, times: int) -> GoldenInput:
    """The input several times in a row: longer, and hardly any more bytes when packed."""
    return replace(given, samples=np.tile(given.samples, (times, 1)))
