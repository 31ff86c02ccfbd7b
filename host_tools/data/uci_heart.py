"""UCI heart disease: 920 patients of four hospitals, 13 measures each, many of them missing.

Source: Janosi, Steinbrunn, Pfisterer and Detrano, "Heart Disease", UCI Machine Learning Repository, 1988,
doi 10.24432/C52P4X; Detrano et al., Am J Cardiol 64, 1989.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Float32Array

FOLDER = "uci_heart_disease"
COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg"),
    *("thalach", "exang", "oldpeak", "slope", "ca", "thal"),
)
# Patients of each file as published, so that a file that was cut short is noticed.
PATIENTS: Mapping[str, int] = {"cleveland": 303, "hungarian": 294, "switzerland": 123, "va": 200}
CODES: Mapping[str, tuple[int, ...]] = {
    "sex": (0, 1),
    "cp": (1, 2, 3, 4),
    "fbs": (0, 1),
    "restecg": (0, 1, 2),
    "exang": (0, 1),
    "slope": (1, 2, 3),
    "ca": (0, 1, 2, 3),
    "thal": (3, 6, 7),
    "num": (0, 1, 2, 3, 4),
}
# A living patient has neither: 172 rows of switzerland and va say cholesterol 0, one of va says blood pressure 0.
ZERO_IS_MISSING = ("trestbps", "chol")


@dataclass(frozen=True, kw_only=True, eq=False)
class HeartPatients:
    """All hospitals' patients, hospital by hospital.

    measures  float32 (n, 13), columns as in COLUMNS: years, mmHg, mg/dl, beats/min, mm, codes; NaN: missing
    diseased  int64 (n,), 1 where num > 0 (a vessel narrowed by more than half)
    hospital  str (n,)
    row       str (n,), hospital and line of its file
    """

    measures: Float32Array
    diseased: np.ndarray
    hospital: np.ndarray
    row: np.ndarray


def load(root: Path, patients: Mapping[str, int] = PATIENTS) -> HeartPatients:
    """Read `root/uci_heart_disease/processed.HOSPITAL.data` of every hospital in `patients`.

    Raises SourceError naming the file and line that is damaged, or the file that is missing or too short.
    """
    rows: list[list[float]] = []
    names: list[str] = []
    for hospital, n_wanted in patients.items():
        path = root / FOLDER / f"processed.{hospital}.data"
        lines = _lines(path)
        if len(lines) != n_wanted:
            raise SourceError(f"{path}: {len(lines)} lines; {n_wanted} wanted")
        for number, line in enumerate(lines, start=1):
            rows.append(_row(line, f"{path}:{number}"))
            names.append(f"{hospital}:{number}")
    table = np.array(rows, np.float32)
    return HeartPatients(
        measures=np.ascontiguousarray(table[:, :-1]),
        diseased=(table[:, -1] > 0).astype(np.int64),
        hospital=np.array([name.partition(":")[0] for name in names]),
        row=np.array(names),
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").splitlines()
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror}; VITALEDGE_DATA must name the folder that holds {FOLDER}/"
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: byte {error.start} is no ASCII; lines of 14 numbers wanted") from error


def _row(line: str, where: str) -> list[float]:
    cells = line.split(",")
    names = (*COLUMNS, "num")
    if len(cells) != len(names):
        raise SourceError(f"{where}: {len(cells)} cells; {len(names)} wanted")
    return [_value(cell.strip(), name, where) for cell, name in zip(cells, names, strict=True)]


def _value(cell: str, name: str, where: str) -> float:
    if cell == "?" and name != "num":
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise SourceError(f"{where}: {name} is {cell!r}; a number{'' if name == 'num' else ' or ?'} wanted")
    if name in CODES and value not in CODES[name]:
        raise SourceError(f"{where}: {name} is {value:g}; one of {', '.join(map(str, CODES[name]))} wanted")
    return float("nan") if name in ZERO_IS_MISSING and value == 0 else value
