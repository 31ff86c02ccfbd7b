"""Bytes of the project's own frame."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence


def encode(
    rows: Sequence[Sequence[float]], *, kind: str = "i16", stream: int = 0, first: int = 0, samples: int = 1
) -> bytes:
    """Frames of `samples` rows each; values are counts (i16, i24: whole numbers) or numbers (f32).

    A value that is NaN says that there is no contact. Rows that fill no whole frame are left out.
    """
    out = b""
    for i in range(len(rows) // samples):
        payload = b"".join(_packed(v, kind) for row in rows[i * samples : (i + 1) * samples] for v in row)
        body = struct.pack("<BBBI", {"i16": 16, "i24": 17, "f32": 18}[kind], len(payload), stream, (first + i) % 2**32)
        body += payload
        out += b"\xa5\x5a" + body + struct.pack("<HB", _crc(body), 0x0D)
    return out


def _packed(value: float, kind: str) -> bytes:
    if kind == "f32":
        return struct.pack("<f", value)
    size = 2 if kind == "i16" else 3
    lowest = -(1 << (8 * size - 1))
    count = lowest if math.isnan(value) else min(max(round(value), lowest + 1), -lowest - 1)
    return count.to_bytes(size, "little", signed=True)


def _crc(body: bytes) -> int:
    """CRC-16/CCITT-FALSE, bit by bit."""
    crc = 0xFFFF
    for byte in body:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x1021 if crc & 0x8000 else 0)
            crc &= 0xFFFF
    return crc
