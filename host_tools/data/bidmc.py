"""BIDMC PPG and Respiration: 8 minutes of pulse wave of 53 intensive-care stays, breath marks, monitor numerics.

Source: Pimentel et al., "Toward a robust estimation of respiratory rate from pulse oximeters", IEEE Transactions on
Biomedical Engineering 64(8), 2017. The copy is repacked without loss. 53 records are 46 patients: `subject` groups.
"""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Float32Array, Float64Array

RATE_HZ = 125
CHANNEL = "PLETH"


@dataclass(frozen=True, kw_only=True, eq=False)
class PulseRecord:
    """One stay.

    pleth         float32 (n,), normalized units at 125 Hz
    breaths       marks of either annotator, int64, ascending sample numbers of `pleth`
    heart_rate    float64 (seconds,), the monitor's HR in beats/min; NaN where it had none
    heart_rate_s  float64 (seconds,), when, in seconds from the first sample of `pleth`
    """

    name: str
    subject: str
    pleth: Float32Array
    breaths: tuple[np.ndarray, np.ndarray]
    heart_rate: Float64Array
    heart_rate_s: Float64Array


def load(root: Path) -> list[PulseRecord]:
    """All records in the table's order; they lie in `root/bidmc`.

    Raises SourceError naming the file that is missing or not what it should be.
    """
    folder = root / "bidmc"
    table = folder / "records.csv"
    if not table.is_file():
        raise SourceError(f"{table}: no such file; set VITALEDGE_DATA to the folder that holds bidmc/")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"record", "subject"} <= set(rows[0]):
        raise SourceError(f"{table}: columns are {list(rows[0]) if rows else 'none'}; record and subject wanted")
    return [_record(folder / "records" / f"{row['record']}.npz", row["subject"]) for row in rows]


def _record(path: Path, subject: str) -> PulseRecord:
    try:
        with np.load(path, allow_pickle=False) as z:
            rate_hz, names = int(z["fs"]), [str(n) for n in z["names"]]
            if rate_hz != RATE_HZ or CHANNEL not in names:
                raise SourceError(f"{path}: {', '.join(names)} at {rate_hz} Hz; {CHANNEL} at {RATE_HZ} Hz wanted")
            k = names.index(CHANNEL)
            first, last = z["level_start"][k], z["level_start"][k + 1]
            pleth = z["levels"][first:last][z["codes"][:, k]]
            marks = [np.sort(z[f"breaths_ann{a}"].astype(np.int64)) for a in (1, 2)]
            heart_rate = z["numerics"][:, [str(n) for n in z["numerics_names"]].index("HR")]
            heart_rate_s = z["numerics_time"]
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error
    return PulseRecord(
        name=path.stem,
        subject=subject,
        pleth=pleth.astype(np.float32),
        breaths=(marks[0], marks[1]),
        heart_rate=heart_rate.astype(np.float64),
        heart_rate_s=heart_rate_s.astype(np.float64),
    )


def annotators_rates(record: PulseRecord, start_s: float, stop_s: float) -> tuple[float, float]:
    """Breaths/min by either annotator in [start_s, stop_s): intervals between marks over the time they span.

    NaN for an annotator with fewer than two marks there.
    """
    first, second = (_mark_rate(m / RATE_HZ, start_s, stop_s) for m in record.breaths)
    return first, second


def _mark_rate(marks_s: Float64Array, start_s: float, stop_s: float) -> float:
    inside = marks_s[(marks_s >= start_s) & (marks_s < stop_s)]
    return 60.0 * (len(inside) - 1) / float(inside[-1] - inside[0]) if len(inside) > 1 else float("nan")


def monitor_heart_rate(record: PulseRecord, start_s: float, stop_s: float) -> float:
    """Mean of the monitor's HR in [start_s, stop_s), beats/min; NaN if more than half of it is missing."""
    inside = record.heart_rate[(record.heart_rate_s >= start_s) & (record.heart_rate_s < stop_s)]
    has = np.isfinite(inside)
    return float(inside[has].mean()) if 2 * has.sum() > len(inside) else float("nan")
