"""PhysioNet/CinC Challenge 2012, set A: 4,000 intensive-care stays, what was measured in their first 48 hours.

Source: Silva, Moody, Scott, Celi and Mark, "Predicting in-hospital mortality of ICU patients: the
PhysioNet/Computing in Cardiology Challenge 2012", Computing in Cardiology 39, 2012.
"""

from __future__ import annotations

import lzma
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Float32Array

FOLDER = "challenge2012_set_a"
HOURS = 48
HEADER = "RecordID,Time,Parameter,Value"
# What a person alive in intensive care can have, with room to spare (units of the challenge); values outside are slips
# of the source and count as not measured. The first group is skewed: networks take its logarithm.
SKEWED: Mapping[str, tuple[float, float]] = {
    "ALP": (1, 5000),
    "ALT": (1, 20000),
    "AST": (1, 20000),
    "BUN": (1, 300),
    "Bilirubin": (0.05, 80),
    "Creatinine": (0.05, 30),
    "Glucose": (5, 2000),
    "Lactate": (0.1, 40),
    "PaO2": (15, 700),
    "Platelets": (1, 2000),
    "TroponinI": (0, 100),
    "TroponinT": (0, 50),
    "Urine": (0, 5000),
    "WBC": (0, 300),
}
PLAIN: Mapping[str, tuple[float, float]] = {
    "Albumin": (0.5, 7),
    "Cholesterol": (20, 600),
    "DiasABP": (10, 200),
    "FiO2": (0.2, 1),
    "GCS": (3, 15),
    "HCO3": (2, 60),
    "HCT": (5, 70),
    "HR": (10, 300),
    "K": (1, 12),
    "MAP": (15, 250),
    "MechVent": (0, 1),
    "Mg": (0.3, 10),
    "NIDiasABP": (10, 200),
    "NIMAP": (15, 250),
    "NISysABP": (20, 300),
    "Na": (90, 190),
    "PaCO2": (8, 150),
    "RespRate": (2, 80),
    "SaO2": (30, 100),
    "SysABP": (20, 300),
    "Temp": (24, 43),
    "Weight": (20, 300),
    "pH": (6.5, 8),
}
DESCRIPTORS: Mapping[str, tuple[float, float]] = {
    "Age": (15, 120),
    "Gender": (0, 1),
    "Height": (120, 230),
    "ICUType": (1, 4),
}
SERIES = (*SKEWED, *PLAIN)
CHANNELS = (*SERIES, *DESCRIPTORS)
RANGES = {**SKEWED, **PLAIN, **DESCRIPTORS}


@dataclass(frozen=True, kw_only=True, eq=False)
class Stays:
    """All stays, ids ascending.

    ids     int64 (n,), RecordID
    hourly  float32 (n, 41, 48), mean of each hour, channels as in CHANNELS; NaN: nothing measured, or unknown.
            A descriptor has the same value in all hours
    died    int64 (n,), 1: in hospital
    """

    ids: np.ndarray
    hourly: Float32Array
    died: np.ndarray


def load(root: Path) -> Stays:
    """Read `root/challenge2012_set_a/set-a.csv.xz` and `Outcomes-a.txt`.

    Raises SourceError naming the file and line that is damaged, or the file that is missing or cut short.
    """
    outcomes = _outcomes(root / FOLDER / "Outcomes-a.txt")
    path = root / FOLDER / "set-a.csv.xz"
    ids = np.array(sorted(outcomes), np.int64)
    stay, channel, hour, value = _rows(path, {str(s): i for i, s in enumerate(ids.tolist())})
    seen = np.bincount(stay, minlength=len(ids))
    if not seen.all():
        raise SourceError(f"{path}: no line of stay {ids[seen == 0][0]}; Outcomes-a.txt has it")
    value = _clean(value, channel)
    kept = ~np.isnan(value)
    cell = (stay * len(CHANNELS) + channel) * HOURS + hour
    size = len(ids) * len(CHANNELS) * HOURS
    counts = np.bincount(cell[kept], minlength=size)
    sums = np.bincount(cell[kept], value[kept], minlength=size)
    with np.errstate(invalid="ignore"):
        hourly = np.asarray(sums / counts, np.float32).reshape(len(ids), len(CHANNELS), HOURS)
    hourly[:, len(SERIES) :] = hourly[:, len(SERIES) :, :1]
    return Stays(ids=ids, hourly=hourly, died=np.array([outcomes[i] for i in ids.tolist()], np.int64))


def _clean(value: np.ndarray, channel: np.ndarray) -> np.ndarray:
    """NaN for the impossible; a pH without its decimal point (735, 73.5) gets it back."""
    ph = channel == CHANNELS.index("pH")
    value = np.where(ph & (value >= 65) & (value <= 80), value / 10, value)
    value = np.where(ph & (value >= 650) & (value <= 800), value / 100, value)
    low, high = np.array([RANGES[name] for name in CHANNELS]).T
    return np.where((value >= low[channel]) & (value <= high[channel]), value, np.nan)


def _rows(path: Path, stays: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stay, channel, hour and value of every line."""
    channels = {name: i for i, name in enumerate(CHANNELS)}
    hours = {f"{m // 60:02}:{m % 60:02}": min(m // 60, HOURS - 1) for m in range(HOURS * 60 + 1)}
    stay, channel, hour, value = array("q"), array("q"), array("q"), array("d")
    number, line = 0, ""
    try:
        with lzma.open(path, "rt", encoding="ascii") as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    if line.rstrip() != HEADER:
                        raise SourceError(f"{path}:1: header is {line.rstrip()!r}; {HEADER} wanted")
                    continue
                s, t, name, v = line.split(",")
                stay.append(stays[s])
                channel.append(channels[name])
                hour.append(hours[t])
                value.append(float(v))
    except (ValueError, KeyError) as error:
        raise SourceError(
            f"{path}:{number}: {line.rstrip()!r}; a stay of Outcomes-a.txt, hh:mm to 48:00, a known parameter "
            "and a number wanted"
        ) from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise SourceError(f"{path}: {_reason(error)} after line {number}") from error
    return np.array(stay), np.array(channel), np.array(hour), np.array(value)


def _outcomes(path: Path) -> dict[int, int]:
    """In-hospital death of each stay."""
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: {_reason(error)}") from error
    wanted = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"
    if not lines or lines[0] != wanted:
        raise SourceError(f"{path}:1: header is {lines[0] if lines else ''!r}; {wanted} wanted")
    outcomes: dict[int, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split(",")
        if len(cells) != 6 or not cells[0].isdigit() or cells[5] not in ("0", "1") or int(cells[0]) in outcomes:
            raise SourceError(f"{path}:{number}: {line!r}; a new RecordID and five numbers, the last 0 or 1, wanted")
        outcomes[int(cells[0])] = int(cells[5])
    if not outcomes:
        raise SourceError(f"{path}: no stay; at least one wanted")
    return outcomes


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} (VITALEDGE_DATA must name the folder that holds {FOLDER}/)"
    return str(error) or type(error).__name__
