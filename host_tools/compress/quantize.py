"""Post-training INT8: scales for every tensor of a trunk, from training signals only.

Uint8 activations with one scale per tensor, int8 weights with one scale per output channel, int32 biases
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018). A tensor whose values are never negative gets zero point 0, so ReLU is part of the rounding and an empty
state is all zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.export.program import Conv, Program, run


@dataclass(frozen=True, kw_only=True)
class Scale:
    """real = scale * (integer - zero_point), integers uint8."""

    scale: float
    zero_point: int

    def quantize(self, x: Float32Array) -> np.ndarray:
        """float32 -> uint8, rounding half to even as the engines do."""
        return np.asarray(np.clip(np.rint(x / np.float32(self.scale)) + self.zero_point, 0, 255), np.uint8)

    def dequantize(self, q: np.ndarray) -> Float32Array:
        """uint8 -> float32."""
        return ((q.astype(np.float32) - self.zero_point) * np.float32(self.scale)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How activation ranges are chosen: the smallest mean squared error over shrunk ranges, in `steps` steps."""

    smallest: float = 0.3
    steps: int = 36


def calibrate(program: Program, signals: Sequence[Float32Array], how: Calibration | None = None) -> dict[str, Scale]:
    """A scale for each tensor, from float32 (samples,) training signals; raises SettingsError if there is none."""
    how = how or Calibration()
    if not signals:
        raise SettingsError("calibration set is empty; training windows wanted")
    values: dict[str, list[np.ndarray]] = {}
    for x in signals:
        for name, tensor in run(program, x).items():
            values.setdefault(name, []).append(tensor.ravel()[::7])
    return {name: _best(np.concatenate(parts), how) for name, parts in values.items() if name != program.output}


def _best(x: np.ndarray, how: Calibration) -> Scale:
    low, high = min(0.0, float(x.min())), max(float(x.max()), 1e-6)
    sample = x[:: max(1, len(x) // 20000)]
    candidates = []
    for shrink in np.linspace(how.smallest, 1.0, how.steps):
        scale = _scale(low * shrink, high * shrink)
        error = float(np.mean((scale.dequantize(scale.quantize(sample)) - sample) ** 2))
        candidates.append((error, scale))
    return min(candidates, key=lambda c: c[0])[1]


def _scale(low: float, high: float) -> Scale:
    scale = (high - low) / 255.0
    return Scale(scale=scale, zero_point=round(-low / scale))


def quantize_weight(conv: Conv) -> tuple[np.ndarray, Float32Array]:
    """Symmetric int8 weights (same shape) and their scales float32 (out,)."""
    largest = np.abs(conv.weight).reshape(len(conv.weight), -1).max(axis=1)
    scale = np.maximum(largest / 127.0, 1e-8).astype(np.float32)
    return np.clip(np.rint(conv.weight / scale[:, None, None]), -127, 127).astype(np.int8), scale
