"""Source `edf:FILE?channel=ECG`: one signal of an EDF or EDF+ file.

Kemp, Värri, Rosa, Nielsen and Gade, "A simple format for exchange of digitized polygraphic recordings",
Electroencephalogr Clin Neurophysiol 82, 1992; Kemp and Olivan, "European data format 'plus' (EDF+)", Clin
Neurophysiol 114, 2003. In EDF+D the records' onsets are in the annotations, and time between records is missing
samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SettingsError, SourceError, one_line
from edge_runtime.contract.signal import Float32Array, StreamSpec
from edge_runtime.sensors.options import parse_options
from edge_runtime.sensors.playback import Pace, Playback, n_played

HEADER_BYTES, SIGNAL_BYTES = 256, 256
ANNOTATIONS = "EDF Annotations"
MV_OF_UNIT = {"mV": 1.0, "uV": 1e-3, "µV": 1e-3, "V": 1e3}
# Width of each field, in the file's order: first of the file, then of its signals.
FILE_FIELDS = (8, 80, 80, 8, 8, 8, 44, 8, 8, 4)
SIGNAL_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)


@dataclass(frozen=True, kw_only=True)
class EdfOptions:
    """`channel` by the file's own name for it; the only signal where there is one."""

    channel: str | None = None
    seconds: float = math.inf
    speed: float | None = None


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One signal of a file: name, unit, limits of its numbers and what they mean, samples in each record."""

    label: str
    unit: str
    physical: tuple[float, float]
    digital: tuple[int, int]
    per_record: int

    def in_units(self, numbers: np.ndarray) -> Float32Array:
        """What the file's numbers mean."""
        low, high = self.physical
        gain = (high - low) / (self.digital[1] - self.digital[0])
        return np.asarray((numbers.astype(np.float64) - self.digital[0]) * gain + low, np.float32)


@dataclass(frozen=True, kw_only=True)
class Edf:
    """A file's header; `records` is int16 (records, samples of all signals), mapped from the file."""

    is_interrupted: bool
    record_s: float
    signals: tuple[Signal, ...]
    records: np.ndarray

    def numbers(self, index: int) -> np.ndarray:
        """int16 (records, samples in each) of a signal."""
        begin = sum(s.per_record for s in self.signals[:index])
        return self.records[:, begin : begin + self.signals[index].per_record]


def open_edf(path: str, query: str, pace: Pace) -> Playback:
    """Open one signal; raises SourceError naming the file if it is missing or damaged."""
    options = parse_options(EdfOptions, query, f"edf:{path}")
    edf = read_edf(Path(path))
    index = _chosen(edf, options.channel, path)
    signal = edf.signals[index]
    if edf.record_s <= 0 or signal.per_record == 0:
        raise SourceError(f"{path}: {signal.label} has no sampling rate")
    rate_hz = signal.per_record / edf.record_s
    factor = MV_OF_UNIT.get(signal.unit, 1.0)
    samples = _on_one_line(edf, signal.in_units(edf.numbers(index)) * np.float32(factor), rate_hz, path)
    unit = "mV" if signal.unit in MV_OF_UNIT else signal.unit
    spec = StreamSpec(rate_hz=rate_hz, unit=unit, channels=(signal.label,))
    n = n_played(len(samples), options.seconds, rate_hz)
    return Playback(spec, lambda start, stop: samples[start:stop].copy(), n, pace.at(options.speed))


def read_edf(path: Path) -> Edf:
    """Read a file's header and map its records; a last record that is cut is left out.

    Raises SourceError if it is no EDF, or shorter than its header says by more than that.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file.read(HEADER_BYTES), file.read(4096 * SIGNAL_BYTES))
    except OSError as error:
        raise SourceError(one_line(error)) from error


def _read(path: Path, head: bytes, rest: bytes) -> Edf:
    if len(head) < HEADER_BYTES or head[:8].strip() != b"0":
        raise SourceError(f"{path}: begins with {head[:8]!r}; an EDF file begins with b'0       '")
    fields = _cut(head, FILE_FIELDS)
    header_bytes, reserved = _whole(path, "header bytes", fields[5]), fields[6]
    n_records, record_s = _whole(path, "records", fields[7]), _number(path, "duration", fields[8])
    n_signals = _whole(path, "signals", fields[9])
    if not 1 <= n_signals <= 4095 or header_bytes != HEADER_BYTES + n_signals * SIGNAL_BYTES:
        raise SourceError(f"{path}: {n_signals} signals in a header of {header_bytes} bytes")
    if len(rest) < n_signals * SIGNAL_BYTES:
        raise SourceError(f"{path}: ends in its header")
    signals = _signals(path, rest, n_signals)
    width = sum(s.per_record for s in signals)
    whole = (path.stat().st_size - header_bytes) // (2 * width) if width else 0
    if whole < 1 or (n_records >= 0 and whole < n_records - 1):
        raise SourceError(f"{path}: {whole} whole records; the header says {n_records}")
    n = whole if n_records < 0 else min(whole, n_records)  # -1 while a recording is being written
    records = np.memmap(path, "<i2", "r", header_bytes, (n, width))
    return Edf(is_interrupted=reserved.startswith("EDF+D"), record_s=record_s, signals=signals, records=records)


def _signals(path: Path, text: bytes, n: int) -> tuple[Signal, ...]:
    columns, at = [], 0
    for width in SIGNAL_FIELDS:
        columns.append(_cut(text[at : at + n * width], (width,) * n))
        at += n * width
    labels, _, units, lows, highs, digital_lows, digital_highs, _, counts, _ = columns
    signals = []
    for i, label in enumerate(labels):
        digital = (_whole(path, label, digital_lows[i]), _whole(path, label, digital_highs[i]))
        physical = (_number(path, label, lows[i]), _number(path, label, highs[i]))
        per_record = _whole(path, label, counts[i])
        if digital[0] >= digital[1] or physical[0] == physical[1] or per_record < 0:
            raise SourceError(f"{path}: {label} has limits {digital} for {physical}, {per_record} samples a record")
        signals.append(Signal(label=label, unit=units[i], physical=physical, digital=digital, per_record=per_record))
    return tuple(signals)


def _cut(text: bytes, widths: tuple[int, ...]) -> list[str]:
    ends = np.cumsum(widths).tolist()
    return [text[end - width : end].decode("latin-1").strip() for end, width in zip(ends, widths, strict=True)]


def _whole(path: Path, what: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SourceError(f"{path}: {what} is {text!r}; a whole number wanted") from None


def _number(path: Path, what: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise SourceError(f"{path}: {what} is {text!r}; a number wanted")
    return found


def _chosen(edf: Edf, wanted: str | None, path: str) -> int:
    labels = [s.label for s in edf.signals]
    usable = [i for i, label in enumerate(labels) if label != ANNOTATIONS]
    if wanted is None and len(usable) == 1:
        return usable[0]
    for i in usable:
        if labels[i] == wanted:
            return i
    names = ", ".join(labels[i] for i in usable)
    if wanted is None:
        raise SettingsError(f"edf:{path}: channels are {names}; say which with ?channel=NAME")
    raise SettingsError(f"edf:{path}: channel is {wanted!r}; channels are {names}")


def _on_one_line(edf: Edf, samples: Float32Array, rate_hz: float, path: str) -> Float32Array:
    """The records' samples (records, n) as (samples, 1), NaN for time between records."""
    if not edf.is_interrupted:
        return samples.reshape(-1, 1)
    onsets = _onsets(edf, path)
    begins = np.round((onsets - onsets[0]) * rate_hz).astype(np.int64)
    n = samples.shape[1]
    if np.any(np.diff(begins) < n):
        raise SourceError(f"{path}: its records overlap or go back in time")
    out = np.full((int(begins[-1]) + n, 1), np.nan, np.float32)
    for begin, record in zip(begins.tolist(), samples, strict=True):
        out[begin : begin + n, 0] = record
    return out


def _onsets(edf: Edf, path: str) -> np.ndarray:
    """Each record's onset in seconds: the first time stamp of its first annotations signal, `+12.5` 14 14."""
    labels = [s.label for s in edf.signals]
    if ANNOTATIONS not in labels:
        raise SourceError(f"{path}: is EDF+D without {ANNOTATIONS}")
    lists = edf.numbers(labels.index(ANNOTATIONS))
    return np.array([_number(Path(path), "onset", _stamp(row)) for row in lists])


def _stamp(row: np.ndarray) -> str:
    return row.astype("<i2").tobytes().split(b"\x14")[0].split(b"\x15")[0].decode("latin-1").strip("\x00")
