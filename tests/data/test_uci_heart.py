"""The four hospitals' files: hand-made ones, damaged ones, and those of the data root."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SourceError
from host_tools.data.uci_heart import COLUMNS, PATIENTS, load

ROW = "63,1,4,140,260,0,1,112,1,3,2,?,?,2"
TWO = {"cleveland": 1, "va": 2}


def written(root: Path, cleveland: str, va: str) -> Path:
    folder = root / "uci_heart_disease"
    folder.mkdir()
    (folder / "processed.cleveland.data").write_text(cleveland)
    (folder / "processed.va.data").write_text(va)
    return root


def test_rows_become_measures_disease_hospital_and_line(tmp_path):
    healthy = "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0\n"
    found = load(written(tmp_path, healthy, f"{ROW}\n{ROW}\n"), TWO)
    assert found.measures.dtype == np.float32
    assert found.measures[0].tolist() == pytest.approx([63, 1, 1, 145, 233, 1, 2, 150, 0, 2.3, 3, 0, 6])
    assert np.flatnonzero(np.isnan(found.measures[1])).tolist() == [COLUMNS.index("ca"), COLUMNS.index("thal")]
    assert found.diseased.tolist() == [0, 1, 1]
    assert found.hospital.tolist() == ["cleveland", "va", "va"]
    assert found.row.tolist() == ["cleveland:1", "va:1", "va:2"]


def test_cholesterol_and_blood_pressure_of_zero_are_missing(tmp_path):
    zeros = ROW.replace("140", "0").replace("260", "0")
    found = load(written(tmp_path, ROW, f"{ROW}\n{zeros}"), TWO).measures[2]
    assert np.isnan(found[COLUMNS.index("chol")])
    assert np.isnan(found[COLUMNS.index("trestbps")])
    assert found[COLUMNS.index("fbs")] == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (ROW + ",1", "15 cells; 14 wanted"),
        (ROW[:-2], "13 cells; 14 wanted"),
        (ROW.replace("112", "1l2"), "thalach is '1l2'; a number or \\? wanted"),
        (ROW.replace("112", "inf"), "thalach is 'inf'"),
        (ROW[:-1] + "?", "num is '\\?'; a number wanted"),
        (ROW[:-1] + "5", "num is 5; one of 0, 1, 2, 3, 4 wanted"),
        (ROW.replace("63,1,4", "63,1,5"), "cp is 5; one of 1, 2, 3, 4 wanted"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, message):
    with pytest.raises(SourceError, match=rf"processed.va.data:2: {message}"):
        load(written(tmp_path, ROW, f"{ROW}\n{line}\n"), TWO)


def test_a_file_that_is_missing_or_cut_short_is_named(tmp_path):
    written(tmp_path, ROW, ROW)
    with pytest.raises(SourceError, match=r"processed.va.data: 1 lines; 2 wanted"):
        load(tmp_path, TWO)
    with pytest.raises(SourceError, match=r"processed.hungarian.data: No such file"):
        load(tmp_path, {"hungarian": 294})
    (tmp_path / "uci_heart_disease" / "processed.va.data").write_bytes(b"\xff")
    with pytest.raises(SourceError, match=r"processed.va.data: byte 0"):
        load(tmp_path, TWO)


@pytest.mark.skipif("VITALEDGE_DATA" not in os.environ, reason="needs VITALEDGE_DATA, with uci_heart_disease/")
def test_the_published_files_have_their_published_counts():
    # heart-disease.names: instances and class 0 of each hospital; missing cells as counted with grep in the files.
    found = load(Path(os.environ["VITALEDGE_DATA"]))
    healthy = {h: int(np.sum(found.diseased[found.hospital == h] == 0)) for h in PATIENTS}
    assert {h: int(np.sum(found.hospital == h)) for h in PATIENTS} == dict(PATIENTS)
    assert healthy == {"cleveland": 164, "hungarian": 188, "switzerland": 8, "va": 51}
    folder = Path(os.environ["VITALEDGE_DATA"]) / "uci_heart_disease"
    asked = sum((folder / f"processed.{h}.data").read_text().count("?") for h in PATIENTS)
    zeros = 123 + 49 + 1  # cholesterol in switzerland and va, blood pressure in va
    assert int(np.isnan(found.measures).sum()) == asked + zeros
