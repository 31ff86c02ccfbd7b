"""PhysioNet/CinC Challenge 2017: short hand-held ECG recordings with a rhythm each, from the repacked copy.

Source: Clifford et al., "AF classification from a short single lead ECG recording: the PhysioNet/Computing in
Cardiology Challenge 2017", Computing in Cardiology 44, 2017, doi 10.22489/CinC.2017.065-469. The copy holds 7,028 of
the 8,528 public training recordings and no patients' names, so a recording is its own group.
"""

from __future__ import annotations

import csv
import lzma
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Float32Array

RATE_HZ = 300
UNITS_PER_MV = 1000.0
LABELS = ("N", "A", "O", "~")  # normal, atrial fibrillation, other rhythm, too noisy
COLUMNS = ("record", "start", "n_samples", "label_v3", "crc32_int16le")


@dataclass(frozen=True, kw_only=True, eq=False)
class RhythmRecord:
    """One recording at 300 Hz: float32 (n,) mV, and its index into LABELS (version 3 of the labels)."""

    name: str
    mv: Float32Array
    label: int


def load(root: Path) -> list[RhythmRecord]:
    """All recordings in the table's order; they lie in `root/cinc2017`.

    Raises SourceError naming the file, and the recording if one is damaged.
    """
    folder = root / "cinc2017"
    table, packed = folder / "records.csv", folder / "signals_delta_i16.xz"
    for path in (table, packed):
        if not path.is_file():
            raise SourceError(f"{path}: no such file; set VITALEDGE_DATA to the folder that holds cinc2017/")
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise SourceError(f"{table}: columns are {reader.fieldnames}; {', '.join(sorted(missing))} wanted too")
        rows = list(reader)
    try:
        deltas = np.frombuffer(lzma.decompress(packed.read_bytes()), "<i2")
    except (lzma.LZMAError, ValueError) as error:
        raise SourceError(f"{packed}: cannot be unpacked ({error})") from error
    return [_record(row, deltas, table) for row in rows]


def _record(row: dict[str, str], deltas: np.ndarray, table: Path) -> RhythmRecord:
    """Sum up one recording's differences and compare it with the table."""
    where = f"{table}, record {row['record']}"
    try:
        start, n, crc = int(row["start"]), int(row["n_samples"]), int(row["crc32_int16le"])
    except (TypeError, ValueError) as error:
        raise SourceError(f"{where}: {error}") from error
    if row["label_v3"] not in LABELS:
        raise SourceError(f"{where}: label_v3 is {row['label_v3']!r}; one of {' '.join(LABELS)} wanted")
    if start < 0 or n < 1 or start + n > len(deltas):
        raise SourceError(f"{where}: samples {start} to {start + n}; the file holds {len(deltas)}")
    units = np.cumsum(deltas[start : start + n], dtype=np.int16)
    found = zlib.crc32(units.astype("<i2").tobytes())
    if found != crc:
        raise SourceError(f"{where}: crc32 of the samples is {found}; the table says {crc}")
    return RhythmRecord(
        name=row["record"],
        mv=(units / UNITS_PER_MV).astype(np.float32),
        label=LABELS.index(row["label_v3"]),
    )
