"""What a decoder makes of bytes, as one block; values that are close."""

from __future__ import annotations

import itertools

import numpy as np

from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.sensor_block import SensorBlock

NAN = float("nan")


def decoded(name: str, data: bytes, query: str = "") -> SensorBlock:
    """One block of all blocks, which must follow each other."""
    stage = PROTOCOLS[name].decoder(query)
    blocks = stage.feed(data)
    assert blocks
    assert all(a.stop == b.start for a, b in itertools.pairwise(blocks))
    assert all(isinstance(b, SensorBlock) for b in blocks)
    qualities = [b.quality for b in blocks if b.quality is not None]
    return SensorBlock(
        start=blocks[0].start,
        samples=np.concatenate([b.samples for b in blocks]),
        contact=np.concatenate([b.contact for b in blocks]),
        quality=np.concatenate(qualities) if qualities else None,
    )


def close(found: np.ndarray, wanted: object, atol: float = 0.0) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=atol, equal_nan=True)
