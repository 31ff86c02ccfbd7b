"""Bytes as a BITalino sends them."""

from __future__ import annotations

from collections.abc import Sequence


def encode(rows: Sequence[Sequence[int]], *, first: int = 0, digital: int = 0) -> bytes:
    """One frame for each row of one to six counts: A1 to A4 in 0 to 1023, A5 and A6 in 0 to 63."""
    out = bytearray()
    for i, row in enumerate(rows):
        bits = f"{digital:04b}" + "".join(f"{v:010b}" if k < 4 else f"{v:06b}" for k, v in enumerate(row))
        bits += "0" * (-len(bits) % 8)
        body = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)][::-1]
        # The frame ends with sequence and CRC; the rest is filled from its end to its begin.
        frame = [*body, (first + i) % 16 << 4]
        frame[-1] |= _crc4(frame)
        out += bytes(frame)
    return bytes(out)


def _crc4(frame: Sequence[int]) -> int:
    """A shift register with taps at x^4 + x + 1, fed bit by bit; the last four bits of the frame are zero."""
    register = 0
    for byte in frame:
        for bit in range(7, -1, -1):
            register <<= 1
            if register & 0x10:
                register ^= 0x13
            register ^= (byte >> bit) & 1
    return register
