"""Shimmer3: 00, time stamp u24 at 32768 Hz, then the channels that the device was set to.

Source: pyshimmer; brainflow shimmer3. What the channels are is asked of the device by an inquiry, so it is told here
as `layout`. The 00 is no mark: the time stamp, which goes on by 32768 / rate, is what frames are known by. It goes
round each 512 s; arrival time tells how often. Acknowledgements (FF) and replies (8A ...) between frames are skipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.framed import Channel, Samples, WireFormat
from edge_runtime.sensors.framing import ByteRows, Int64Array, Trust
from edge_runtime.sensors.options import in_range
from edge_runtime.sensors.sensor_block import BoolArray
from edge_runtime.sensors.wire.options import WireOptions

CLOCK_HZ = 32768
SIZE = {"u8": 1, "i16": 2, "i16be": 2, "u16": 2, "u16be": 2, "i24be": 3}
CRC_BYTES = {"none": 0, "8": 1, "16": 2}
# ADS1292R: reference 2.42 V, gain 6, 24 bits.
EXG_MV = 2420.0 / 6 / (2**23 - 1)
DEFAULT_LAYOUT = f"-:u8,ECG1:i24be:{EXG_MV:.9g}:mV,ECG2:i24be:{EXG_MV:.9g}:mV"


@dataclass(frozen=True, kw_only=True)
class Shimmer3Options(WireOptions):
    """layout: the channels in order, `NAME:TYPE[:SCALE[:UNIT]]` between commas; the name `-` is left out.

    TYPE is u8, u16, i16 (little-endian), u16be, i16be or i24be. crc: bits of the optional CRC (command 8B).
    """

    rate_hz: float = 512.0
    layout: str = DEFAULT_LAYOUT
    crc: Literal["none", "8", "16"] = "none"


@dataclass(frozen=True)
class _Field:
    name: str
    kind: str
    scale: float
    unit: str
    at: int


class Shimmer3(WireFormat):
    """One value of every channel a frame."""

    wrap, trust = 2**24, Trust.NEXT

    def __init__(self, options: Shimmer3Options) -> None:
        in_range("shimmer3: rate_hz", options.rate_hz, 1.0, 8192.0)
        self.step = round(CLOCK_HZ / options.rate_hz)
        self.slack = max(1, self.step // 16)
        self.rate_hz = CLOCK_HZ / self.step
        fields, at = _parsed(options.layout)
        self._fields = [f for f in fields if f.name != "-"]
        if not self._fields:
            raise SettingsError(f"shimmer3: layout is {options.layout!r}; one channel with a name wanted")
        self.channels = tuple(Channel(name=f.name, unit=f.unit) for f in self._fields)
        self._crc = CRC_BYTES[options.crc]
        self.reach = 1 if self._crc else 2
        self.length = at + self._crc

    def holds(self, rows: ByteRows) -> BoolArray:
        """00, and the CRC where there is one."""
        good: BoolArray = rows[:, 0] == 0
        if self._crc:
            for i in np.flatnonzero(good).tolist():
                row = rows[i].tobytes()
                wanted = crc(row[: -self._crc]).to_bytes(2, "little")[: self._crc]
                good[i] = row[-self._crc :] == wanted
        return good

    def counters(self, rows: ByteRows) -> Int64Array:
        """Ticks of the device's clock."""
        wide = rows[:, 1:4].astype(np.int64)
        ticks: Int64Array = wide[:, 0] + (wide[:, 1] << 8) + (wide[:, 2] << 16)
        return ticks

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """All named channels."""
        values = np.empty((len(rows), len(self._fields)), np.float32)
        for i, f in enumerate(self._fields):
            values[:, i] = _number(rows[:, f.at : f.at + SIZE[f.kind]], f.kind) * f.scale
        return Samples(values=values)


def crc(body: bytes) -> int:
    """The device's CRC-16 (polynomial 1021 by byte, begins with B0CA; an odd length is padded with a zero)."""
    value = 0xB0CA
    for byte in body + bytes(len(body) % 2):
        value = ((value >> 8) | (value << 8)) & 0xFFFF
        value ^= byte
        value ^= (value & 0xFF) >> 4
        value ^= (value << 12) & 0xFFFF
        value ^= (value & 0xFF) << 5
    return value


def _parsed(layout: str) -> tuple[list[_Field], int]:
    fields, at, names = [], 4, set()
    for text in layout.split(","):
        name, kind, scale, unit, *more = [*text.split(":"), "", "", ""][: max(4, text.count(":") + 1)]
        try:
            factor = float(scale) if scale else 1.0
        except ValueError:
            factor = math.nan
        if not name or kind not in SIZE or not math.isfinite(factor) or more or (name != "-" and name in names):
            raise SettingsError(
                f"shimmer3: layout has {text!r}; NAME:TYPE[:SCALE[:UNIT]] wanted, each NAME once, "
                f"where TYPE is {', '.join(SIZE)}"
            )
        names.add(name)
        fields.append(_Field(name, kind, factor, unit or ("1" if scale else "count"), at))
        at += SIZE[kind]
    return fields, at


def _number(columns: ByteRows, kind: str) -> np.ndarray:
    parts = columns.astype(np.int64)
    if kind.endswith("be"):
        parts = parts[:, ::-1]
    value = sum(parts[:, i] << (8 * i) for i in range(parts.shape[1]))
    bits = 8 * parts.shape[1]
    return np.asarray(value if kind.startswith("u") else value - ((value >> (bits - 1)) << bits))
