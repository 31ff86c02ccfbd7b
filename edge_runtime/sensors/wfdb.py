"""Source `wfdb:PATH?channel=MLII`: one channel of a PhysioNet record; only where the `wfdb` package is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import Float32Array, StreamSpec
from edge_runtime.sensors.options import parse_options
from edge_runtime.sensors.playback import Pace, Playback, n_played

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

    Raises SourceError naming the file if it is missing or damaged, or if `wfdb` is not installed.
    """
    options = parse_options(WfdbOptions, query, f"wfdb:{path}")
    stem = Path(path.removesuffix(".hea"))
    record = _checked(stem)
    index = _channel(record.sig_name, options.channel, stem)
    unit = record.units[index]
    factor = MV_OF_UNIT.get(unit, 1.0)
    signal: Float32Array = (record.dac()[:, index : index + 1] * factor).astype(np.float32)
    spec = StreamSpec(
        rate_hz=float(record.fs),
        unit="mV" if unit in MV_OF_UNIT else unit,
        channels=(record.sig_name[index],),
    )
    n = n_played(len(signal), options.seconds, spec.rate_hz)
    return Playback(spec, lambda start, stop: signal[start:stop].copy(), n, pace.at(options.speed))


def _checked(stem: Path) -> Any:
    """Read the record whole and compare it with its header's length and checksums."""
    try:
        import wfdb
    except ImportError as error:
        raise SourceError(
            f"wfdb:{stem}: the wfdb package is not installed here; install it, or use npy: with an array of samples"
        ) from error
    header = stem.with_name(stem.name + ".hea")
    if not header.is_file():
        raise SourceError(f"{header}: no such file")
    try:
        record = wfdb.rdrecord(str(stem), physical=False)
    except FileNotFoundError as error:
        raise SourceError(f"{error.filename}: no such file") from error
    except Exception as error:  # wfdb raises many types on damaged files; all mean the same here
        raise SourceError(f"{stem}: cannot be read as a WFDB record ({error})") from error
    if record.d_signal is None or len(record.d_signal) != record.sig_len:
        n = 0 if record.d_signal is None else len(record.d_signal)
        raise SourceError(f"{stem}: {n} samples; the header says {record.sig_len}")
    if all(c is not None for c in record.checksum or [None]):
        found = (record.d_signal.astype(np.int64).sum(axis=0) & 0xFFFF).tolist()
        wanted = [c & 0xFFFF for c in record.checksum]
        if found != wanted:
            raise SourceError(f"{stem}: checksums are {found}; the header says {wanted}")
    return record


def _channel(names: list[str], wanted: str | None, stem: Path) -> int:
    if wanted is None:
        if len(names) > 1 and USUAL_CHANNEL not in names:
            raise SettingsError(f"wfdb:{stem}: channels are {', '.join(names)}; say which with ?channel=NAME")
        return names.index(USUAL_CHANNEL) if USUAL_CHANNEL in names else 0
    if wanted not in names:
        raise SettingsError(f"wfdb:{stem}: channel is {wanted!r}; channels are {', '.join(names)}")
    return names.index(wanted)
