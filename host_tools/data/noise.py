"""Calibrated noise on an ECG, as the noise stress test defines it.

The power of the signal is taken from its QRS complexes, so that it does not depend on the heart rate: S = A^2 / 8, the
power of a sinusoid whose peak-to-peak amplitude is A, that of the QRS complexes. The power of the noise is N = B^2, B
its RMS in epochs of one second, each about its own mean. Noise is multiplied by

    gain = A / (sqrt(8) B) * 10^(-SNR / 20),  so that  SNR = 10 log10(S / (gain^2 N))  decibels.

A is measured on the first 300 complexes that are neither ventricular nor fusion beats, from 50 ms before to 50 ms
after the annotation, B in the first 300 epochs; of both the largest and the smallest 5 % are left out of the mean.

Source: Moody, Muldrow and Mark, "A noise stress test for arrhythmia detectors", Computers in Cardiology 11, 1984; the
manual of `nst` in the WFDB Applications Guide, section "Signal-to-noise ratios".
"""

from __future__ import annotations

import math

import numpy as np

from edge_runtime.contract.signal import Float32Array, Float64Array

N_MEASURED = 300
TRIMMED = 20  # one in so many is left out at each end
QRS_HALF_S = 0.05
EPOCH_S = 1.0
LEARNING_S = 300.0
STRETCH_S = 120.0


def qrs_amplitude(x: Float32Array, beats: np.ndarray, rate_hz: float) -> float:
    """Trimmed mean peak-to-peak amplitude of the first 300 complexes, in the unit of `x`.

    x        (n,)
    beats    (beats,), samples of the QRS annotations; those whose window leaves the record are skipped
    returns  NaN where no complex can be measured
    """
    reach = round(QRS_HALF_S * rate_hz)
    at = np.rint(np.asarray(beats)).astype(np.int64)
    at = at[(at >= reach) & (at < len(x) - reach)][:N_MEASURED]
    if not len(at):
        return math.nan
    windows = np.asarray(x)[at[:, None] + np.arange(-reach, reach + 1)]
    return _trimmed_mean(np.ptp(windows, axis=1))


def noise_amplitude(x: Float32Array, rate_hz: float) -> float:
    """Trimmed mean RMS of the first 300 epochs of one second; NaN where there is no whole epoch."""
    size = round(EPOCH_S * rate_hz)
    n = min(N_MEASURED, len(x) // size)
    if not n:
        return math.nan
    return _trimmed_mean(np.asarray(x[: n * size], np.float64).reshape(n, size).std(axis=1))


def noise_gain(qrs_peak_to_peak: float, noise_rms: float, snr_db: float) -> float:
    """What noise is multiplied by for a signal-to-noise ratio; both amplitudes in the same unit."""
    return float(qrs_peak_to_peak / (math.sqrt(8.0) * noise_rms) * 10.0 ** (-snr_db / 20.0))


def noisy_spans(n: int, rate_hz: float) -> np.ndarray:
    """Stretches with noise: after five minutes without, two minutes noisy, two clean, and so on; int64 (spans, 2)."""
    first, length = round(LEARNING_S * rate_hz), round(STRETCH_S * rate_hz)
    starts = np.arange(first, n, 2 * length)
    return np.stack([starts, np.minimum(starts + length, n)], axis=1).astype(np.int64)


def added_noise(noise: Float32Array, gain: float, spans: np.ndarray, n: int, start: int = 0) -> Float64Array:
    """What is added to a record of `n` samples: `gain` times the noise within `spans`, without steps at their ends.

    noise    (m,), read beside the record from sample `start` on; behind its end it begins again
    returns  float64 (n,); where noise begins or ends the level is kept, as `nst` does by its offsets
    """
    index = (start + np.arange(n)) % len(noise)
    steps = np.diff(np.asarray(noise, np.float64)[index], prepend=float(noise[index[0]]))
    steps[index == 0] = 0.0  # from its last sample to its first is no noise
    gains = np.zeros(n)
    for begin, end in spans:
        gains[begin:end] = gain
    return np.asarray(np.cumsum(gains * steps))


def _trimmed_mean(values: np.ndarray) -> float:
    """Mean without the smallest and largest 5 % (rounded down)."""
    out = len(values) // TRIMMED
    return float(np.sort(np.asarray(values, np.float64))[out : len(values) - out].mean())
