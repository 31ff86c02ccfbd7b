"""BITalino: no header; a frame's last byte is a sequence of four bits and a CRC of four bits.

Source: bitalino.py. One place in sixteen passes such a CRC, and one in sixteen of those goes on in sequence, so a
stream is believed after several in a row, and a frame when the next goes on from it. The sequence goes round in
16 frames: a loss of just so many is seen only if bytes are missing or time passed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.framed import Channel, Samples, WireFormat
from edge_runtime.sensors.framing import ByteRows, Int64Array, Trust
from edge_runtime.sensors.options import in_range
from edge_runtime.sensors.sensor_block import BoolArray
from edge_runtime.sensors.wire.options import WireOptions

# ECG sensor: 3.3 V over 1024 steps, around the middle, gain 1100.
ECG_MV = 3300.0 / 1024 / 1100
RATES_HZ = (1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True, kw_only=True)
class BitalinoOptions(WireOptions):
    """analog: how many of A1 to A6 are sent, the first ones; ecg: which of them is an ECG, in mV; 0 for none."""

    rate_hz: float = 1000.0
    analog: int = 6
    ecg: int = 0


class Bitalino(WireFormat):
    """A1 to A4 have 10 bits, A5 and A6 the upper 6; DIGITAL is the four pins as one number."""

    trust, wrap, chain = Trust.NEXT, 16, 4
    unit_options = (("mV", "ecg=N, where the ECG sensor is on AN,"),)

    def __init__(self, options: BitalinoOptions) -> None:
        n = options.analog
        in_range("bitalino: analog", n, 1, 6)
        in_range("bitalino: ecg", options.ecg, 0, min(n, 4))
        if options.rate_hz not in RATES_HZ:
            raise SettingsError(f"bitalino: rate_hz is {options.rate_hz:g}; 1, 10, 100 or 1000 wanted")
        self.rate_hz, self._analog, self._ecg = options.rate_hz, n, options.ecg
        self.length = -(-(12 + 10 * n) // 8) if n <= 4 else -(-(52 + 6 * (n - 4)) // 8)
        analog = [Channel(name=f"A{i}", unit="count") for i in range(1, n + 1)]
        if options.ecg:
            analog[options.ecg - 1] = Channel(name="ECG", unit="mV")
        self.channels = (*analog, Channel(name="DIGITAL", unit="count"))
        self._crc = _tables(self.length)
        self._places = np.arange(self.length)

    def holds(self, rows: ByteRows) -> BoolArray:
        """The CRC is linear, so it is the exclusive or of each byte's part."""
        parts = self._crc[self._places, rows]
        return np.asarray(np.bitwise_xor.reduce(parts, axis=1) == 0)

    def counters(self, rows: ByteRows) -> Int64Array:
        """Upper half of the last byte."""
        return rows[:, -1].astype(np.int64) >> 4

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """All bits of a frame as one number, the last byte on top."""
        wide = np.zeros((len(rows), 8), np.uint8)
        wide[:, 8 - self.length :] = rows
        bits = wide.view("<u8")[:, 0]
        values = np.empty((len(rows), self._analog + 1), np.float32)
        shift = 64 - 8 - 4
        values[:, -1] = (bits >> np.uint64(shift)) & np.uint64(15)
        for i in range(self._analog):
            width = 10 if i < 4 else 6
            shift -= width
            values[:, i] = (bits >> np.uint64(shift)) & np.uint64((1 << width) - 1)
        if self._ecg:
            values[:, self._ecg - 1] = (values[:, self._ecg - 1] - 512.0) * np.float32(ECG_MV)
        return Samples(values=values)


def _tables(length: int) -> np.ndarray:
    """uint8 (length, 256): what a byte at a place adds to the remainder of x^4 + x + 1; the CRC itself included."""
    tables = np.zeros((length, 256), np.uint8)
    for at in range(length):
        for byte in range(256):
            known = byte & 0xF0 if at == length - 1 else byte
            tables[at, byte] = _remainder(known << (8 * (length - 1 - at))) ^ (byte & 15 if at == length - 1 else 0)
    return tables


def _remainder(number: int) -> int:
    """Of a polynomial over two elements, divided by x^4 + x + 1."""
    while number.bit_length() > 4:
        number ^= 0b10011 << (number.bit_length() - 5)
    return number
