"""Streams of every binary protocol: rows of plausible samples, their bytes, and what time does to bytes."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

from edge_runtime.sensors.protocols import PROTOCOLS

WIRE = [name for name in PROTOCOLS if name != "csv"]


def rows_of(name: str, n: int = 200, first: int = 0) -> np.ndarray:
    """float32 (n, channels): samples that the protocol can say without rounding more than a count."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), first])
    t = np.arange(first, first + n) / 50
    wave = np.sin(t) + 0.1 * rng.standard_normal(n)
    vital = np.full((n, 1), 98.0)
    hr = np.full((n, 1), 141.0)
    pleth = np.round(60 + 40 * wave)[:, None].clip(0, 127)
    columns = {
        "cyton": [300 * wave[:, None] * np.linspace(-1, 1, 8)],
        "edge": [wave[:, None], -2 * wave[:, None]],
        "healthypi3": [wave[:, None], *(np.round(k * wave)[:, None] for k in (300, 7e4, -6e5)), vital * 0.375, hr / 8],
        "healthypi5": [wave[:, None], *(np.round(k * wave)[:, None] for k in (3e5, 7e4, -6e5)), vital * 0.375],
        "nonin2": [pleth, vital, hr],
        "nonin7": [pleth * 400, vital, hr],
        "nonin8": [vital, hr],
        "nonin13": [vital, hr],
        "contec": [pleth, np.round(pleth / 10), vital, hr],
        "berry": [pleth, np.round(pleth / 10), vital, hr],
        "bitalino": [
            np.round(500 + 300 * wave[:, None] * np.linspace(-1, 1, 4)),
            np.round(pleth / 3).repeat(2, 1),
            vital * 0 + 5,
        ],
        "shimmer3": [wave[:, None], -wave[:, None]],
    }[name]
    if name == "healthypi3":
        columns = [*columns[:5], np.round(hr / 8), vital, hr, hr + 1]
    if name == "healthypi5":
        columns = [*columns, vital, hr, np.round(hr / 8)]
    return np.concatenate(columns, axis=1).astype(np.float32)


@lru_cache
def stream(name: str, n: int = 200, first: int = 0) -> bytes:
    """The bytes of such rows."""
    return PROTOCOLS[name].encode(rows_of(name, n, first), first)


def frame_bytes(name: str) -> int:
    """Bytes of a frame."""
    return len(stream(name, 1))


def without_some(data: bytes, share: float, seed: int) -> tuple[bytes, np.ndarray]:
    """The bytes that are left when each is lost with that chance, and which they are."""
    kept = np.flatnonzero(np.random.default_rng(seed).random(len(data)) >= share)
    return np.frombuffer(data, np.uint8)[kept].tobytes(), kept
