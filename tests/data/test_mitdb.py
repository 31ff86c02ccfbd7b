"""MIT-BIH: counts of the published tables, signals as wfdb reads them, damage that is named."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import wfdb

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import AAMI_CLASSES
from host_tools.data import mitdb
from host_tools.data.records import EcgRecord, Split
from host_tools.data.sets import ROOT_VARIABLE, open_data_set

# Beats per AAMI class in the two sets; the sums are those of de Chazal 2004, table I, recounted from the .atr files.
PUBLISHED = {
    "DS1": (mitdb.DS1, {"N": 45866, "S": 944, "V": 3788, "F": 415, "Q": 8}),
    "DS2": (mitdb.DS2, {"N": 44259, "S": 1837, "V": 3221, "F": 388, "Q": 7}),
}


@pytest.fixture(scope="module")
def root() -> Path:
    text = os.environ.get(ROOT_VARIABLE, "")
    if not (Path(text) / "mitdb").is_dir() or not text:
        pytest.skip(f"needs {ROOT_VARIABLE}, a folder with mitdb/ (`vitaledge data fetch mitdb`)")
    return Path(text)


def write_record(folder: Path, name: str = "900", leads: tuple[str, ...] = ("MLII", "V1")) -> Path:
    """A record of 20 s in MIT-BIH's own format, with a flutter that begins and does not end."""
    place = folder / "mitdb"
    place.mkdir(parents=True, exist_ok=True)
    n = 7200
    t = np.arange(n) / 360.0
    signal = np.stack([np.sin(2 * np.pi * (k + 1) * t) for k in range(len(leads))], axis=1)
    wfdb.wrsamp(
        name,
        fs=360,
        units=["mV"] * len(leads),
        sig_name=list(leads),
        p_signal=signal,
        fmt=["212"] * len(leads),
        adc_gain=[200.0] * len(leads),
        baseline=[0] * len(leads),
        write_dir=str(place),
    )
    symbols = ["+", "N", "A", "V", "F", "/", "~", "[", "!", "E", "]", "x", "j", "["]
    samples = 300 * np.arange(1, len(symbols) + 1)
    wfdb.wrann(name, "atr", samples, symbols, write_dir=str(place))
    return place / name


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path)
    record = mitdb.load(tmp_path, "900")
    assert (record.name, record.rate_hz, record.lead_names, record.simulated) == ("900", 360.0, ("MLII", "V1"), False)
    assert record.leads.dtype == np.float32
    t = np.arange(7200) / 360.0
    np.testing.assert_allclose(record.leads[:, 0], np.sin(2 * np.pi * t), atol=0.5 / 200 + 1e-6)
    assert [AAMI_CLASSES[c] for c in record.beat_classes] == ["N", "S", "V", "F", "Q", "V", "N"]
    assert (record.beat_samples // 300).tolist() == [2, 3, 4, 5, 6, 10, 13]
    assert record.masked.tolist() == [[2400, 3300], [4200, 7200]]
    assert record.duration_s == 20.0


@pytest.mark.parametrize("leads", [("V5", "MLII"), ("V5", "V1", "MLII")])
def test_the_students_lead_is_first_wherever_it_lies(tmp_path: Path, leads: tuple[str, ...]) -> None:
    write_record(tmp_path, leads=leads)
    record = mitdb.load(tmp_path, "900")
    assert record.lead_names == ("MLII", "V5")
    t = np.arange(7200) / 360.0
    np.testing.assert_allclose(record.leads[:, 0], np.sin(2 * np.pi * len(leads) * t), atol=0.01)


def refused(root: Path) -> str:
    with pytest.raises(SourceError) as found:
        mitdb.load(root, "900")
    text = str(found.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".hea", ".dat", ".atr"])
def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path, suffix: str) -> None:
    stem = write_record(tmp_path)
    stem.with_suffix(suffix).unlink()
    text = refused(tmp_path)
    assert f"900{suffix}: no such file" in text
    assert "vitaledge data fetch mitdb" in text


@pytest.mark.parametrize("kept", [0, 1, 1000, -3])
def test_a_signal_that_was_cut_is_named(tmp_path: Path, kept: int) -> None:
    path = write_record(tmp_path).with_suffix(".dat")
    path.write_bytes(path.read_bytes()[:kept])
    assert str(path.with_suffix("")) in refused(tmp_path)


@pytest.mark.parametrize("where", [0, 5000, -1])
def test_one_flipped_bit_in_a_signal_is_found(tmp_path: Path, where: int) -> None:
    path = write_record(tmp_path).with_suffix(".dat")
    content = bytearray(path.read_bytes())
    content[where] ^= 4
    path.write_bytes(content)
    text = refused(tmp_path)
    assert "900.dat: checksums are" in text
    assert "the header says" in text


@pytest.mark.parametrize("content", [b"", b"900 2 360", b"\xff\xfe\x00", b"900 2 360 7200\n900.dat 999 200\n"])
def test_a_header_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    write_record(tmp_path).with_suffix(".hea").write_bytes(content)
    assert "900" in refused(tmp_path)


def test_a_record_without_the_students_lead_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path, leads=("V5", "V1"))
    assert "leads are ['V5', 'V1']; MLII wanted" in refused(tmp_path)


# The split.


def test_no_record_is_on_two_sides_and_202_is_apart() -> None:
    split = mitdb.split()
    sides = [*split.train, *split.validation, *split.test, *split.apart]
    assert len(sides) == len(set(sides)) == 44
    assert split.apart == ("202",)
    assert "201" in split.train
    assert set(split.train) | set(split.validation) == set(mitdb.DS1)
    assert set(split.test) | set(split.apart) == set(mitdb.DS2)
    assert not {"102", "104", "107", "217"} & set(sides)  # paced


@pytest.mark.parametrize("sides", ["train validation", "train test", "validation test", "train apart"])
def test_a_record_on_two_sides_is_refused(sides: str) -> None:
    names = {side: (side,) for side in ("train", "validation", "test", "apart")}
    for side in sides.split():
        names[side] = ("7",)
    with pytest.raises(SettingsError, match=r"records \['7'\] are in"):
        Split(**names)


def test_a_data_root_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"no data root; set {ROOT_VARIABLE}"):
        open_data_set("mitdb", None)
    with pytest.raises(SettingsError, match="mitdb: no such folder"):
        open_data_set("mitdb", tmp_path)
    with pytest.raises(SettingsError, match="data set is 'ptb'; mitdb or simulated wanted"):
        open_data_set("ptb", tmp_path)


# The real thing.


@pytest.mark.parametrize("name", PUBLISHED)
def test_class_counts_are_the_published_ones(root: Path, name: str) -> None:
    names, wanted = PUBLISHED[name]
    counts: Counter[str] = Counter()
    for record in names:
        counts.update(AAMI_CLASSES[c] for c in mitdb.load(root, record).beat_classes)
    assert dict(counts) == wanted


@pytest.fixture(scope="module", params=["100", "114", "207", "232"])
def record(request: pytest.FixtureRequest, root: Path) -> EcgRecord:
    return mitdb.load(root, request.param)


def test_signals_are_wfdbs_own(root: Path, record: EcgRecord) -> None:
    physical = wfdb.rdrecord(str(root / "mitdb" / record.name))
    assert record.lead_names[0] == "MLII"
    assert record.lead_names[1] != "MLII"
    for i, lead in enumerate(record.lead_names):
        wanted = physical.p_signal[:, physical.sig_name.index(lead)].astype(np.float32)
        np.testing.assert_array_equal(record.leads[:, i], wanted)


def test_only_ventricular_flutter_is_masked(record: EcgRecord) -> None:
    assert len(record.masked) == (6 if record.name == "207" else 0)
    assert (np.diff(record.masked) > 0).all()
    assert (np.diff(record.beat_samples) > 0).all()
