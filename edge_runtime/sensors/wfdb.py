"""Source `wfdb:PATH?channel=MLII`: one channel of a PhysioNet record."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array, StreamSpec
from edge_runtime.sensors.options import parse_options
from edge_runtime.sensors.playback import Pace, Playback, n_played
from edge_runtime.sensors.wfdb_header import Header, read_header
from edge_runtime.sensors.wfdb_samples import samples_of

USUAL_CHANNEL = "MLII"
MV_OF_UNIT = {"mV": 1.0, "uV": 1e-3, "µV": 1e-3, "V": 1e3}


@dataclass(frozen=True, kw_only=True)
class WfdbOptions:
    """`channel` by the record's own name for it."""

    channel: str | None = None
    seconds: float = math.inf
    speed: float | None = None


def open_wfdb(path: str, query: str, pace: Pace) -> Playback:
    """Open a record; PATH is without suffix (or the .hea file). Samples marked invalid are NaN.

    A skewed channel begins later in its file, and ends with as many NaN.
    Raises SourceError naming the file if it is missing or damaged.
    """
    options = parse_options(WfdbOptions, query, f"wfdb:{path}")
    header = read_header(Path(path.removesuffix(".hea") + ".hea"))
    index = _channel(header, options.channel)
    signal = header.signals[index]
    samples, invalid = samples_of(header, index)
    shift = signal.skew * signal.per_frame
    factor = MV_OF_UNIT.get(signal.unit, 1.0)

    def read(start: int, stop: int) -> Float32Array:
        numbers = samples[start + shift : stop + shift]
        out = np.full((stop - start, 1), np.nan, np.float32)
        out[: len(numbers), 0] = (numbers.astype(np.float64) - signal.baseline) / signal.gain * factor
        if invalid is not None:
            out[: len(numbers), 0][numbers == invalid] = np.nan
        return out

    rate_hz = header.rate_hz * signal.per_frame
    unit = "mV" if signal.unit in MV_OF_UNIT else signal.unit
    spec = StreamSpec(rate_hz=rate_hz, unit=unit, channels=(signal.name,))
    return Playback(spec, read, n_played(len(samples), options.seconds, rate_hz), pace.at(options.speed))


def _channel(header: Header, wanted: str | None) -> int:
    names, record = [signal.name for signal in header.signals], f"wfdb:{header.path.with_suffix('')}"
    if wanted is None:
        if len(names) > 1 and USUAL_CHANNEL not in names:
            raise SettingsError(f"{record}: channels are {', '.join(names)}; say which with ?channel=NAME")
        return names.index(USUAL_CHANNEL) if USUAL_CHANNEL in names else 0
    if wanted not in names:
        raise SettingsError(f"{record}: channel is {wanted!r}; channels are {', '.join(names)}")
    return names.index(wanted)
