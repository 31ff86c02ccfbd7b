"""A simulated data set with the interface of mitdb.py, for demonstrations without real records."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SourceError
from edge_runtime.sensors.synthetic import LEADS, simulate
from host_tools.data.records import EcgRecord, Split

RATE_HZ = 360.0
DEFAULT_SECONDS = 300.0
NAMES = tuple(f"sim{i:02d}" for i in range(1, 21))


def split() -> Split:
    """12 patients to train on, 3 to validate, 5 to test."""
    return Split(train=NAMES[:12], validation=NAMES[12:15], test=NAMES[15:])


def load(root: Path, name: str, *, seconds: float = DEFAULT_SECONDS) -> EcgRecord:
    """One simulated patient: own morphology, heart rate, share of premature beats and noise.

    root  not used; there so that data sets are interchangeable
    Raises SourceError for a name that is not in `split()`.
    """
    if name not in NAMES:
        raise SourceError(f"no simulated record {name!r}; {NAMES[0]} to {NAMES[-1]} exist")
    number = NAMES.index(name) + 1
    rng = np.random.default_rng([number, 4])
    # Two patients in three have many ectopic beats of one kind, so that each side of the split has both.
    ventricular, atrial = number % 3 != 0, number % 3 != 1
    ecg = simulate(
        seconds,
        rate_hz=RATE_HZ,
        seed=number,
        heart_rate_bpm=float(rng.uniform(55.0, 95.0)),
        pvc=float(rng.uniform(0.05, 0.15)) if ventricular else 0.01,
        pac=float(rng.uniform(0.05, 0.15)) if atrial else 0.01,
        pause=0.005,
        noise_mv=float(rng.uniform(0.01, 0.06)),
        patient=number,
    )
    return EcgRecord(
        name=name,
        rate_hz=RATE_HZ,
        lead_names=LEADS,
        leads=ecg.samples,
        beat_samples=ecg.beat_samples,
        beat_classes=ecg.beat_classes,
        masked=np.zeros((0, 2), np.int64),
        simulated=True,
    )
