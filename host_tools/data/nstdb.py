"""MIT-BIH Noise Stress Test Database: half an hour each of baseline wander, electrode motion and muscle noise.

Source: Moody, Muldrow and Mark, "A noise stress test for arrhythmia detectors", Computers in Cardiology 11, 1984.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Float32Array

NAMES = ("bw", "em", "ma")  # baseline wander, electrode motion, muscle artefact
Half = Literal["train", "test"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseRecord:
    """Noise of electrodes on which no heart was seen.

    signals  float32 (n, 2), mV; the header names no gain, so that WFDB's 200 units per mV stand
    """

    name: str
    rate_hz: float
    signals: Float32Array


def load(root: Path, name: str) -> NoiseRecord:
    """One noise record, `root/nstdb/NAME`; raises SourceError naming the file that is missing or damaged."""
    import wfdb

    stem = root / "nstdb" / name
    for suffix in (".hea", ".dat"):
        if not stem.with_suffix(suffix).is_file():
            raise SourceError(
                f"{stem.with_suffix(suffix)}: no such file; set VITALEDGE_DATA to the folder that holds nstdb/, "
                "or run `vitaledge data fetch nstdb`"
            )
    try:
        record = wfdb.rdrecord(str(stem), physical=False)
    except Exception as error:
        raise SourceError(f"{stem}: cannot be read as a WFDB record ({error})") from error
    signal = record.d_signal
    if len(signal) != record.sig_len:
        raise SourceError(f"{stem}.dat: {len(signal)} samples; the header says {record.sig_len}")
    found = (signal.astype(np.int64).sum(axis=0) & 0xFFFF).tolist()
    wanted = [c & 0xFFFF for c in record.checksum]
    if found != wanted:
        raise SourceError(f"{stem}.dat: checksums are {found}; the header says {wanted}")
    values = (signal - np.asarray(record.baseline)) / np.asarray(record.adc_gain)
    return NoiseRecord(name=name, rate_hz=float(record.fs), signals=values.astype(np.float32))


def half(noise: NoiseRecord, which: Half) -> NoiseRecord:
    """The first half of the record in time, to train with, or the second, to test with: they share no sample."""
    middle = len(noise.signals) // 2
    part = noise.signals[:middle] if which == "train" else noise.signals[middle:]
    return replace(noise, signals=part)
