"""PhysioNet records, sample by sample against the wfdb package: written ones in every format, and real ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.sensors.source import open_source
from tests.sensors.wfdb_reference import RANGES, packed

wfdb = pytest.importorskip("wfdb", reason="needs the wfdb package")
DATA = os.environ.get("VITALEDGE_DATA")
# wfdb 4.3 writes headers with a call that pandas 3.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
needs_records = pytest.mark.skipif(DATA is None, reason="needs VITALEDGE_DATA, the folder that holds mitdb/, nstdb/")


def played(url: str) -> np.ndarray:
    """All samples of a source, float32 (n,)."""
    source = open_source(url)
    found = np.concatenate([b.samples for b in source.blocks()])
    assert found.dtype == np.float32
    assert found.shape[1] == 1
    return found[:, 0]


def written_record(folder: Path, name: str = "r1", unit: str = "mV", form: int = 16) -> np.ndarray:
    """A record of two channels, written by wfdb; returns its physical values as wfdb reads them."""
    low, high = RANGES[form]
    digital = np.stack([np.linspace(low + 1, high - 1, 999).astype(np.int64), np.arange(999) % 77], axis=1)
    digital[10, 1] = low  # the mark of a sample that is not there
    wfdb.wrsamp(
        name,
        fs=200,
        units=[unit, unit],
        sig_name=["II", "V5"],
        d_signal=digital,
        fmt=[str(form), str(form)],
        adc_gain=[200.0, 100.0],
        baseline=[5, 7],
        write_dir=str(folder),
    )
    return np.asarray(wfdb.rdrecord(str(folder / name)).p_signal)


@pytest.mark.parametrize("form", [16, 24, 32, 80, 212])
def test_what_wfdb_writes_is_read_as_wfdb_reads_it(tmp_path: Path, form: int) -> None:
    physical = written_record(tmp_path, form=form)
    for column, channel in enumerate(("II", "V5")):
        found = played(f"wfdb:{tmp_path}/r1?channel={channel}")
        np.testing.assert_array_equal(found, physical[:, column].astype(np.float32))
    assert np.flatnonzero(np.isnan(found)).tolist() == [10]


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3)])
def test_a_written_record_comes_back_in_millivolts(tmp_path: Path, unit: str, factor: float) -> None:
    physical = written_record(tmp_path, unit=unit)
    source = open_source(f"wfdb:{tmp_path}/r1.hea?channel=V5")
    assert (source.spec.rate_hz, source.spec.unit, source.spec.channels) == (200.0, "mV", ("V5",))
    found = played(f"wfdb:{tmp_path}/r1.hea?channel=V5")
    np.testing.assert_array_equal(found, (physical[:, 1] * factor).astype(np.float32))


@st.composite
def records(draw: st.DrawFn) -> tuple[str, dict[str, bytes]]:
    """A record `r` of one to three files in any formats: its header, and the bytes of each file."""
    n_frames = draw(st.integers(1, 20))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lines, files = [], {}
    for f in range(draw(st.integers(1, 3))):
        form, offset = draw(st.sampled_from(sorted(RANGES))), draw(st.integers(0, 5))
        columns = []
        for _ in range(draw(st.integers(1, 3))):
            per_frame = draw(st.integers(1, 3))
            skew = draw(st.integers(0, 3))
            low, high = RANGES[form]
            samples = chance.integers(low, high + 1, (n_frames, per_frame))
            samples[chance.random(samples.shape) < 0.2] = low
            columns.append(samples)
            initial = draw(st.integers(-999, 999))
            told = samples if form != 8 else np.cumsum(samples) + initial
            checksum = (int(told.sum()) + 2**15) % 2**16 - 2**15
            modifiers = f"x{per_frame}" * (per_frame > 1) + f":{skew}" * (skew > 0) + f"+{offset}" * (offset > 0)
            name = f"s{len(lines)}"
            lines.append(
                f"f{f}.dat {form}{modifiers} 50.5({draw(st.integers(-9, 9))})/mV 0 3 {initial} {checksum} 0 {name}"
            )
        numbers = np.concatenate(columns, axis=1).ravel().tolist()
        files[f"f{f}.dat"] = bytes(offset) + packed(form, numbers)
    return "\n".join([f"r {len(lines)} 250/99(7) {n_frames}", *lines, "# a comment", ""]), files


@settings(max_examples=60, deadline=None)
@given(record=records())
def test_any_record_is_read_as_wfdb_reads_it(record: tuple[str, dict[str, bytes]], tmp_path_factory) -> None:
    header, files = record
    folder = tmp_path_factory.mktemp("record")
    (folder / "r.hea").write_text(header)
    for name, contents in files.items():
        (folder / name).write_bytes(contents)
    # wfdb's own handling of several skews fails; header(5): so many samples come before the record's first.
    oracle = wfdb.rdrecord(str(folder / "r"), smooth_frames=False, ignore_skew=True)
    for i, channel in enumerate(oracle.sig_name):
        url, n_before = f"wfdb:{folder}/r?channel={channel}", oracle.samps_per_frame[i] * (oracle.skew[i] or 0)
        wanted = np.append(oracle.e_p_signal[i], np.full(n_before, np.nan))[n_before:]
        assert open_source(url).spec.rate_hz == 250 * oracle.samps_per_frame[i]
        np.testing.assert_array_equal(played(url), wanted.astype(np.float32), err_msg=header)


@pytest.mark.parametrize("skew", [1, 3, 7, 100])
def test_a_skewed_channel_ends_without_values_as_in_wfdb(tmp_path: Path, skew: int) -> None:
    (tmp_path / "r.dat").write_bytes(packed(212, list(range(-100, 100))))
    (tmp_path / "r.hea").write_text(f"r 2 360 100\nr.dat 212 2 12 0 -100 -100 0 a\nr.dat 212:{skew} 2 12 0 -99 0 0 b\n")
    oracle = wfdb.rdrecord(str(tmp_path / "r")).p_signal
    for column, channel in enumerate("ab"):
        np.testing.assert_array_equal(played(f"wfdb:{tmp_path}/r?channel={channel}"), oracle[:, column])


def test_the_length_is_the_files_where_the_header_says_none(tmp_path: Path) -> None:
    for form in RANGES:
        (tmp_path / "r.dat").write_bytes(packed(form, [1, 2, 3, 4, 5, 6, 7]))
        (tmp_path / "r.hea").write_text(f"r 1 100\nr.dat {form} 1 12 0 0 999")  # and no checksum is compared
        wanted = np.cumsum([1, 2, 3, 4, 5, 6, 7]) if form == 8 else [1, 2, 3, 4, 5, 6, 7]
        np.testing.assert_array_equal(played(f"wfdb:{tmp_path}/r"), wanted)


def test_a_record_plays_on_in_blocks_of_any_size(tmp_path: Path) -> None:
    (tmp_path / "r.dat").write_bytes(packed(212, list(range(-2000, 2000))))
    (tmp_path / "r.hea").write_text("r 2 10 2000\nr.dat 212:7 1 12 0 0 0 0 a\nr.dat 212 1 12 0 0 0 0 b\n")
    for seconds, speed in ((200, "max"), (200, "100000"), (13, "max")):
        found = played(f"wfdb:{tmp_path}/r?channel=a&seconds={seconds}&speed={speed}")
        wanted = np.append(np.arange(-2000 + 14, 2000, 2.0), np.full(7, np.nan))[: seconds * 10]
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("form", sorted(RANGES))
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_a_byte_less_than_the_samples_take_is_refused(tmp_path: Path, form: int, n: int) -> None:
    (tmp_path / "r1.hea").write_text(f"r1 1 100 {n}\nr1.dat {form} 1\n")
    whole = packed(form, [-1] * n)
    (tmp_path / "r1.dat").write_bytes(whole)
    assert len(played(f"wfdb:{tmp_path}/r1")) == n
    (tmp_path / "r1.dat").write_bytes(whole[:-1])
    n_lost = 2 if form == 310 and n % 3 == 0 else 1  # there the last word holds half of the third sample too
    assert refused(tmp_path, "") == f"{tmp_path}/r1.dat: {n - n_lost} frames of samples; the header says {n}"


def refused(tmp_path: Path, query: str = "?channel=II") -> str:
    with pytest.raises(SourceError) as caught:
        open_source(f"wfdb:{tmp_path}/r1{query}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_record_that_is_not_whole_is_refused_by_name(tmp_path: Path) -> None:
    written_record(tmp_path)
    samples, header = tmp_path / "r1.dat", tmp_path / "r1.hea"
    good, text = samples.read_bytes(), header.read_text()
    samples.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert refused(tmp_path).startswith(f"{samples}: the checksum of II is ")
    assert refused(tmp_path, "?channel=V5") == refused(tmp_path)  # a damaged file is damaged for all
    samples.write_bytes(good[:-1])
    assert refused(tmp_path) == f"{samples}: 998 frames of samples; the header says 999"
    samples.write_bytes(b"")
    assert refused(tmp_path) == f"{samples}: 0 frames of samples; the header says 999"
    samples.unlink()
    assert refused(tmp_path) == f"{samples}: no such file"
    header.write_text(text.replace(" 16 ", " 516 "))
    assert "r1.dat: is in format 516; formats known here are 8, 16, " in refused(tmp_path)
    header.write_text(text.replace(" 16 ", " 24 ", 1))
    assert "differ in format" in refused(tmp_path)
    header.write_bytes(text.encode()[:30])
    assert f"{header}: " in refused(tmp_path)
    header.unlink()
    assert refused(tmp_path) == f"{header}: no such file"
    header.mkdir()
    assert refused(tmp_path) == f"{header}: no such file"


def test_a_checksum_of_zero_holds_the_place_of_one_that_nobody_knew(tmp_path: Path) -> None:
    # The header of Challenge 2017, A00001, with fewer samples.
    (tmp_path / "A00001.mat").write_bytes(bytes(24) + packed(16, [-127, -162, -197]))
    (tmp_path / "A00001.hea").write_text(
        "A00001 1 300 3 05:05:15 1/05/2000 \nA00001.mat 16+24 1000/mV 16 0 -127 0 0 ECG \n"
    )
    np.testing.assert_array_equal(played(f"wfdb:{tmp_path}/A00001"), np.float32([-0.127, -0.162, -0.197]))


def test_only_the_file_with_the_channel_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(packed(16, [1, 2]))
    (tmp_path / "r.hea").write_text("r 2 100 2\na.dat 16 1 16 0 1 3 0 a\nb.dat 16 1 16 0 1 3 0 b\n")
    assert played(f"wfdb:{tmp_path}/r?channel=a").tolist() == [1.0, 2.0]
    with pytest.raises(SourceError, match=r"b\.dat: no such file"):
        open_source(f"wfdb:{tmp_path}/r?channel=b")


def test_a_channel_must_be_there_and_must_be_clear(tmp_path: Path) -> None:
    written_record(tmp_path)
    for query in ("", "?channel=MLII"):
        with pytest.raises(SettingsError, match=r"r1: channel.*II, V5"):
            open_source(f"wfdb:{tmp_path}/r1{query}")


@given(damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_header_damaged_anywhere_plays_or_is_refused_in_one_line(damage, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("record", numbered=True)
    (folder / "r.dat").write_bytes(bytes(300))
    text = bytearray(b"r 2 250/250(0) 100 12:00:00 1/2/2003\n" + b"r.dat 212x1:2+3 200(0)/mV 12 0 0 0 0 MLII\n" * 2)
    for place, value in damage:
        text[place % len(text)] = value
    (folder / "r.hea").write_bytes(text)
    said = ""
    try:
        source = open_source(f"wfdb:{folder}/r")
    except (SourceError, SettingsError) as error:
        said = str(error)
    else:
        assert 0 < source.spec.rate_hz < np.inf
        next(iter(source.blocks()))
    assert "\n" not in said


@needs_records
@pytest.mark.parametrize("name", ["mitdb/100", "mitdb/114", "mitdb/232", "nstdb/em"])
def test_real_records_against_wfdb(name: str) -> None:
    oracle = wfdb.rdrecord(f"{DATA}/{name}")
    for column, channel in enumerate(oracle.sig_name):
        source = open_source(f"wfdb:{DATA}/{name}?channel={channel}")
        assert (source.spec.rate_hz, source.spec.unit, source.spec.simulated) == (360.0, "mV", False)
        found = played(f"wfdb:{DATA}/{name}?channel={channel}")
        np.testing.assert_array_equal(found, oracle.p_signal[:, column].astype(np.float32))
