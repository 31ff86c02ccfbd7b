"""Bytes as the fingertip oximeters Contec CMS50D+ and Berry BM1000 send them."""

from __future__ import annotations

from collections.abc import Sequence


def encode(
    pleth: Sequence[int],
    *,
    hr: int = 72,
    spo2: int = 98,
    strength: int = 8,
    flags0: int = 0,
    flags2: int = 0,
    bar: int = 5,
) -> bytes:
    """One frame of five bytes for each value (0 to 127) of the pulse wave; flags are those of bytes 0 and 2."""
    out = bytearray()
    for value in pleth:
        out += bytes([0x80 + strength + flags0, value, bar + flags2 + (64 if hr > 127 else 0), hr % 128, spo2])
    return bytes(out)
