"""Nonin serial data formats 2, 7, 8 and 13.

Source: pufferfish-software Nonin/Types.h and FrameReceiver.cpp; mdpnp Packet.java; NoninPulseOx serialisers.
Formats 2 and 7: 75 frames a second of 5 bytes, 25 frames a packet, whose fourth bytes are a table. A heart rate has
nine bits in two seven-bit bytes, (high & 3) << 7 | low & 7F: shifted by 8, rates from 128 on read wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_runtime.sensors.framed import Channel, Samples, WireFormat
from edge_runtime.sensors.framing import ByteRows, Int64Array, Trust
from edge_runtime.sensors.sensor_block import BoolArray
from edge_runtime.sensors.wire.options import PULSE_WAVE_UNITS, PulseWaveOptions, WireOptions

NO_HR, NO_SPO2 = 511, 127
DISCONNECTED, ARTIFACT, OUT_OF_TRACK, ALARM, RED, GREEN, SYNC = 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01
PACKET_FRAMES = 25
FULL_SCALE = {2: 2.0**8 - 1, 7: 2.0**16 - 1}
VITALS = (Channel(name="SPO2", unit="%"), Channel(name="HR", unit="bpm"))
LONGEST_13 = 64


@dataclass(frozen=True, kw_only=True)
class NoninOptions(PulseWaveOptions):
    """What the device is set to send."""

    rate_hz: float = 75.0


@dataclass(frozen=True, kw_only=True)
class SlowNoninOptions(WireOptions):
    """Formats 8 and 13: a line of numbers a second, or one a measurement."""

    rate_hz: float = 1.0


class NoninWave(WireFormat):
    """Formats 2 (pulse wave of 8 bits behind a 01) and 7 (16 bits): PLETH, SPO2, HR."""

    length, trust = 5, Trust.NEXT
    unit_options = PULSE_WAVE_UNITS

    def __init__(self, options: NoninOptions, number: int) -> None:
        self.rate_hz, self._number = options.rate_hz, number
        self.channels = (Channel(name="PLETH", unit=options.unit), *VITALS)
        self._counts_per_unit = options.counts_per_unit(FULL_SCALE[number])
        self._status = 1 if number == 2 else 0
        self.forget()

    def forget(self) -> None:
        """Until the next SYNC the place in the packet is unknown."""
        self._at = PACKET_FRAMES
        self._hr_high = 0
        self._spo2 = self._hr = math.nan

    def holds(self, rows: ByteRows) -> BoolArray:
        """Status byte, checksum, and in format 2 the 01."""
        good: BoolArray = rows[:, self._status] >= 0x80
        if self._number == 2:
            good &= rows[:, 0] == 1
        good &= rows[:, 0] + rows[:, 1] + rows[:, 2] + rows[:, 3] == rows[:, 4]  # bytes: modulo 256
        return good

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """The numbers stay until the next packet brings others."""
        if is_new:
            self._at = PACKET_FRAMES
        status = rows[:, self._status]
        values = np.empty((len(rows), 3), np.float32)
        if self._number == 2:
            values[:, 0] = rows[:, 2]
        else:
            values[:, 0] = rows[:, 1] * 256.0 + rows[:, 2]
        values[:, 0] /= self._counts_per_unit
        for i, (said, byte) in enumerate(zip(status.tolist(), rows[:, 3].tolist(), strict=True)):
            self._hear(said, byte)
            values[i, 1:] = self._spo2, self._hr
        beaten = status & (RED | GREEN)
        quality = np.select([beaten == RED, beaten == RED | GREEN], [0.25, 0.5], 1.0)
        quality[(status & (ARTIFACT | OUT_OF_TRACK)) != 0] = 0.0
        return Samples(values=values, contact=status & (DISCONNECTED | ALARM) == 0, quality=quality.astype(np.float32))

    def _hear(self, status: int, byte: int) -> None:
        if status & (DISCONNECTED | ALARM):
            self._spo2 = self._hr = math.nan
        self._at = 0 if status & SYNC else self._at + 1
        if self._at == 0:
            self._hr_high = byte
        elif self._at == 1:
            self._hr = heart_rate(self._hr_high, byte)
        elif self._at == 2:
            self._spo2 = math.nan if byte & 0x7F == NO_SPO2 else byte & 0x7F


class Nonin8(WireFormat):
    """Format 8: SPO2 and HR once a second; bit 7 is set in the first of four bytes only."""

    length, trust = 4, Trust.SYNC
    channels = VITALS

    def __init__(self, options: SlowNoninOptions) -> None:
        self.rate_hz = options.rate_hz

    def holds(self, rows: ByteRows) -> BoolArray:
        """Bit 7 of each byte."""
        good: BoolArray = rows[:, 0] >= 0x80
        good &= (rows[:, 1] | rows[:, 2] | rows[:, 3]) < 0x80
        return good

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """Low perfusion is quality 0.25, marginal 0.5; out of track or artifact 0."""
        status = rows[:, 0]
        hr = (status & 3) * 128.0 + rows[:, 1]
        spo2 = rows[:, 2].astype(np.float64)
        hr[hr == NO_HR] = np.nan
        spo2[spo2 == NO_SPO2] = np.nan
        quality = np.select([status & 0x24 != 0, status & 0x10 != 0, status & 0x08 != 0], [0.0, 0.25, 0.5], 1.0)
        return Samples(
            values=np.stack([spo2, hr], axis=1).astype(np.float32),
            contact=(status & DISCONNECTED == 0) & (rows[:, 3] & 0x08 == 0),
            quality=quality.astype(np.float32),
        )


class Nonin13(WireFormat):
    """Format 13: spot checks; 00 02, type 13 and length as u16 big-endian, 14 bytes or more, their sum, 03."""

    length, trust, head = LONGEST_13 + 8, Trust.CHECKED, 6
    channels = VITALS

    def __init__(self, options: SlowNoninOptions) -> None:
        self.rate_hz = options.rate_hz

    def lengths(self, heads: ByteRows) -> Int64Array:
        """From the length field: later devices may send more than 14 bytes."""
        good = (heads[:, 0] == 0) & (heads[:, 1] == 2) & (heads[:, 2] == 0) & (heads[:, 3] == 13) & (heads[:, 4] == 0)
        good &= (heads[:, 5] >= 14) & (heads[:, 5] <= LONGEST_13)
        found: Int64Array = (heads[:, 5].astype(np.int64) + 8) * good
        return found

    def holds(self, rows: ByteRows) -> BoolArray:
        """Header, sum of the payload, end."""
        good: BoolArray = np.asarray(self.lengths(rows[:, :6]) == rows.shape[1])
        good &= rows[:, 6:-2].sum(axis=1, dtype=np.uint8) == rows[:, -2]
        good &= rows[:, -1] == 3
        return good

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """Status bit 8 says that there was no measurement."""
        hr = rows[:, 16] * 256.0 + rows[:, 17]
        spo2 = rows[:, 19].astype(np.float64)
        hr[hr >= NO_HR] = np.nan
        spo2[spo2 >= NO_SPO2] = np.nan
        return Samples(values=np.stack([spo2, hr], axis=1).astype(np.float32), contact=rows[:, 14] & 1 == 0)


def heart_rate(high: int, low: int) -> float:
    """Beats a minute from the two bytes; NaN where the device has none."""
    rate = (high & 3) << 7 | low & 0x7F
    return math.nan if rate == NO_HR else rate
