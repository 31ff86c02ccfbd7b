"""Task `ppg-respiration`: breaths per minute from 32 s of pulse wave (BIDMC).

Protocol: 5 folds of patients, each fold's validation patients among its training patients. The reference is the mean of
two annotators' rates in the window; windows in which one marked fewer than two breaths, or in which they differ by more
than 2 breaths/min, have no trustworthy reference and are counted, but neither trained nor scored.
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
from host_tools.data.bidmc import PulseRecord
from host_tools.fit import Fit
from host_tools.nets.ppg import RateNet, RateNetShape
from host_tools.tasks.ppg_windows import WindowPlan, disturbed, divided, rate_figures
from host_tools.tasks.task import Examples, Fold, Metric

LARGEST_DIFFERENCE = 2.0  # breaths/min between annotators
PLAN = WindowPlan(
    # The corner lies below the slowest breathing counted, 4 breaths/min; the kernel is 4 output samples either way.
    conditioning=Conditioning(rate_hz=25, highpass_hz=0.05, half_width_s=0.16),
    window_s=32.0,
    hop_s=4.0,
    copy_hop_s=8.0,
    centres=tuple(np.arange(4.0, 40.25, 0.5).tolist()),
    sigma=0.75,
    reach=3,
    refuse_below=0.75,
)


class PpgRespiration:
    """Windows of 53 stays of 46 patients, 8 minutes each."""

    name = "ppg-respiration"
    title = "Respiration rate from 32 s of pulse wave (BIDMC)"
    data = "BIDMC PPG and Respiration, 53 records of 46 patients; windows without agreed reference are left out (7 %)"
    classes = tuple(f"{c:g}" for c in PLAN.centres)
    metric = Metric(key="mae", title="mean absolute error", unit="breaths/min", larger_is_better=False, point=0.1)
    teacher_fit = Fit(epochs=5, batch=64, learning_rate=4e-3, weight_decay=2e-2, mean_decay=0.99)
    student_fit = Fit(epochs=8, batch=64, learning_rate=4e-3, weight_decay=2e-2, mean_decay=0.99)
    plan = PLAN

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """Five folds of patients."""
        if root is None:
            raise SettingsError("no data root; set VITALEDGE_DATA to the folder that holds bidmc/")
        return divided(PLAN, bidmc.load(root), agreed_rate)

    def teacher(self) -> nn.Module:
        """Twice as wide; several make an ensemble. Four times as wide did worse on validation patients."""
        return RateNet(shape(hidden=16, learned=8, width=32, rank=32, dropout=0.3))

    def student(self) -> nn.Module:
        """Narrow."""
        return RateNet(shape(hidden=8, learned=5, width=16, rank=16))

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Another baseline, noise, a changing amplitude, lost contact."""
        return disturbed(x, PLAN.conditioning.rate_hz, generator)

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """Errors in breaths/min, see `rate_figures`."""
        return rate_figures(PLAN, logits, examples)


def shape(*, hidden: int, learned: int, width: int, rank: int, dropout: float = 0.2) -> RateNetShape:
    """A network over this task's windows; spectra are of 5 samples a second."""
    return RateNetShape(
        rate_hz=PLAN.conditioning.rate_hz,
        samples=PLAN.samples,
        every=5,
        rates=PLAN.centres,
        demodulated=True,
        hidden=hidden,
        learned=learned,
        width=width,
        rank=rank,
        dropout=dropout,
    )


def agreed_rate(record: PulseRecord, start_s: float, stop_s: float) -> float:
    """Mean of the annotators' rates, breaths/min; NaN where they cannot be trusted."""
    first, second = bidmc.annotators_rates(record, start_s, stop_s)
    return (first + second) / 2 if abs(first - second) <= LARGEST_DIFFERENCE else float("nan")
