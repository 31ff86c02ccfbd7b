"""ProtoCentral HealthyPi v3 and HealthyPi 5: packets 0A FA, length u16, type, payload, 00 0B.

Source: protocentral-healthypi-v3 firmware/healthypi3_streaming.ino; healthypi5_zephyr app/src/data_module.c and
cmd_module.h. The order of fields differs between the two, so type and length together say which it is. There is
no counter and no checksum: what is lost is told by the bytes skipped and by silences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_runtime.sensors.framed import Channel, Samples, WireFormat
from edge_runtime.sensors.framing import ByteRows, Int64Array, Trust
from edge_runtime.sensors.options import in_range
from edge_runtime.sensors.sensor_block import BoolArray
from edge_runtime.sensors.wire.options import WireOptions

OVERHEAD = 7
MISSING = (0, 25)  # nothing yet, and -999 in one byte
V3_LENGTH, V3_FIXED = 20, 80  # the firmware says it in decimal: a diastolic pressure it does not have
# ADS1292R, reference 2.42 V, gain 6, upper 16 of 24 bits.
V3_ECG_MV = 2420.0 / 6 / 2**15
# MAX30001, reference 1 V, 18 bits, gain 20.
V5_ECG_MV = 1000.0 / 2**17 / 20
V5_LENGTH = {2: 22, 3: 50, 4: 19}
V5_TYPE = {"basic": 2, "ecg": 3, "ppg": 4}


@dataclass(frozen=True, kw_only=True)
class HealthyPi3Options(WireOptions):
    """ecg_scale: mV per count of the ECG."""

    rate_hz: float = 125.0
    ecg_scale: float = V3_ECG_MV


@dataclass(frozen=True, kw_only=True)
class HealthyPi5Options(WireOptions):
    """Which of its packets; their rate is set in the firmware.

    stream  basic: one sample of everything; ecg: eight of ECG, four of BioZ; ppg: eight of the pulse wave
    """

    rate_hz: float
    stream: Literal["basic", "ecg", "ppg"] = "basic"
    ecg_scale: float = V5_ECG_MV


class HealthyPi3(WireFormat):
    """ECG and respiration need the leads, pulse wave and SpO2 the probe: contact is by column."""

    length, trust = OVERHEAD + V3_LENGTH, Trust.CHECKED
    channels = (
        Channel(name="ECG", unit="mV"),
        Channel(name="RESP", unit="count"),
        Channel(name="IR", unit="count"),
        Channel(name="RED", unit="count"),
        Channel(name="TEMP", unit="degC"),
        Channel(name="RR", unit="1/min"),
        Channel(name="SPO2", unit="%"),
        Channel(name="HR", unit="bpm"),
        Channel(name="PR", unit="bpm"),
    )
    _NEED = np.array([0, 0, 1, 1, 2, 0, 1, 0, 1])  # leads, probe, nothing

    def __init__(self, options: HealthyPi3Options) -> None:
        in_range("healthypi3: ecg_scale", abs(options.ecg_scale), 1e-12, 1e6)
        self.rate_hz, self._ecg_mv = options.rate_hz, options.ecg_scale

    def holds(self, rows: ByteRows) -> BoolArray:
        """Eight bytes are fixed."""
        good = _envelope(rows, 2)
        good &= rows[:, 22] == V3_FIXED
        return good

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """All columns."""
        values = np.empty((len(rows), len(self.channels)), np.float32)
        values[:, 0] = _integers(rows, 5, "<i2")[:, 0] * self._ecg_mv
        values[:, 1] = _integers(rows, 7, "<i2")[:, 0]
        values[:, 2] = _integers(rows, 9, "<i4")[:, 0]
        values[:, 3] = _integers(rows, 13, "<i4")[:, 0]
        values[:, 4] = _integers(rows, 17, "<u2")[:, 0] * 0.01
        values[:, 5:8] = rows[:, 19:22]
        values[:, 8] = rows[:, 23]
        _without_missing(values[:, 5:])
        status = rows[:, 24]
        touches = np.stack([status & 1 == 0, status & 2 == 0, np.ones(len(rows), np.bool_)], axis=1)
        return Samples(values=values, contact=touches[:, self._NEED])


class HealthyPi5(WireFormat):
    """One kind of packet; the others are counted and left out."""

    length, trust, head = OVERHEAD + max(V5_LENGTH.values()), Trust.CHECKED, 5

    def __init__(self, options: HealthyPi5Options) -> None:
        in_range("healthypi5: ecg_scale", abs(options.ecg_scale), 1e-12, 1e6)
        self.rate_hz, self._ecg_mv = options.rate_hz, options.ecg_scale
        self._type = V5_TYPE[options.stream]
        units = {"ECG": "mV", "TEMP": "degC", "SPO2": "%", "HR": "bpm", "RR": "1/min"}
        names = {
            2: ("ECG", "BIOZ", "RED", "IR", "TEMP", "SPO2", "HR", "RR"),
            3: ("ECG", "BIOZ", "HR", "RR"),
            4: ("PPG", "SPO2"),
        }[self._type]
        self.channels = tuple(Channel(name=n, unit=units.get(n, "count")) for n in names)
        self.samples_per_frame = 1 if self._type == 2 else 8

    def lengths(self, heads: ByteRows) -> Int64Array:
        """From type and length together."""
        found = np.zeros(len(heads), np.int64)
        begins = (heads[:, 0] == 0x0A) & (heads[:, 1] == 0xFA) & (heads[:, 3] == 0)
        if begins.any():
            for kind, length in V5_LENGTH.items():
                found[begins & (heads[:, 4] == kind) & (heads[:, 2] == length)] = OVERHEAD + length
        return found

    def holds(self, rows: ByteRows) -> BoolArray:
        """Seven bytes are fixed."""
        lengths = {length: kind for kind, length in V5_LENGTH.items()}
        return _envelope(rows, lengths[rows.shape[1] - OVERHEAD])

    def wanted(self, rows: ByteRows) -> BoolArray:
        """The packets of the chosen stream."""
        return np.asarray(rows[:, 4] == self._type)

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """All columns of the chosen stream."""
        n, each = len(rows), self.samples_per_frame
        values = np.empty((n, each, len(self.channels)), np.float32)
        if self._type == 2:
            values[:, 0, 0] = _integers(rows, 5, "<i4")[:, 0] * self._ecg_mv
            values[:, 0, 1] = np.where(rows[:, 13] == 0xFF, np.nan, _integers(rows, 9, "<i4")[:, 0])
            values[:, 0, 2] = _integers(rows, 14, "<i4")[:, 0]
            values[:, 0, 3] = _integers(rows, 18, "<i4")[:, 0]
            values[:, 0, 4] = _integers(rows, 22, "<i2")[:, 0] * 0.01
            values[:, 0, 5:] = rows[:, 24:27]
            _without_missing(values[:, 0, 5:])
        elif self._type == 3:
            values[:, :, 0] = _integers(rows, 5, "<i4", 8) * self._ecg_mv
            values[:, :, 1] = np.nan  # four values for eight samples: at every other one
            values[:, ::2, 1] = _integers(rows, 37, "<i4", 4)
            values[:, :, 2:] = rows[:, None, 53:55]
            _without_missing(values[:, :, 2:])
        else:
            values[:, :, 0] = _integers(rows, 5, "<i2", 8)
            # The temperature is left out: its high byte is sent twice, its low byte never.
            values[:, :, 1:] = rows[:, None, 21:22]
            _without_missing(values[:, :, 1:])
        return Samples(values=values.reshape(n * each, -1))


def _envelope(rows: ByteRows, kind: int) -> BoolArray:
    good: BoolArray = rows[:, 0] == 0x0A
    for at, value in ((1, 0xFA), (2, rows.shape[1] - OVERHEAD), (3, 0), (4, kind), (-2, 0x00), (-1, 0x0B)):
        good &= rows[:, at] == value
    return good


def _integers(rows: ByteRows, at: int, kind: str, n: int = 1) -> np.ndarray:
    size = np.dtype(kind).itemsize * n
    return np.ascontiguousarray(rows[:, at : at + size]).view(kind)


def _without_missing(values: np.ndarray) -> None:
    values[np.isin(values, MISSING)] = np.nan
