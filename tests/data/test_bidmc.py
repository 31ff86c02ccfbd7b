"""The reader of BIDMC against its files, and references against marks made by hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SourceError
from host_tools.data import bidmc
from host_tools.data.bidmc import PulseRecord

ROOT = os.environ.get("VITALEDGE_DATA")
needs_data = pytest.mark.skipif(
    not ROOT or not (Path(ROOT) / "bidmc").is_dir(), reason="VITALEDGE_DATA names no folder with bidmc/"
)
LEVELS = np.array([0.0, 0.25, 0.5, 10.0, 20.0])


def write_record(folder: Path, **changes: object) -> None:
    """One record of two channels: RESP has the levels 10 and 20, PLETH 0, 0.25 and 0.5."""
    content: dict[str, object] = {
        "fs": np.int32(125),
        "names": np.array(["RESP", "PLETH"]),
        "levels": np.concatenate([LEVELS[3:], LEVELS[:3]]),
        "level_start": np.array([0, 2, 5]),
        "codes": np.array([[0, 2], [1, 0], [0, 1]], np.int16),
        "breaths_ann1": np.array([125, 625], np.int32),
        "breaths_ann2": np.array([130], np.int32),
        "numerics": np.array([[70.0, 15.0], [np.nan, 16.0]], np.float32),
        "numerics_names": np.array(["HR", "RESP"]),
        "numerics_time": np.array([-1, 0], np.int32),
    }
    (folder / "records").mkdir(parents=True, exist_ok=True)
    (folder / "records.csv").write_text("record,subject\nbidmc_01,s1\n", encoding="utf-8")
    np.savez(folder / "records" / "bidmc_01.npz", **{**content, **changes})  # type: ignore[arg-type]


def marked(first_s: list[float], second_s: list[float]) -> PulseRecord:
    """A record of nothing but breath marks."""
    marks = [np.round(np.array(m) * bidmc.RATE_HZ).astype(np.int64) for m in (first_s, second_s)]
    nothing = np.zeros(0)
    return PulseRecord(
        name="r",
        subject="s",
        pleth=np.zeros(1, np.float32),
        breaths=(marks[0], marks[1]),
        heart_rate=nothing,
        heart_rate_s=nothing,
    )


def test_a_channel_is_looked_up_among_its_own_levels(tmp_path: Path) -> None:
    write_record(tmp_path / "bidmc")
    (record,) = bidmc.load(tmp_path)
    assert record.subject == "s1"
    assert record.pleth.dtype == np.float32
    assert record.pleth.tolist() == [0.5, 0.0, 0.25]
    assert record.heart_rate_s.tolist() == [-1.0, 0.0]
    assert record.heart_rate[0] == 70.0
    assert np.isnan(record.heart_rate[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fs": np.int32(250)}, "at 250 Hz; PLETH at 125 Hz wanted"),
        ({"names": np.array(["RESP", "II"])}, "RESP, II at 125 Hz; PLETH"),
        ({"codes": np.array([[0, 7]], np.int16)}, "cannot be read"),
    ],
)
def test_a_record_that_is_something_else_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    write_record(tmp_path / "bidmc", **changes)
    with pytest.raises(SourceError, match=rf"bidmc_01\.npz: .*{said}"):
        bidmc.load(tmp_path)


def test_a_missing_table_or_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"records\.csv: no such file; set VITALEDGE_DATA"):
        bidmc.load(tmp_path)
    write_record(tmp_path / "bidmc")
    (tmp_path / "bidmc" / "records" / "bidmc_01.npz").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"bidmc_01\.npz: cannot be read"):
        bidmc.load(tmp_path)


def test_a_breath_rate_is_intervals_over_the_time_they_span() -> None:
    # Breaths every 4 s are 15 a minute wherever the window lies; 5 marks in 16 s are not 5 breaths in 20 s.
    record = marked([2.0, 6.0, 10.0, 14.0, 18.0], [1.0, 4.0, 7.0])
    assert bidmc.annotators_rates(record, 0.0, 20.0) == pytest.approx((15.0, 20.0))
    assert bidmc.annotators_rates(record, 5.0, 11.0)[0] == pytest.approx(15.0)


def test_an_annotator_with_fewer_than_two_marks_gives_no_rate() -> None:
    record = marked([2.0, 6.0], [9.0])
    first, second = bidmc.annotators_rates(record, 0.0, 10.0)
    assert first == pytest.approx(15.0)
    assert np.isnan(second)
    assert np.isnan(bidmc.annotators_rates(record, 0.0, 6.0)[0])  # the end does not belong to the window


def test_heart_rate_is_the_mean_of_what_the_monitor_had_by_its_own_clock() -> None:
    record = PulseRecord(
        name="r",
        subject="s",
        pleth=np.zeros(1, np.float32),
        breaths=(np.zeros(0, np.int64), np.zeros(0, np.int64)),
        heart_rate=np.array([10.0, 60.0, 62.0, np.nan, np.nan, np.nan]),
        heart_rate_s=np.arange(-1.0, 5.0),
    )
    assert bidmc.monitor_heart_rate(record, 0.0, 3.0) == 61.0
    assert np.isnan(bidmc.monitor_heart_rate(record, 0.0, 4.0))  # half is missing
    assert np.isnan(bidmc.monitor_heart_rate(record, 7.0, 9.0))


@needs_data
def test_records_are_what_their_files_hold() -> None:
    assert ROOT is not None
    folder = Path(ROOT) / "bidmc"
    with (folder / "records.csv").open(newline="", encoding="utf-8") as file:
        table = {row["record"]: row for row in csv.DictReader(file)}
    records = bidmc.load(Path(ROOT))
    assert [r.name for r in records] == list(table)
    assert len({r.subject for r in records}) == 46
    for record in records:
        row = table[record.name]
        assert len(record.pleth) == int(row["n_samples"])
        assert [len(m) for m in record.breaths] == [int(row["breaths_ann1"]), int(row["breaths_ann2"])]
        assert np.nanmean(record.heart_rate) == pytest.approx(float(row["hr_mean"]), abs=0.01)
        assert (float(np.nanmin(record.heart_rate)), float(np.nanmax(record.heart_rate))) == (
            float(row["hr_min"]),
            float(row["hr_max"]),
        )
    z = np.load(folder / "records" / "bidmc_23.npz")
    k = list(z["names"]).index("PLETH")
    wave = z["levels"][z["level_start"][k] : z["level_start"][k + 1]][z["codes"][:, k]]  # the README's formula
    assert np.array_equal(records[22].pleth, wave.astype(np.float32))
    assert records[22].heart_rate_s[0] == -1.0
