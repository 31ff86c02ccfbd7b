"""Samples -> bytes as the WFDB Applications Guide, signal(5), words it: one sample after another, in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

# The least and the greatest sample of each format; the least one says that there is no sample, except in format 8.
RANGES = {
    8: (-128, 127),
    16: (-(2**15), 2**15 - 1),
    24: (-(2**23), 2**23 - 1),
    32: (-(2**31), 2**31 - 1),
    61: (-(2**15), 2**15 - 1),
    80: (-128, 127),
    160: (-(2**15), 2**15 - 1),
    212: (-2048, 2047),
    310: (-512, 511),
    311: (-512, 511),
}


def packed(form: int, samples: Sequence[int]) -> bytes:
    """The bytes of a file; in format 8 the samples are differences already."""
    if form in (8, 16, 24, 32):
        return b"".join(s.to_bytes(form // 8, "little", signed=True) for s in samples)
    if form == 61:
        return b"".join(s.to_bytes(2, "big", signed=True) for s in samples)
    if form == 80:
        return bytes(s + 128 for s in samples)
    if form == 160:
        return b"".join((s + 32_768).to_bytes(2, "little") for s in samples)
    if form == 212:
        return b"".join(_pair(*samples[i : i + 2]) for i in range(0, len(samples), 2))
    return b"".join(_triple(form, *samples[i : i + 3]) for i in range(0, len(samples), 3))


def _pair(first: int, second: int | None = None) -> bytes:
    low = first & 0xFFF
    if second is None:
        return low.to_bytes(2, "little")
    high, last = divmod(second & 0xFFF, 256)
    return (low | high << 12).to_bytes(2, "little") + bytes([last])


def _triple(form: int, *samples: int) -> bytes:
    a, b, c = [s & 0x3FF for s in (*samples, 0, 0)[:3]]
    if form == 310:
        words = [a << 1 | (c & 0x1F) << 11, b << 1 | c >> 5 << 11]
        return b"".join(w.to_bytes(2, "little") for w in words[: len(samples)])
    n_bytes = {1: 2, 2: 3, 3: 4}[len(samples)]
    return (a | b << 10 | c << 20).to_bytes(4, "little")[:n_bytes]
