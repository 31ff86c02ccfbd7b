"""The project's own frame, for sensors that one builds: counted, with a CRC, simple to make in C.

A5 5A, kind u8 (10 + 0 i16, 1 i24, 2 f32), payload bytes u8, stream u8, counter u32, payload, CRC-16/CCITT-FALSE
(polynomial 1021, begins with FFFF) over everything between A5 5A and itself, 0D; all little-endian. A frame that lost
bytes ends with the next one's A5, so it does not rest on the CRC alone. The payload is `samples` rows of `columns`
values each; the counter counts frames. A value that is the most negative integer, or NaN, says that the sensor does
not touch the body.
"""

from __future__ import annotations

import math
from binascii import crc_hqx
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from edge_runtime.sensors.framed import Channel, Samples, WireFormat
from edge_runtime.sensors.framing import ByteRows, Int64Array, Trust
from edge_runtime.sensors.options import DECLARED_UNIT, in_range
from edge_runtime.sensors.sensor_block import BoolArray
from edge_runtime.sensors.wire.options import WireOptions

KIND = {"i16": 0x10, "i24": 0x11, "f32": 0x12}
BYTES = {"i16": 2, "i24": 3, "f32": 4}
HEAD, OVERHEAD, MAX_PAYLOAD = 9, 12, 240
END, END_BYTE = 0x0D, b"\x0d"
I16, LOWEST_BYTES = np.dtype("<i2"), b"\x00\x80"


@dataclass(frozen=True, kw_only=True)
class EdgeFrameOptions(WireOptions):
    """Sample = (value - offset) * scale, in `unit`.

    stream   which of the device's streams
    columns  names of a row's values, such as `ECG,RESP`
    samples  rows in a frame
    """

    rate_hz: float
    stream: int = 0
    type: Literal["i16", "i24", "f32"] = "i16"
    columns: str = "ECG"
    samples: int = 1
    scale: float = 1.0
    offset: float = 0.0
    unit: str = "mV"


class EdgeFrame(WireFormat):
    """One stream of the device; frames of its other streams are counted and left out."""

    length, trust, head, wrap = OVERHEAD + MAX_PAYLOAD, Trust.CHECKED, HEAD, 2**32
    unit_options = DECLARED_UNIT

    def __init__(self, options: EdgeFrameOptions) -> None:
        names = options.columns.split(",")
        if not all(names) or len(set(names)) != len(names):
            raise SettingsError(f"edge: columns are {options.columns!r}; different names between commas wanted")
        in_range("edge: stream", options.stream, 0, 255)
        in_range("edge: samples", options.samples, 1, MAX_PAYLOAD)
        in_range("edge: scale", abs(options.scale), 1e-12, 1e12)
        in_range("edge: offset", options.offset, -1e12, 1e12)
        self._type, self._options = options.type, options
        self._payload = BYTES[options.type] * len(names) * options.samples
        if self._payload > MAX_PAYLOAD:
            raise SettingsError(f"edge: a frame has {self._payload} bytes of samples; {MAX_PAYLOAD} at most wanted")
        self._begin = bytes([0xA5, 0x5A, KIND[options.type], self._payload, options.stream])
        self.steady = OVERHEAD + self._payload
        # Integers times such a scale stay within float32, so nothing has to be looked for.
        self._is_safe = options.type != "f32" and max(abs(options.offset), 2.0**23) * abs(options.scale) < 1e37
        self._is_small = options.type == "i16" and self._is_safe and options.offset == 0.0
        # An array, so that int16 becomes float32 with any numpy.
        self._scale = np.array([[options.scale]], np.float32)
        self._shape = (options.samples, len(names))
        self.rate_hz, self.samples_per_frame = options.rate_hz, options.samples
        self.channels = tuple(Channel(name=name, unit=options.unit) for name in names)

    def lengths(self, heads: ByteRows) -> Int64Array:
        """From byte 3."""
        good = (heads[:, 0] == 0xA5) & (heads[:, 1] == 0x5A) & (heads[:, 2] - np.uint8(0x10) <= 2)
        good &= heads[:, 3] <= MAX_PAYLOAD
        found: Int64Array = (heads[:, 3].astype(np.int64) + OVERHEAD) * good
        return found

    def holds(self, rows: ByteRows) -> BoolArray:
        """Header, CRC, end."""
        good: BoolArray = np.asarray(self.lengths(rows[:, :HEAD]) == rows.shape[1])
        good &= rows[:, -1] == END
        for i in np.flatnonzero(good).tolist():
            row = rows[i].tobytes()
            good[i] = crc_hqx(row[2:-3], 0xFFFF) == int.from_bytes(row[-3:-1], "little")
        return good

    def is_steady(self, frames: bytes, last: int) -> bool:
        """Header, counter, CRC and end of each frame; frames of other streams take the longer way."""
        starts = range(0, len(frames), self.steady)
        return all(
            self._goes_on(frames[at : at + self.steady], (last + i) % 2**32) for i, at in enumerate(starts, start=1)
        )

    def _goes_on(self, frame: bytes, counter: int) -> bool:
        """Whether a frame of this stream's length has this counter, and holds."""
        return (
            frame.startswith(self._begin + counter.to_bytes(4, "little"))
            and frame[-3:] == crc_hqx(frame[2:-3], 0xFFFF).to_bytes(2, "little") + END_BYTE
        )

    def counters(self, rows: ByteRows) -> Int64Array:
        """Bytes 5 to 8."""
        return np.ascontiguousarray(rows[:, 5:9]).view("<u4")[:, 0].astype(np.int64)

    def wanted(self, rows: ByteRows) -> BoolArray:
        """This stream's frames, if they are of the declared layout."""
        good: BoolArray = (rows[:, 2] == KIND[self._type]) & (rows[:, 3] == self._payload)
        good &= rows[:, 4] == self._options.stream
        return good

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """All columns; contact by column."""
        payload = np.ascontiguousarray(rows[:, HEAD:-3])
        if self._type == "f32":
            values = payload.view("<f4").astype(np.float64)
            contact = ~np.isnan(values)
        elif self._type == "i16":
            counts = payload.view("<i2")
            values, contact = counts.astype(np.float64), counts != -(2**15)
        else:
            wide = np.zeros((payload.size // 3, 4), np.uint8)
            wide[:, 1:] = payload.reshape(-1, 3)
            counts = wide.view("<i4") >> 8
            values, contact = counts.astype(np.float64), counts != -(2**23)
        shape = (len(rows) * self.samples_per_frame, len(self.channels))
        o = self._options
        if self._is_small:
            return Samples(values=counts.reshape(shape) * self._scale, contact=contact.reshape(shape))
        if self._is_safe:
            exact = values.reshape(shape)
            exact -= o.offset
            exact *= o.scale
            return Samples(values=exact.astype(np.float32), contact=contact.reshape(shape))
        with np.errstate(over="ignore"):  # a number beyond float32 is none
            scaled = ((values.reshape(shape) - o.offset) * o.scale).astype(np.float32)
        scaled[np.isinf(scaled)] = math.nan
        return Samples(values=scaled, contact=contact.reshape(shape))

    def steady_values(self, frames: bytes, last: int) -> Float32Array | None:
        """One frame of int16 with contact and without offset: the same numbers with fewer calls."""
        if not self._is_small or len(frames) != self.steady:
            return super().steady_values(frames, last)
        if LOWEST_BYTES in frames or not self._goes_on(frames, (last + 1) % 2**32):
            return None
        values: Float32Array = np.ndarray(self._shape, I16, frames, HEAD) * self._scale
        return values
