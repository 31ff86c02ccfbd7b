"""Set A of the challenge: hand-made stays, damaged files, and the published one."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SourceError
from host_tools.data.challenge2012 import CHANNELS, HEADER, HOURS, RANGES, load

OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n7,6,1,5,-1,0\n9,16,8,8,3,1\n"
LINES = ["7,00:00,Age,54", "7,00:00,Height,-1", "9,00:00,Age,70", "7,00:07,HR,70", "7,00:59,HR,80", "7,48:00,HR,90"]


def written(root: Path, lines: list[str], outcomes: str = OUTCOMES, header: str = HEADER) -> Path:
    folder = root / "challenge2012_set_a"
    folder.mkdir(exist_ok=True)
    (folder / "Outcomes-a.txt").write_text(outcomes)
    with lzma.open(folder / "set-a.csv.xz", "wt") as f:
        f.write("\n".join([header, *lines]) + "\n")
    return root


def test_hours_hold_means_and_nan_where_nothing_was_measured(tmp_path):
    found = load(written(tmp_path, LINES))
    assert found.ids.tolist() == [7, 9]
    assert found.died.tolist() == [0, 1]
    assert found.hourly.shape == (2, len(CHANNELS), HOURS)
    assert found.hourly.dtype == np.float32
    heart_rate = found.hourly[0, CHANNELS.index("HR")]
    assert heart_rate[[0, 47]].tolist() == [75, 90]  # 48:00 belongs to the last hour
    assert np.isnan(heart_rate[1:47]).all()
    assert np.isnan(found.hourly[1, CHANNELS.index("HR")]).all()


def test_descriptors_hold_for_all_hours_and_minus_one_is_unknown(tmp_path):
    found = load(written(tmp_path, LINES)).hourly[0]
    assert found[CHANNELS.index("Age")].tolist() == [54] * HOURS
    assert np.isnan(found[CHANNELS.index("Height")]).all()


@pytest.mark.parametrize(
    ("parameter", "value", "kept"),
    [
        ("Temp", "-17.8", None),
        ("Temp", "36.6", 36.6),
        ("HR", "0", None),
        ("HR", "nan", None),
        ("pH", "735", 7.35),
        ("pH", "73.5", 7.35),
        ("pH", "1", None),
        ("Height", "13", None),
        ("SysABP", "0", None),
        ("Urine", "0", 0.0),
    ],
)
def test_impossible_values_count_as_not_measured(tmp_path, parameter, value, kept):
    found = load(written(tmp_path, [*LINES[2:3], "7,00:00,Age,54", f"7,00:10,{parameter},{value}"]))
    cell = found.hourly[0, CHANNELS.index(parameter), 0]
    assert np.isnan(cell) if kept is None else cell == pytest.approx(kept)


@pytest.mark.parametrize(
    "line", ["7,00:07,HR", "7,00:07,HR,7O", "7,0:7,HR,70", "7,48:01,HR,70", "8,00:07,HR,70", "7,00:07,Pulse,70", ""]
)
def test_a_damaged_line_is_named(tmp_path, line):
    with pytest.raises(SourceError, match=r"set-a\.csv\.xz:8: '.*a known parameter"):
        load(written(tmp_path, [*LINES, line]))


@pytest.mark.parametrize("line", ["7,6,1,5,-1,0", "11,6,1,5,-1,2", "11,6,1", "x,6,1,5,-1,0"])
def test_a_damaged_outcome_is_named(tmp_path, line):
    with pytest.raises(SourceError, match=r"Outcomes-a\.txt:4: "):
        load(written(tmp_path, LINES, OUTCOMES + line))


def test_other_headers_empty_outcomes_and_stays_without_lines_are_refused(tmp_path):
    with pytest.raises(SourceError, match=r"set-a\.csv\.xz:1: header"):
        load(written(tmp_path, LINES, header="RecordID,Time,Value"))
    with pytest.raises(SourceError, match=r"Outcomes-a\.txt:1: header is ''"):
        load(written(tmp_path, LINES, ""))
    with pytest.raises(SourceError, match=r"Outcomes-a\.txt: no stay"):
        load(written(tmp_path, LINES, OUTCOMES.splitlines()[0]))
    with pytest.raises(SourceError, match="no line of stay 11"):
        load(written(tmp_path, LINES, OUTCOMES + "11,6,1,5,-1,0"))


def test_a_file_that_is_missing_cut_short_or_no_archive_is_named(tmp_path):
    path = written(tmp_path, LINES * 1000) / "challenge2012_set_a" / "set-a.csv.xz"
    whole = path.read_bytes()
    for damaged in (whole[:-40], b"", b"RecordID,Time"):
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match=r"set-a\.csv\.xz"):
            load(tmp_path)
    path.unlink()
    with pytest.raises(SourceError, match="No such file"):
        load(tmp_path)


@pytest.mark.skipif("VITALEDGE_DATA" not in os.environ, reason="needs VITALEDGE_DATA, with challenge2012_set_a/")
def test_set_a_has_its_published_size_and_no_impossible_value():
    # Silva et al. 2012: 4,000 stays in set A, 554 deaths in hospital (13.85 %).
    found = load(Path(os.environ["VITALEDGE_DATA"]))
    assert len(found.ids) == 4000
    assert found.died.sum() == 554
    low = np.nanmin(found.hourly, axis=(0, 2))
    high = np.nanmax(found.hourly, axis=(0, 2))
    for i, name in enumerate(CHANNELS):
        assert RANGES[name][0] - 1e-3 <= low[i] <= high[i] <= RANGES[name][1] + 1e-3, name
