"""Fingertip oximeters that send five bytes with bit 7 on the first only: Contec CMS50D+ (old) and Berry BM1000.

Source: atbrask/CMS50Dplus; BerryMed-Pulse-Oximeter-tool. The two have one shape and different flags. A sync bit is
all they have: no counter, no checksum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.sensors.framed import Channel, Samples, WireFormat
from edge_runtime.sensors.framing import ByteRows, Trust
from edge_runtime.sensors.sensor_block import BoolArray
from edge_runtime.sensors.wire.options import PULSE_WAVE_UNITS, PulseWaveOptions

FULL_SCALE = 127.0  # of the pulse wave's seven bits


@dataclass(frozen=True, kw_only=True)
class ContecOptions(PulseWaveOptions):
    """60 frames a second."""

    rate_hz: float = 60.0


@dataclass(frozen=True, kw_only=True)
class BerryOptions(PulseWaveOptions):
    """About 100 frames a second."""

    rate_hz: float = 100.0


class Fingertip(WireFormat):
    """PLETH, BAR, SPO2, HR.

    off    bits of bytes 0 and 2 that say that there is no finger, or no probe
    poor   bits of bytes 0 and 2 that say that the numbers cannot be trusted yet
    full   signal strength that is quality 1; above it there is none
    """

    length, trust = 5, Trust.SYNC
    unit_options = PULSE_WAVE_UNITS

    def __init__(self, o: PulseWaveOptions, *, off: tuple[int, int], poor: tuple[int, int], full: int) -> None:
        self.rate_hz, self._off, self._poor, self._full = o.rate_hz, off, poor, full
        self._counts_per_unit = o.counts_per_unit(FULL_SCALE)
        self.channels = (
            Channel(name="PLETH", unit=o.unit),
            Channel(name="BAR", unit="count"),
            Channel(name="SPO2", unit="%"),
            Channel(name="HR", unit="bpm"),
        )

    def holds(self, rows: ByteRows) -> BoolArray:
        """Bit 7 of each byte."""
        good: BoolArray = rows[:, 0] >= 0x80
        good &= (rows[:, 1] | rows[:, 2] | rows[:, 3] | rows[:, 4]) < 0x80
        return good

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """Numbers that the device does not have are NaN."""
        first, third = rows[:, 0], rows[:, 2]
        values = np.empty((len(rows), 4), np.float32)
        values[:, 0] = rows[:, 1]
        values[:, 0] /= self._counts_per_unit
        values[:, 1] = third & 0x0F
        values[:, 2] = rows[:, 4]
        values[:, 3] = rows[:, 3] + (third & 0x40) * 2.0
        values[(values[:, 2] == 0) | (values[:, 2] > 100), 2] = np.nan
        values[(values[:, 3] == 0) | (values[:, 3] == 255), 3] = np.nan
        strength = first & 0x0F
        quality = np.where(strength > self._full, 0.0, strength / self._full)
        quality[_any(first, third, self._poor)] = 0.0
        return Samples(values=values, contact=~_any(first, third, self._off), quality=quality.astype(np.float32))


def contec(options: ContecOptions) -> Fingertip:
    """CMS50D+: finger out, probe error; dropping, searching."""
    return Fingertip(options, off=(0x10, 0x10), poor=(0x20, 0x20), full=8)


def berry(options: BerryOptions) -> Fingertip:
    """BM1000: unplugged, no finger; no signal, searching."""
    return Fingertip(options, off=(0x20, 0x10), poor=(0x10, 0x20), full=14)


def _any(first: np.ndarray, third: np.ndarray, bits: tuple[int, int]) -> BoolArray:
    return np.asarray((first & bits[0] != 0) | (third & bits[1] != 0))
