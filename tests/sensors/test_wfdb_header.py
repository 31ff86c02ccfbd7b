"""Headers of PhysioNet records against the wfdb package, header(5)'s own examples, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.contract.errors import SourceError
from edge_runtime.sensors.wfdb_header import Header, read_header


def header(folder: Path, text: str | bytes) -> Header:
    (folder / "r.hea").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_header(folder / "r.hea")


def optional(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The first few of fields of which each needs the one before."""
    return st.integers(0, len(parts)).flatmap(lambda n: st.tuples(*parts[:n]).map("".join))


whole = st.integers(-40_000, 40_000).map(str)
number = st.one_of(st.integers(1, 9999).map(str), st.decimals("0.01", 9999, places=3).map(str))
space = st.sampled_from([" ", "\t", "  "])
words = st.from_regex(r"[A-Za-z][A-Za-z0-9 +-]{0,10}[a-z0-9]", fullmatch=True)
units = st.from_regex(r"[A-Za-z%^/]{1,6}", fullmatch=True)
counter = optional(number.map("/{}".format), whole.map("({})".format))
began = optional(st.just(" 12:30:00"), st.just(" 25/04/1989"))
record_lines = optional(st.tuples(space, number, counter).map("".join), st.integers(0, 10**9).map(" {}".format), began)
modifiers = st.tuples(*(st.one_of(st.just(""), st.integers(1, 999).map(f"{mark}{{}}".format)) for mark in "x:+")).map(
    "".join
)
gains = st.tuples(
    space,
    st.one_of(number, st.just("0"), st.just("2.4011e-11")),
    st.one_of(st.just(""), whole.map("({})".format)),
    st.one_of(st.just(""), units.map("/{}".format)),
).map("".join)
signal_lines = st.tuples(
    st.sampled_from(["100.dat", "a_1.d0", "s0010_re.xyz"]),
    st.sampled_from([" 16", " 212", "\t8"]),
    modifiers,
    optional(
        gains,
        st.integers(0, 32).map(" {}".format),
        *[st.tuples(space, whole).map("".join)] * 3,
        st.just(" 0"),
        st.tuples(space, words).map("".join),
    ),
).map("".join)


@settings(max_examples=100, deadline=None)
@given(record=record_lines, lines=st.lists(signal_lines, min_size=1, max_size=3), end=st.sampled_from(["\n", "\r\n"]))
def test_a_header_says_what_wfdb_finds_in_it(record: str, lines: list[str], end: str, tmp_path_factory) -> None:
    wfdb = pytest.importorskip("wfdb", reason="needs the wfdb package")
    folder = tmp_path_factory.mktemp("header")
    text = end.join(["# a comment", f"rec_1 {len(lines)}{record}", *lines, "", "# <age>: 25", ""])
    found = header(folder, text)
    oracle = wfdb.rdheader(str(folder / "r"))
    assert found.rate_hz == pytest.approx(oracle.fs, rel=1e-8)
    assert found.n_frames == (oracle.sig_len or None)
    for i, signal in enumerate(found.signals):
        assert signal.name == (oracle.sig_name[i] or f"record rec_1, signal {i}")
        assert (signal.file, str(signal.format)) == (oracle.file_name[i], oracle.fmt[i])
        assert signal.per_frame == oracle.samps_per_frame[i]
        assert (signal.skew, signal.offset) == (oracle.skew[i] or 0, oracle.byte_offset[i] or 0)
        assert (signal.gain, signal.baseline) == (oracle.adc_gain[i], oracle.baseline[i])
        assert signal.unit == oracle.units[i]
        assert signal.initial == (oracle.adc_zero[i] or 0 if oracle.init_value[i] is None else oracle.init_value[i])
        assert signal.checksum == ((oracle.checksum[i] or 0) % 65_536 or None)


def test_the_examples_of_the_manual_are_read(tmp_path: Path) -> None:
    found = header(
        tmp_path,
        "100 2 360 650000 0:0:0 0/0/0\n100.dat 212 200 11 1024 995 -22131 0 MLII\n"
        "100.dat 212 200 11 1024 1011 20052 0 V5\n\n# 69 M 1085 1629 x1\n# Aldomet, Inderal\n",
    )
    assert (found.rate_hz, found.n_frames, [s.name for s in found.signals]) == (360.0, 650_000, ["MLII", "V5"])
    assert (found.signals[0].gain, found.signals[0].baseline, found.signals[0].unit) == (200.0, 1024, "mV")
    assert found.signals[0].checksum == 65_536 - 22_131
    found = header(tmp_path, "# Use this record\n# here\n16x4 4\n" + "- 16\n" * 4)
    assert (found.rate_hz, found.n_frames, len(found.signals)) == (250.0, None, 4)
    assert [s.name for s in found.signals] == [f"record 16x4, signal {i}" for i in range(4)]
    found = header(tmp_path, "7001 1 250 525000\n/db1/data0/d0.7001 8 100 10 0 -53 -1279 0 ECG signal 0\n")
    assert (found.signals[0].name, found.signals[0].initial, found.signals[0].gain) == ("ECG signal 0", -53, 100.0)


@pytest.mark.parametrize("rate", ["360", "360.", "360.0", "3.6e2", "+36E+1", "360/0(-5)", "360/1.5e3(.5)"])
def test_a_rate_is_written_as_scanf_reads_it(tmp_path: Path, rate: str) -> None:
    assert header(tmp_path, f"r 1 {rate} 7\nr.dat 16\n").rate_hz == 360.0


def test_when_a_record_began_is_passed_over_however_it_is_written(tmp_path: Path) -> None:
    # As the records of Challenge 2020 have it, against the manual.
    assert header(tmp_path, "A0001 1 500 7500 05-Feb-2020 11:39:16\nA0001.mat 16+24\n").n_frames == 7500


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_micro_is_read_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    assert header(tmp_path, "r 1\nr.dat 16 1/µV 12\n".encode(encoding)).signals[0].unit == "µV"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing but a comment\n", "is empty"),
        ("no header at all\n", "line 1 is 'no header at all'; NAME"),
        ("multi/3 2 360 45000\n100s 21600\nnull 1800\n100s 21600\n", "has 3 segments"),
        ("r 0 250 100\n", "says 0 signals"),
        ("r 2 250 100\n\nr.dat 16\n# r.dat 16\n", "says 2 signals and describes 1"),
        ("r 1 0 100\nr.dat 16\n", "the rate is 0 Hz"),
        ("r 1 -250 100\nr.dat 16\n", "the rate is -250 Hz"),
        ("r 1 1e999 100\nr.dat 16\n", "the rate is inf Hz"),
        ("r 1 nan 100\nr.dat 16\n", "line 1 is 'r 1 nan 100'; NAME"),
        ("r 1 250 many\nr.dat 16\n", "line 1 is 'r 1 250 many'; NAME"),
        ("r 1 250 100\n# one\nr.dat\n", "line 3 is 'r.dat'; FILE FORMAT"),
        ("r 1 250 100\nr.dat 16x2:y\n", "line 2 is 'r.dat 16x2:y'; FILE FORMAT"),
        ("r 1 250 100\nr.dat 16x0\n", "line 2: the frame has no samples"),
        ("r 1 250 100\nr.dat 16 1e-300\n", "line 2: the gain is 1e-300"),
        ("r 1 250 100\nr.dat 16 1e999\n", "line 2: the gain is inf"),
        ("r 1 250 100\nr.dat 16 200 12 0 0 ECG\n", "line 2 is .*; FILE FORMAT"),
        (f"r 1 250 100\nr.dat 16 200 12 0 0 {'9' * 5000}\n", r"\.\.\.'; FILE FORMAT"),
    ],
)
def test_what_is_no_header_is_refused_in_one_short_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        header(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/r.hea: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 250
