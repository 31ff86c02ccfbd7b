"""Signal-to-quantization-noise ratio: how much louder a tensor is than what rounding changed in it, in decibels.

10 log10(sum x^2 / sum (x - y)^2); a full-scale uniform signal gains 6.02 dB a bit (Bennett, "Spectra of Quantized
Signals", Bell System Technical Journal, 1948).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx

from edge_runtime.contract.signal import Float32Array
from host_tools.measure.activations import inside


def sqnr_db(x: np.ndarray, y: np.ndarray) -> float:
    """Of a signal x and its rounded form y, same shape; infinite where nothing changed."""
    wide = np.asarray(x, np.float64)
    return _decibels(float((wide**2).sum()), float(((wide - y) ** 2).sum()))


def activation_sqnr_db(
    before: onnx.ModelProto, after: onnx.ModelProto, pairs: Mapping[str, str], inputs: Float32Array
) -> dict[str, float]:
    """Of each tensor of one graph against the one in the other that it is paired with, for the same inputs.

    What layers in front of a tensor lost is part of its noise. Values that are not finite in `before` are left out.
    """
    signal, noise = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)
    wanted = list(dict.fromkeys(pairs.values()))
    for x, y in zip(inside(before, list(pairs), inputs), inside(after, wanted, inputs), strict=True):
        for name, other in pairs.items():
            wide = x[name].astype(np.float64)
            known = np.isfinite(wide)
            signal[name] += float((wide[known] ** 2).sum())
            noise[name] += float(((wide - y[other])[known] ** 2).sum())
    return {name: _decibels(signal[name], noise[name]) for name in pairs}


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal else -math.inf
