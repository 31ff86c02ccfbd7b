"""Bytes as an OpenBCI Cyton sends them."""

from __future__ import annotations

from collections.abc import Sequence


def encode(
    microvolts: Sequence[Sequence[float]],
    *,
    first: int = 0,
    gain: float = 24.0,
    acceleration_g: Sequence[float] | None = None,
    end: int = 0xC0,
) -> bytes:
    """One frame of 33 bytes for each row of eight values.

    acceleration_g  three values in every frame, or none (zeros)
    Values beyond the converter's range are clipped, as the converter does.
    """
    out = bytearray()
    aux = b"".join(round(g * 8000).to_bytes(2, "big", signed=True) for g in acceleration_g or (0.0, 0.0, 0.0))
    for i, row in enumerate(microvolts):
        out += bytes((0xA0, (first + i) % 256))
        for value in row:
            count = round(value / 4.5e6 * gain * (2**23 - 1))
            out += min(max(count, -(2**23)), 2**23 - 1).to_bytes(3, "big", signed=True)
        out += aux
        out.append(end)
    return bytes(out)
