"""Task `ppg-heart-rate`: beats per minute from 16 s of pulse wave (BIDMC).

Protocol: 5 folds of patients, each fold's validation patients among its training patients. The reference is the mean of
the monitor's ECG heart rate over the window, which the monitor itself has averaged and shows late: against the rates of
5 s later, networks were a sixth nearer on validation patients. That delay is part of the error that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.signal import Float32Array
from host_tools.data import bidmc
from host_tools.fit import Fit
from host_tools.nets.ppg import RateNet, RateNetShape
from host_tools.tasks.ppg_windows import WindowPlan, disturbed, divided, rate_figures
from host_tools.tasks.task import Examples, Fold, Metric

PLAN = WindowPlan(
    conditioning=Conditioning(rate_hz=25, highpass_hz=0.5, half_width_s=0.16),
    window_s=16.0,
    hop_s=4.0,
    copy_hop_s=12.0,
    centres=tuple(np.arange(40.0, 160.5, 1.0).tolist()),
    sigma=1.5,
    reach=4,
    refuse_below=0.95,
)


class PpgHeartRate:
    """Windows of 53 stays of 46 patients, 8 minutes each."""

    name = "ppg-heart-rate"
    title = "Heart rate from 16 s of pulse wave (BIDMC)"
    data = "BIDMC PPG and Respiration, 53 records of 46 patients; reference: the monitor's ECG heart rate"
    classes = tuple(f"{c:g}" for c in PLAN.centres)
    metric = Metric(key="mae", title="mean absolute error", unit="beats/min", larger_is_better=False, point=0.1)
    teacher_fit = Fit(epochs=5, batch=64, learning_rate=4e-3, weight_decay=2e-2, mean_decay=0.99)
    student_fit = Fit(epochs=8, batch=64, learning_rate=4e-3, weight_decay=2e-2, mean_decay=0.99)
    plan = PLAN

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """Five folds of patients."""
        if root is None:
            raise SettingsError("no data root; set VITALEDGE_DATA to the folder that holds bidmc/")
        return divided(PLAN, bidmc.load(root), bidmc.monitor_heart_rate)

    def teacher(self) -> nn.Module:
        """Twice as wide; several make an ensemble."""
        return RateNet(shape(hidden=16, learned=8, width=32, rank=32, dropout=0.3))

    def student(self) -> nn.Module:
        """Narrow."""
        return RateNet(shape(hidden=8, learned=4, width=16, rank=12))

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Another baseline, noise, a changing amplitude, lost contact."""
        return disturbed(x, PLAN.conditioning.rate_hz, generator)

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """Errors in beats/min, see `rate_figures`."""
        return rate_figures(PLAN, logits, examples)


def shape(*, hidden: int, learned: int, width: int, rank: int, dropout: float = 0.2) -> RateNetShape:
    """A network over this task's windows; spectra are of all its samples."""
    return RateNetShape(
        rate_hz=PLAN.conditioning.rate_hz,
        samples=PLAN.samples,
        every=1,
        rates=PLAN.centres,
        demodulated=False,
        hidden=hidden,
        learned=learned,
        width=width,
        rank=rank,
        dropout=dropout,
    )
