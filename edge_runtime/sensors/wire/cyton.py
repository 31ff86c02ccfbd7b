"""OpenBCI Cyton: frames of 33 bytes, eight channels of 24 bits, 250 Hz.

A0, counter u8, 8 x i24 big-endian, 6 bytes aux, C0..C6. uV = count * 4.5e6 / gain / (2^23 - 1).
Source: OpenBCI documentation, "Cyton Data Format"; brainflow, cyton.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.framed import Channel, Samples, WireFormat
from edge_runtime.sensors.framing import ByteRows, Int64Array, Trust
from edge_runtime.sensors.sensor_block import BoolArray
from edge_runtime.sensors.wire.options import WireOptions

HEADER, TAIL, LENGTH = 0xA0, 0xC0, 33
REFERENCE_UV, FULL_SCALE = 4.5e6, 2**23 - 1
G_PER_COUNT = 0.002 / 16
HEADERS, USUAL_TAIL = bytes([HEADER]), bytes([TAIL])
CYCLE = bytes(range(256)) * 2
MIN_GAIN, MAX_GAIN = 1.0, 24.0


@dataclass(frozen=True, kw_only=True)
class CytonOptions(WireOptions):
    """Gain of the amplifier as set on the board; unit of the eight channels, uV or mV."""

    rate_hz: float = 250.0
    gain: float = 24.0
    unit: Literal["uV", "mV"] = "uV"
    aux: Literal["none", "acceleration"] = "none"


class Cyton(WireFormat):
    """Eight channels; with aux=acceleration also three in g, NaN in the frames that bring none."""

    length, steady, trust, wrap = LENGTH, LENGTH, Trust.TAIL, 256
    unit_options = (("uV", "unit=uV"), ("mV", "unit=mV"))

    def __init__(self, options: CytonOptions) -> None:
        if not MIN_GAIN <= options.gain <= MAX_GAIN:
            raise SettingsError(f"cyton: gain is {options.gain:g}; {MIN_GAIN:g} to {MAX_GAIN:g} wanted")
        self.rate_hz = options.rate_hz
        exg = tuple(Channel(name=f"EXG{i}", unit=options.unit) for i in range(1, 9))
        acceleration = tuple(Channel(name=f"ACC{axis}", unit="g") for axis in "XYZ")
        self.channels = exg if options.aux == "none" else (*exg, *acceleration)
        scale = REFERENCE_UV / options.gain / FULL_SCALE * (1.0 if options.unit == "uV" else 1e-3)
        self._scale = np.float32(scale / 256)  # 24 bits are read as the upper ones of 32

    def holds(self, rows: ByteRows) -> BoolArray:
        """Header A0, end C0 to C6.

        A frame that lost two bytes ends with the next frame's header and counter, which may look like an end.
        """
        good: BoolArray = rows[:, -1] - np.uint8(TAIL) <= 6  # an unsigned difference: below C0 is far above
        good &= rows[:, 0] == HEADER
        ends = rows[:, -1]
        if (ends[good] != TAIL).any():
            good &= (rows[:, -2] != HEADER) | (ends != rows[:, 1] + np.uint8(1)) | (ends == TAIL)
        return good

    def counters(self, rows: ByteRows) -> Int64Array:
        """Byte 1."""
        return rows[:, 1].astype(np.int64)

    def is_steady(self, frames: bytes, last: int) -> bool:
        """Compare three columns of bytes at once; frames with other ends than C0 take the longer way."""
        n, follows = len(frames) // LENGTH, (last + 1) % 256
        return (
            n <= 256
            and frames[1::LENGTH] == CYCLE[follows : follows + n]
            and not frames[::LENGTH].strip(HEADERS)
            and not frames[LENGTH - 1 :: LENGTH].strip(USUAL_TAIL)
        )

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """Columns EXG1 to EXG8, and ACCX to ACCZ if asked for."""
        rows = np.ascontiguousarray(rows)
        # Each value with the byte before it is a number of 32 bits; shifted, that byte is gone.
        exg = np.ndarray((len(rows), 8), ">i4", rows, 1, (LENGTH, 3)) << 8
        if len(self.channels) == 8:
            return Samples(values=np.multiply(exg, self._scale, dtype=np.float32))
        values = np.full((len(rows), 11), np.nan, np.float32)
        np.multiply(exg, self._scale, out=values[:, :8])
        # All zero stands for none: the board sends it with some frames; ends other than C0 mean something else.
        has = (rows[:, -1] == TAIL) & rows[:, 26:32].any(axis=1)
        values[has, 8:] = rows[has, 26:32].copy().view(">i2") * np.float32(G_PER_COUNT)
        return Samples(values=values)
