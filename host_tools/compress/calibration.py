"""Scales of a plan's tensors from training examples: drawn with a seed, run in batches, kept as histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.compress.integer_plan import Plan
from host_tools.compress.quantize import Scale
from host_tools.compress.thresholds import Histogram, Thresholds, count, scale_for
from host_tools.measure.activations import inside


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """How the ranges of activations are chosen.

    thresholds  see `compress.thresholds`
    percentile  for thresholds = "percentile": how much of the values stays inside, on each side
    examples    how many training examples are looked at
    """

    thresholds: Thresholds = "mse"
    percentile: float = 99.99
    examples: int = 256

    def __post_init__(self) -> None:
        """Refuse what determines no range."""
        if not 50 < self.percentile <= 100:
            raise SettingsError(f"percentile is {self.percentile:g}; more than 50, at most 100 wanted")
        if self.examples < 1:
            raise SettingsError(f"examples is {self.examples}; 1 or more wanted")


def draw(inputs: Float32Array, n: int, seed: int) -> Float32Array:
    """`n` of the inputs in their order (all, where there are fewer); the same seed draws the same."""
    if len(inputs) <= n:
        return inputs
    return inputs[np.sort(np.random.default_rng(seed).choice(len(inputs), n, replace=False))]


def calibrate_plan(graph: onnx.ModelProto, plan: Plan, inputs: Float32Array, how: Ranges) -> dict[str, Scale]:
    """A scale for every tensor in `plan.tensors`.

    inputs  float32 (n, channels, *size); NaN only where the graph itself imputes it
    Raises SettingsError for an empty set, a shape that is not the graph's, and activations that are not finite.
    """
    _check(graph, inputs)
    seen = histograms(graph, plan.tensors, inputs)
    limits = {tensor: limit for tensor, (_, limit) in plan.relus.items()}
    return {t: scale_for(h, how.thresholds, how.percentile, limits.get(t)) for t, h in seen.items()}


def histograms(graph: onnx.ModelProto, tensors: Sequence[str], inputs: Float32Array) -> dict[str, Histogram]:
    """Histograms of tensors; the graph runs twice, because the bins need the range."""
    ends = {t: (np.inf, -np.inf) for t in tensors}
    done = 0
    for batch in inside(graph, tensors, inputs):
        for name, values in batch.items():
            wrong = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
            if len(wrong):
                bad = values[wrong[0]][~np.isfinite(values[wrong[0]])]
                raise SettingsError(
                    f"calibration example {done + wrong[0]}: activation {name!r} is {bad.ravel()[0]}; "
                    "finite activations wanted"
                )
            low, high = ends[name]
            ends[name] = min(low, float(values.min())), max(high, float(values.max()))
        done += len(next(iter(batch.values())))
    counts: dict[str, tuple[np.ndarray, int]] = {}
    for batch in inside(graph, tensors, inputs):
        for name, values in batch.items():
            bins, zeros = count(values, *ends[name])
            before = counts.get(name, (0, 0))
            counts[name] = before[0] + bins, before[1] + zeros
    return {t: Histogram(counts=c, zeros=zeros, low=ends[t][0], high=ends[t][1]) for t, (c, zeros) in counts.items()}


def _check(graph: onnx.ModelProto, inputs: Float32Array) -> None:
    wanted = [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim][1:]
    if len(inputs) == 0:
        raise SettingsError("calibration set is empty (0 examples); training examples wanted")
    if list(inputs.shape[1:]) != wanted:
        raise SettingsError(f"calibration examples have shape {tuple(inputs.shape[1:])}; {tuple(wanted)} wanted")
