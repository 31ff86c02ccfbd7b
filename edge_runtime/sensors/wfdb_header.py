"""The header of a PhysioNet record (.hea): which files hold its samples, and what the numbers in them mean.

WFDB Applications Guide, header(5). What a replay has no use for may stand there and is passed over: the counter, the
time and date at which a record began, resolution, block sizes, comments.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SourceError, one_line

USUAL_RATE_HZ, USUAL_GAIN, USUAL_UNIT = 250.0, 200.0, "mV"
LEAST_GAIN = 1e-25  # with less, a sample of 32 bits would be no float32
_COUNT, _WHOLE = r"[0-9]{1,18}", r"[+-]?[0-9]{1,10}"
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
RECORD_FORM = "NAME[/SEGMENTS] SIGNALS [RATE[/COUNTER[(BASE)]] [SAMPLES [TIME [DATE]]]]"
RECORD = re.compile(
    rf"(?P<name>[^\s/]+)(?:/(?P<segments>{_COUNT}))?\s+(?P<n_signals>{_COUNT})"
    rf"(?:\s+(?P<rate>{_NUMBER})(?:/{_NUMBER}(?:\({_NUMBER}\))?)?(?:\s+(?P<n_frames>{_COUNT})(?:\s.*)?)?)?"
)
SIGNAL_FORM = (
    "FILE FORMAT[xSAMPLES][:SKEW][+OFFSET] "
    "[GAIN[(BASELINE)][/UNIT] [RESOLUTION [ZERO [INITIAL [CHECKSUM [BLOCK [NAME]]]]]]]"
)
SIGNAL = re.compile(
    rf"(?P<file>\S+)\s+(?P<format>{_COUNT})"
    rf"(?:x(?P<per_frame>{_COUNT}))?(?::(?P<skew>{_COUNT}))?(?:\+(?P<offset>{_COUNT}))?"
    rf"(?:\s+(?P<gain>{_NUMBER})(?:\((?P<baseline>{_WHOLE})\))?(?:/(?P<unit>\S+))?"
    rf"(?:\s+{_WHOLE}(?:\s+(?P<zero>{_WHOLE})(?:\s+(?P<initial>{_WHOLE})(?:\s+(?P<checksum>{_WHOLE})"
    rf"(?:\s+{_WHOLE}(?:\s+(?P<name>.+))?)?)?)?)?)?)?"
)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Where a signal's samples are, and what they mean: (sample - baseline) / gain in `unit`.

    file       name of its file, in the header's folder
    format     number of the samples' form in the file, of signal(5)
    per_frame  samples in each frame, so that its rate is the record's times this
    skew       frames of the file that come before the record's first
    offset     bytes of the file before its first sample
    initial    what the first difference is added to, where a file holds differences
    checksum   sum of all samples modulo 65,536, or None
    """

    name: str
    file: str
    format: int
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
    initial: int
    checksum: int | None


@dataclass(frozen=True, kw_only=True)
class Header:
    """A record of one segment: `rate_hz` frames a second, `n_frames` in all, or None where it does not say."""

    path: Path
    rate_hz: float
    n_frames: int | None
    signals: tuple[Signal, ...]


def read_header(path: Path) -> Header:
    """Read a header; raises SourceError naming file and line if it is missing, damaged or of several segments."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SourceError(one_line(error)) from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # every byte is a character of it
    lines = [(i, line.strip()) for i, line in enumerate(text.split("\n"), 1)]
    lines = [(i, line) for i, line in lines if line and not line.startswith("#")]
    if not lines:
        raise SourceError(f"{path}: is empty; {RECORD_FORM} wanted")
    record = _matched(path, *lines[0], RECORD, RECORD_FORM)
    if record["segments"] is not None:
        raise SourceError(f"{path}: has {record['segments']} segments; replay one of them: their names are in it")
    rate_hz = float(record["rate"] or USUAL_RATE_HZ)
    if not (0.0 < rate_hz < math.inf):
        raise SourceError(f"{path}: the rate is {rate_hz:g} Hz; a positive number wanted")
    n_signals = int(record["n_signals"])
    if not 1 <= n_signals < len(lines):
        raise SourceError(f"{path}: says {n_signals} signals and describes {len(lines) - 1}; one or more wanted")
    signals = tuple(
        _signal(path, number, line, f"record {record['name']}, signal {i}")
        for i, (number, line) in enumerate(lines[1 : 1 + n_signals])
    )
    return Header(path=path, rate_hz=rate_hz, n_frames=int(record["n_frames"] or 0) or None, signals=signals)


def _signal(path: Path, number: int, line: str, unnamed: str) -> Signal:
    found = _matched(path, number, line, SIGNAL, SIGNAL_FORM)
    gain = float(found["gain"] or 0) or USUAL_GAIN
    if not LEAST_GAIN <= abs(gain) < math.inf:
        raise SourceError(f"{path}: line {number}: the gain is {gain:g}; 0, or {LEAST_GAIN:g} and more wanted")
    per_frame = int(found["per_frame"] or 1)
    if per_frame == 0:
        raise SourceError(f"{path}: line {number}: the frame has no samples of the signal")
    zero = int(found["zero"] or 0)
    checksum = int(found["checksum"] or 0) & 0xFFFF
    return Signal(
        name=found["name"] or unnamed,
        file=found["file"],
        format=int(found["format"]),
        per_frame=per_frame,
        skew=int(found["skew"] or 0),
        offset=int(found["offset"] or 0),
        gain=gain,
        baseline=int(found["baseline"] or zero),
        unit=found["unit"] or USUAL_UNIT,
        initial=int(found["initial"] or zero),
        checksum=checksum or None,  # 0 holds the place of one that nobody knew, as in the records of Challenge 2017
    )


def _matched(path: Path, number: int, line: str, pattern: re.Pattern[str], form: str) -> dict[str, str | Any]:
    found = pattern.fullmatch(line)
    if found is None:
        shown = line if len(line) <= 60 else line[:57] + "..."
        raise SourceError(f"{path}: line {number} is {shown!r}; {form} wanted")
    return found.groupdict()
