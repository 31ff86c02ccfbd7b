"""Source `npy:PATH?rate_hz=360`: a plain array on disk, memory-mapped; what a device is benchmarked with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import Float32Array, StreamSpec
from edge_runtime.sensors.options import in_range, parse_options
from edge_runtime.sensors.playback import Pace, Playback, n_played


@dataclass(frozen=True, kw_only=True)
class ArrayOptions:
    """mV = (value - offset) * scale; `column` of an array with two dimensions."""

    rate_hz: float
    scale: float = 1.0
    offset: float = 0.0
    column: int = 0
    channel: str = "ECG"
    seconds: float = math.inf
    speed: float | None = None


def open_array(path: str, query: str, pace: Pace) -> Playback:
    """Open an .npy file of integers or floats, shape (n,) or (n, columns); NaN stays NaN.

    Raises SourceError naming the file if it is missing, damaged or no such array.
    """
    options = parse_options(ArrayOptions, query, f"npy:{path}")
    in_range("rate_hz", options.rate_hz, 1.0, 1e5)
    for name in ("scale", "offset"):
        if not math.isfinite(getattr(options, name)):
            raise SettingsError(f"npy:{path}: {name} is {getattr(options, name):g}; a finite number wanted")
    column = _column(_opened(Path(path)), options.column, path)
    scale, offset = options.scale, options.offset

    def read(start: int, stop: int) -> Float32Array:
        values = (column[start:stop].astype(np.float64) - offset) * scale
        return values.astype(np.float32).reshape(-1, 1)

    spec = StreamSpec(rate_hz=options.rate_hz, channels=(options.channel,))
    n = n_played(len(column), options.seconds, options.rate_hz)
    return Playback(spec, read, n, pace.at(options.speed))


def _opened(path: Path) -> np.ndarray:
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise SourceError(f"{path}: cannot be read as an .npy array ({error})") from error
    if not isinstance(array, np.ndarray):
        raise SourceError(f"{path}: is an archive of arrays; one .npy array wanted")
    if array.dtype.kind not in "iuf":
        raise SourceError(f"{path}: values are {array.dtype}; integers or floats wanted")
    return array


def _column(array: np.ndarray, column: int, path: str) -> np.ndarray:
    if array.ndim not in (1, 2) or len(array) == 0:
        raise SourceError(f"{path}: shape is {array.shape}; (n,) or (n, columns) wanted")
    table = array.reshape(len(array), -1)
    if not 0 <= column < table.shape[1]:
        raise SettingsError(f"npy:{path}: column is {column}; 0 to {table.shape[1] - 1} exist")
    return table[:, column]
