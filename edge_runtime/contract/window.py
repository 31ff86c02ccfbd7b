"""What a window model sees and says: how samples become windows, and how logits become readings."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.logits import expected, probabilities
from edge_runtime.contract.signal import Float32Array

PIECE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Window:
    """One graph over windows, float32 (1, channels, window_samples) -> logits (1, outputs); travels in the manifest.

    reading         name of what is said, such as rhythm or respiration_rate
    reading_unit    of a number, such as 1/min; empty for classes
    output          "class": the most probable class; "number": the mean of the bins near the most probable one
    values          centres of the bins, ascending; empty for classes
    reach           bins on each side of the most probable one that count for the mean
    channels        names, in the order of the graph's rows
    rate_hz         of the samples that the graph sees; 1 for rows of a table, which have no time
    window_samples  at that rate; 1 for rows of a table
    missing         "refused": no window holds a sample that is not a number; "in graph": NaN goes into the graph
    refuse_below    a reading of a smaller confidence has no value
    least_movement  a fifth of a second that moves less is unusable; in the stream's unit, after conditioning
    largest         and so is one that leaves +-largest; None: no limit
    """

    reading: str
    reading_unit: str = ""
    output: Literal["class", "number"] = "class"
    values: tuple[float, ...] = ()
    reach: int = 0
    channels: tuple[str, ...]
    rate_hz: float
    window_samples: int
    missing: Literal["refused", "in graph"] = "refused"
    refuse_below: float = 0.0
    least_movement: float = 0.0
    largest: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.reading or not self.channels:
            raise SettingsError(f"reading is {self.reading!r}, channels are {self.channels}; names wanted")
        if self.window_samples < 1 or not 0 < self.rate_hz < math.inf:
            raise SettingsError(f"window_samples is {self.window_samples} at {self.rate_hz:g} Hz; 1 or more wanted")
        if not 0 <= self.refuse_below <= 1:
            raise SettingsError(f"refuse_below is {self.refuse_below:g}; a probability wanted")
        if self.output == "class" and (self.values or self.reach):
            raise SettingsError("output is 'class', but there are values or reach; they belong to 'number'")
        if self.output == "number" and (len(self.values) < 2 or np.any(np.diff(self.values) <= 0) or self.reach < 0):
            raise SettingsError(f"output is 'number' over {len(self.values)} values; two or more, ascending, wanted")

    def read(self, logits: Float32Array, classes: tuple[str, ...]) -> tuple[float | str | None, float]:
        """Value and confidence of one window's logits (outputs,); None where they do not support a value."""
        if not np.isfinite(logits).all():
            return None, 0.0
        value: float | str
        if self.output == "number":
            mean, mass = expected(logits[None], np.array(self.values), self.reach)
            value, confidence = float(mean[0]), min(1.0, float(mass[0]))
        else:
            p = probabilities(logits[None])[0]
            label = int(p.argmax())
            value, confidence = classes[label], float(p[label])
        return (value if confidence >= self.refuse_below else None), confidence

    def quality(self, samples: Float32Array) -> float:
        """Share of usable pieces of a window (window_samples, channels), over all channels.

        A piece lasts a fifth of a second, or one row: it is unusable if a value is missing, if it moves less than
        `least_movement`, or if it leaves +-`largest`.
        """
        n = max(1, min(round(PIECE_S * self.rate_hz), len(samples)))
        pieces = samples[: len(samples) // n * n].reshape(-1, n, samples.shape[1])
        low, high = pieces.min(axis=1), pieces.max(axis=1)  # NaN if one is
        usable = high - low >= self.least_movement
        if self.largest is not None:
            usable &= np.maximum(-low, high) <= self.largest
        return float(usable.mean())
