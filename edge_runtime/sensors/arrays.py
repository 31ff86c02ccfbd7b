"""Source `npy:PATH?rate_hz=360`: a plain array on disk, memory-mapped; what a device is benchmarked with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import Float32Array, StreamSpec
from edge_runtime.sensors.options import DECLARED_UNIT, in_range, parse_options
from edge_runtime.sensors.playback import Pace, Playback, n_played


@dataclass(frozen=True, kw_only=True)
class ArrayOptions:
    """Sample = (value - offset) * scale; `column` of an array with two dimensions, or several `columns`.

    columns  such as 0,2,5, or all
    """

    rate_hz: float
    scale: float = 1.0
    offset: float = 0.0
    column: int = 0
    columns: str = ""
    unit: str = "mV"
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
    table = _table(_opened(Path(path)), path)
    index = _index(options, table.shape[1], path)
    scale, offset = options.scale, options.offset

    def read(start: int, stop: int) -> Float32Array:
        return np.asarray((table[start:stop, index].astype(np.float64) - offset) * scale, np.float32)

    names = (options.channel,) if not options.columns else tuple(f"column {i}" for i in index)
    spec = StreamSpec(rate_hz=options.rate_hz, unit=options.unit, channels=names, unit_options=DECLARED_UNIT)
    n = n_played(len(table), options.seconds, options.rate_hz)
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


def _table(array: np.ndarray, path: str) -> np.ndarray:
    if array.ndim not in (1, 2) or len(array) == 0:
        raise SourceError(f"{path}: shape is {array.shape}; (n,) or (n, columns) wanted")
    return array.reshape(len(array), -1)


def _index(options: ArrayOptions, n_columns: int, path: str) -> list[int]:
    """Which columns are wanted."""
    if options.columns == "all":
        return list(range(n_columns))
    texts = options.columns.split(",") if options.columns else [str(options.column)]
    index = [int(t) if t.lstrip("-").isdecimal() else -1 for t in texts]
    for text, column in zip(texts, index, strict=True):
        if not 0 <= column < n_columns:
            raise SettingsError(f"npy:{path}: column is {text}; 0 to {n_columns - 1} exist")
    return index
