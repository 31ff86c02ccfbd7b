"""Source `csv:FILE?rate_hz=250&column=1`: a recording as lines of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SettingsError, SourceError, one_line
from edge_runtime.contract.signal import Float32Array, StreamSpec
from edge_runtime.sensors.csvlines import NO_VALUE, NUMBER
from edge_runtime.sensors.options import DECLARED_UNIT, in_range, parse_options
from edge_runtime.sensors.playback import Pace, Playback, n_played


@dataclass(frozen=True, kw_only=True)
class CsvFileOptions:
    """Sample = (value - offset) * scale; `column` by its number from 0, or by its name in the first line."""

    rate_hz: float
    column: str = "0"
    scale: float = 1.0
    offset: float = 0.0
    unit: str = "mV"
    channel: str = ""
    seconds: float = math.inf
    speed: float | None = None


def open_csv_file(path: str, query: str, pace: Pace) -> Playback:
    """Open a file whose lines are numbers between commas, semicolons, tabs or blanks.

    The first line may name the columns; lines that start with # are left out. `!`, `nan` and an empty field are
    samples without a value. A recording has no damaged lines: what is no number is refused with its line.
    Raises SourceError naming the file.
    """
    options = parse_options(CsvFileOptions, query, f"csv:{path}")
    in_range(f"csv:{path}: rate_hz", options.rate_hz, 0.01, 1e5)
    for name in ("scale", "offset"):
        if not math.isfinite(getattr(options, name)):
            raise SettingsError(f"csv:{path}: {name} is {getattr(options, name):g}; a finite number wanted")
    name, column = _column(path, options.column)
    samples = np.asarray((column - options.offset) * options.scale, np.float32).reshape(-1, 1)
    spec = StreamSpec(
        rate_hz=options.rate_hz,
        unit=options.unit,
        channels=(options.channel or name,),
        unit_options=DECLARED_UNIT,
    )
    n = n_played(len(samples), options.seconds, options.rate_hz)

    def read(start: int, stop: int) -> Float32Array:
        return samples[start:stop].copy()

    return Playback(spec, read, n, pace.at(options.speed))


def _column(path: str, wanted: str) -> tuple[str, np.ndarray]:
    """The column's name, and its values as float64."""
    names: list[str] = []
    index: int | None = None
    values: list[float] = []
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.strip().removeprefix(b"\xef\xbb\xbf")
                if not text or text.startswith(b"#"):
                    continue
                fields = _fields(text)
                if index is None:
                    if not names and not all(_is_value(f) for f in fields):
                        names = [f.decode("utf-8", "replace").strip('"') for f in fields]
                        continue
                    index = _index(path, wanted, names, len(fields))
                if index >= len(fields) or not _is_value(fields[index]):
                    raise SourceError(f"{path}: line {number} has no number in column {wanted}")
                values.append(float(fields[index]) if NUMBER.fullmatch(fields[index]) else math.nan)
    except OSError as error:
        raise SourceError(one_line(error)) from error
    if index is None:
        raise SourceError(f"{path}: no line of numbers")
    return names[index] if index < len(names) else "ECG", np.array(values)


def _fields(line: bytes) -> list[bytes]:
    """Fields between commas, else semicolons, else tabs, else blanks."""
    mark = next((m for m in (b",", b";", b"\t") if m in line), None)
    return [f.strip() for f in line.split(mark)]


def _is_value(field: bytes) -> bool:
    return not field or field.lower() in NO_VALUE or NUMBER.fullmatch(field) is not None


def _index(path: str, wanted: str, names: list[str], n: int) -> int:
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < n:
        return int(wanted)
    exist = f"0 to {n - 1}" + (f", or {', '.join(names)}" if names else "")
    raise SettingsError(f"csv:{path}: column is {wanted!r}; {exist} exist")
