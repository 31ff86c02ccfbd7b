"""Notifications as Bluetooth LE wearables send them: heart rate, pulse oximetry, and Polar's ECG, ACC and PPG.

Sources: Bluetooth SIG, Heart Rate Service and Pulse Oximeter Service; IEEE 11073-20601 SFLOAT; Polar BLE SDK,
technical documentation. Written from these, bit by bit, and not from what reads them here.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

Sfloat = tuple[int, int]  # mantissa, exponent to ten


def sfloat(mantissa: int, exponent: int = 0) -> bytes:
    """Twelve bits of mantissa below four of exponent, both signed."""
    return struct.pack("<H", (exponent & 0xF) << 12 | (mantissa & 0xFFF))


def heart_rate(
    bpm: int,
    *,
    contact: bool | None = None,
    energy_kj: int | None = None,
    rr_1024: Sequence[int] = (),
    is_wide: bool = False,
) -> bytes:
    """0x2A37.

    contact  None where the sensor cannot tell
    rr_1024  RR intervals in 1/1024 s, oldest first
    is_wide  the rate has 16 bits
    """
    is_wide = is_wide or bpm > 255
    flags = 1 if is_wide else 0
    flags += 0 if contact is None else 6 if contact else 4
    flags += 0 if energy_kj is None else 8
    flags += 16 if rr_1024 else 0
    out = struct.pack("<BH" if is_wide else "<BB", flags, bpm)
    out += b"" if energy_kj is None else struct.pack("<H", energy_kj)
    return out + b"".join(struct.pack("<H", v) for v in rr_1024)


def pulse_oximetry(
    spo2: Sfloat,
    pulse: Sfloat,
    *,
    fast: tuple[Sfloat, Sfloat] | None = None,
    slow: tuple[Sfloat, Sfloat] | None = None,
    measured: int | None = None,
    sensor: int | None = None,
    amplitude: Sfloat | None = None,
) -> bytes:
    """0x2A5F; fast and slow are SpO2 and pulse, measured and sensor the bits of the two status fields."""
    given = (fast, slow, measured, sensor, amplitude)
    out = bytes((sum(1 << i for i, field in enumerate(given) if field is not None),)) + sfloat(*spo2) + sfloat(*pulse)
    for pair in (fast, slow):
        out += b"" if pair is None else sfloat(*pair[0]) + sfloat(*pair[1])
    out += b"" if measured is None else struct.pack("<H", measured)
    out += b"" if sensor is None else struct.pack("<I", sensor)[:3]
    return out + (b"" if amplitude is None else sfloat(*amplitude))


def polar_ecg(uv: Sequence[int], device_ns: int) -> bytes:
    """Frame type 0: three bytes a sample; `device_ns` since 2000, of the last sample, as in all of Polar's frames."""
    return _pmd(0, 0, device_ns, b"".join(_i24(v) for v in uv))


def polar_acc(mg: Sequence[Sequence[int]], device_ns: int) -> bytes:
    """Frame type 1: two bytes for each of three axes."""
    return _pmd(2, 1, device_ns, b"".join(struct.pack("<hhh", *row) for row in mg))


def polar_ppg(
    rows: Sequence[Sequence[int]], device_ns: int, *, widths: Sequence[int] = (), counts: Sequence[int] = ()
) -> bytes:
    """Compressed frame type 0: the first row whole, then blocks of differences of so many bits, so many rows each.

    Without widths and counts one block with as many bits as its differences take. The lowest bit of each difference
    comes first, and bytes are filled from their lowest bit on.
    """
    if len(rows) > 1 and not widths:
        steps = [b - a for before, row in itertools.pairwise(rows) for a, b in zip(before, row, strict=True)]
        widths, counts = [max(1, *(_signed_bits(step) for step in steps))], [len(rows) - 1]
    out, at = b"".join(_i24(v) for v in rows[0]), 1
    for width, count in zip(widths, counts, strict=True):
        bits = ""
        for r in range(at, at + count):
            for now, before in zip(rows[r], rows[r - 1], strict=True):
                bits += format((now - before) & ((1 << width) - 1), f"0{width}b")[::-1]
        bits += "0" * (-len(bits) % 8)
        out += bytes((width, count)) + bytes(int(bits[i : i + 8][::-1], 2) for i in range(0, len(bits), 8))
        at += count
    return _pmd(1, 0x80, device_ns, out)


def _pmd(kind: int, frame_type: int, device_ns: int, body: bytes) -> bytes:
    return struct.pack("<BQB", kind, device_ns, frame_type) + body


def _i24(value: int) -> bytes:
    return struct.pack("<i", value)[:3]


def _signed_bits(value: int) -> int:
    """Bits that hold it in two's complement."""
    return (value if value >= 0 else ~value).bit_length() + 1
