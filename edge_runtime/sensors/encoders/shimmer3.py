"""Bytes as a Shimmer3 sends them."""

from __future__ import annotations

from collections.abc import Sequence


def encode(
    rows: Sequence[Sequence[int]], kinds: Sequence[str], *, first_tick: int = 0, divider: int = 64, crc_bytes: int = 0
) -> bytes:
    """One frame for each row of integers, which go by `kinds` (u8, u16, i16, u16be, i16be, i24be)."""
    out = b""
    for i, row in enumerate(rows):
        frame = b"\x00" + ((first_tick + i * divider) % 2**24).to_bytes(3, "little")
        for value, kind in zip(row, kinds, strict=True):
            size = int("".join(c for c in kind if c.isdigit())) // 8
            order = kind[-2:] == "be"
            frame += value.to_bytes(size, "big" if order else "little", signed=kind[0] == "i")
        out += frame + _crc(frame).to_bytes(2, "little")[:crc_bytes]
    return out


def _crc(frame: bytes) -> int:
    """CCITT's polynomial over whole bytes, most significant bit first, seeded with B0CA."""
    value = 0xB0CA
    for byte in frame + b"\x00" * (len(frame) % 2):
        value ^= byte << 8
        for _ in range(8):
            value = ((value << 1) ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value
