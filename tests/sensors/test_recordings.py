"""Recordings as CSV and EDF files: bytes written by hand from the formats' descriptions, and damage."""

from __future__ import annotations

import datetime
import struct
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.sensors.edf import read_edf
from edge_runtime.sensors.source import open_source

# One signal, one record, four samples, laid out as in the table of Kemp et al. 1992.
GOLDEN = (
    b"0       "
    + b"X X X X".ljust(80)
    + b"Startdate X X X X".ljust(80)
    + b"02.03.04"
    + b"05.06.07"
    + b"512     "
    + b" " * 44
    + b"1       "
    + b"2       "
    + b"1   "
    + b"ECG             "
    + b"AgCl".ljust(80)
    + b"uV      "
    + b"-3200   "
    + b"3200    "
    + b"-32000  "
    + b"32000   "
    + b" " * 80
    + b"4       "
    + b" " * 32
    + b"\x00\x00\x10\x27\xf0\xd8\x01\x00"  # 0, 10000, -10000, 1
)


def write_edf(
    path: Path, signals: list[dict], record_s: float, n_records: int | None = None, kind: str = "", tail: bytes = b""
) -> None:
    """An EDF writer of its own: `signals` have label, unit, low, high, d_low, d_high, and data (records, n) int16."""

    def field(value: object, width: int) -> bytes:
        return str(value).encode().ljust(width)

    n = len(signals[0]["data"]) if n_records is None else n_records
    day = datetime.date(2001, 2, 3).strftime("%d.%m.%y")
    head = [("0", 8), ("", 80), ("", 80), (day, 8), ("01.02.03", 8), (256 * (len(signals) + 1), 8), (kind, 44)]
    head += [(n, 8), (f"{record_s:g}", 8), (len(signals), 4)]
    keys = [("label", 16), ("", 80), ("unit", 8), ("low", 8), ("high", 8), ("d_low", 8), ("d_high", 8), ("", 80)]
    out = b"".join(field(v, w) for v, w in head)
    for key, width in keys:
        out += b"".join(field(s.get(key, ""), width) for s in signals)
    out += b"".join(field(s["data"].shape[1], 8) for s in signals) + b" " * 32 * len(signals)
    for r in range(len(signals[0]["data"])):
        for s in signals:
            out += b"".join(struct.pack("<h", int(v)) for v in s["data"][r])
    path.write_bytes(out + tail)


def an_ecg(records: int = 5, n: int = 50, seed: int = 1) -> dict:
    data = np.random.default_rng(seed).integers(-2048, 2048, (records, n))
    return {"label": "ECG II", "unit": "mV", "low": -5, "high": 5, "d_low": -2048, "d_high": 2047, "data": data}


def a_breath(records: int = 5) -> dict:
    data = np.random.default_rng(2).integers(0, 1000, (records, 7))
    return {"label": "Resp", "unit": "ml", "low": 0, "high": 500, "d_low": 0, "d_high": 1000, "data": data}


def annotations(onsets: list[str], n: int = 12) -> dict:
    rows = [f"+{t}\x14\x14\x00".encode().ljust(2 * n, b"\x00") for t in onsets]
    data = np.array([np.frombuffer(row, "<i2") for row in rows])
    text = {"label": "EDF Annotations", "unit": "", "low": -1, "high": 1, "d_low": -32768, "d_high": 32767}
    return text | {"data": data}


def played(url: str):  # type: ignore[no-untyped-def]
    source = open_source(url)
    return source.spec, np.concatenate([b.samples for b in source.blocks()])[:, 0]


def test_golden_bytes_are_read_as_the_paper_says(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    assert len(GOLDEN) == 512 + 8
    path.write_bytes(GOLDEN)
    spec, samples = played(f"edf:{path}")
    assert (spec.rate_hz, spec.unit, spec.channels) == (2.0, "mV", ("ECG",))
    np.testing.assert_allclose(samples, [0.0, 1.0, -1.0, 0.0001], rtol=1e-6)  # 0.1 uV a step


@pytest.mark.parametrize(("label", "unit", "rate_hz"), [("ECG II", "mV", 100.0), ("Resp", "ml", 14.0)])
def test_each_signal_of_several_is_its_own(tmp_path: Path, label: str, unit: str, rate_hz: float) -> None:
    path, signals = tmp_path / "a.edf", [an_ecg(), a_breath(), annotations(["0", "0.5", "1", "1.5", "2"])]
    write_edf(path, signals, 0.5, kind="EDF+C")
    spec, samples = played(f"edf:{path}?channel={label}".replace(" ", "%20"))
    assert (spec.rate_hz, spec.unit, spec.channels) == (rate_hz, unit, (label,))
    s = next(s for s in signals if s["label"] == label)
    step = (s["high"] - s["low"]) / (s["d_high"] - s["d_low"])
    wanted = [(int(v) - s["d_low"]) * step + s["low"] for row in s["data"] for v in row]
    np.testing.assert_allclose(samples, wanted, rtol=1e-5, atol=1e-5)


def test_time_between_the_records_of_an_interrupted_file_is_missing_samples(tmp_path: Path) -> None:
    path, ecg = tmp_path / "a.edf", an_ecg(3)
    write_edf(path, [ecg, annotations(["7", "7.5", "9.01"])], 0.5, kind="EDF+D")
    _, samples = played(f"edf:{path}")
    assert len(samples) == 201 + 50
    assert np.isnan(samples[100:201]).all()
    assert np.isfinite(samples[:100]).all()
    np.testing.assert_allclose(samples[201:], (ecg["data"][2] + 2048) / 4095 * 10 - 5, atol=1e-5)


def test_a_recording_that_was_not_finished_gives_its_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    write_edf(path, [an_ecg()], 0.5, n_records=-1, tail=b"\x01\x02\x03")
    assert len(read_edf(path).records) == 5


@pytest.mark.parametrize(
    ("at", "text", "words"),
    [
        (0, b"\xffBIOSEMI", "begins with"),
        (184, b"513     ", "header of 513 bytes"),
        (236, b"9       ", "1 whole records; the header says 9"),
        (244, b"two     ", "duration is 'two'"),
        (252, b"0   ", "0 signals"),
        (360, b"x       ", "ECG is 'x'"),
        (368, b"-3200   ", "ECG has limits"),
        (376, b"32000   ", "ECG has limits"),
        (472, b"-4      ", "ECG has limits"),
    ],
)
def test_a_damaged_header_is_refused_by_name(tmp_path: Path, at: int, text: bytes, words: str) -> None:
    path = tmp_path / "a.edf"
    path.write_bytes(GOLDEN[:at] + text + GOLDEN[at + len(text) :])
    with pytest.raises(SourceError, match=words):
        open_source(f"edf:{path}")


def test_a_file_cut_anywhere_is_refused_and_never_read_past_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    for size in range(0, len(GOLDEN), 7):
        path.write_bytes(GOLDEN[:size])
        with pytest.raises(SourceError, match=r"a\.edf"):
            open_source(f"edf:{path}")


@pytest.mark.parametrize(
    ("query", "words"), [("", "say which"), ("?channel=Pulse", "'Pulse'; channels are ECG II, Resp")]
)
def test_a_signal_that_is_not_there_is_named(tmp_path: Path, query: str, words: str) -> None:
    path = tmp_path / "a.edf"
    write_edf(path, [an_ecg(), a_breath()], 0.5)
    with pytest.raises(SettingsError, match=words):
        open_source(f"edf:{path}{query}")


@pytest.mark.parametrize("file", ["edf:no.edf", "csv:no.csv?rate_hz=1"])
def test_a_missing_file_is_named(file: str) -> None:
    with pytest.raises(SourceError, match=r"no\.(edf|csv): No such file"):
        open_source(file)


@pytest.mark.parametrize(
    ("text", "query", "wanted", "channel"),
    [
        ("1,2\n3,4\n", "", [1, 3], "ECG"),
        ("1;2\r\n3;4\r\n", "&column=1", [2, 4], "ECG"),
        (
            "time,lead II\n0.0,5\n0.1,!\n0.2,\n0.3,nan\n0.4,-1e1\n",
            "&column=lead%20II",
            [5, None, None, None, -10],
            "lead II",
        ),
        ("\ufeffa\tb\n# a note\n\n1\t2\n", "&column=b&scale=0.5&offset=1", [0.5], "b"),
    ],
)
def test_a_csv_file_is_read(tmp_path: Path, text: str, query: str, wanted: list[float | None], channel: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    spec, samples = played(f"csv:{path}?rate_hz=50{query}")
    assert (spec.rate_hz, spec.channels) == (50.0, (channel,))
    np.testing.assert_array_equal(samples, np.array([np.nan if v is None else v for v in wanted], np.float32))


@pytest.mark.parametrize(
    ("text", "query", "words"),
    [
        ("1,2\n3,x\n", "&column=1", "line 2 has no number in column 1"),
        ("1,2\n3\n", "&column=1", "line 2"),
        ("a,b\n1,2\n", "&column=c", "column is 'c'; 0 to 1, or a, b exist"),
        ("1,2\n", "&column=2", "0 to 1 exist"),
        ("", "", "no line of numbers"),
        ("a,b\n", "", "no line of numbers"),
    ],
)
def test_a_csv_file_that_does_not_hold_is_refused(tmp_path: Path, text: str, query: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises((SourceError, SettingsError), match=words):
        open_source(f"csv:{path}?rate_hz=50{query}")
