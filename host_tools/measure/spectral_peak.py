"""The classical estimate of a rate: where the spectrum of a window is largest within a band.

What networks must beat. Source of the idea: Charlton et al., "An assessment of algorithms to estimate respiratory rate
from the electrocardiogram and photoplethysmogram", Physiological Measurement 37, 2016.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.signal import Float32Array, Float64Array

STEP_PER_MIN = 0.1


def spectral_peak(windows: Float32Array, rate_hz: float, low_per_min: float, high_per_min: float) -> Float64Array:
    """Rates per minute (n,) from windows (n, 1, samples): without their line, Hann taper, zero-padded spectrum."""
    x = windows[:, 0].astype(np.float64)
    t = np.linspace(-1.0, 1.0, x.shape[1])
    x = x - x.mean(axis=1, keepdims=True)
    x = (x - (x @ t / (t @ t))[:, None] * t) * np.hanning(x.shape[1])
    n = int(np.ceil(60.0 * rate_hz / STEP_PER_MIN))
    per_min = np.fft.rfftfreq(n, 1.0 / rate_hz) * 60.0
    inside = (per_min >= low_per_min) & (per_min <= high_per_min)
    peaks = [np.abs(np.fft.rfft(row, n))[inside].argmax() for row in x]
    return np.asarray(per_min[inside][peaks], np.float64)
