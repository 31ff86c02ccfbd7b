"""Labelled ECG recordings, wherever they come from, and the splits of the task `ecg-beats`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array


@dataclass(frozen=True, kw_only=True, eq=False)
class EcgRecord:
    """One labelled recording.

    leads          float32 (n, 1 or 2), mV; column 0 is the lead the student sees
    beat_samples   int64 (beats,), R peaks in samples, ascending
    beat_classes   int64 (beats,), index into AAMI_CLASSES
    masked         int64 (spans, 2), stretches [start, stop) in samples that are neither trained nor scored
    """

    name: str
    rate_hz: float
    lead_names: tuple[str, ...]
    leads: Float32Array
    beat_samples: np.ndarray
    beat_classes: np.ndarray
    masked: np.ndarray
    simulated: bool = False

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.leads) / self.rate_hz


@dataclass(frozen=True, kw_only=True)
class Split:
    """Record names by use; `apart` are tested and reported, but outside the headline figures."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    apart: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a record on two sides."""
        groups = {"train": self.train, "validation": self.validation, "test": (*self.test, *self.apart)}
        for left, right in (("train", "validation"), ("train", "test"), ("validation", "test")):
            both = set(groups[left]) & set(groups[right])
            if both:
                raise SettingsError(f"records {sorted(both)} are in {left} and in {right}; one wanted")
