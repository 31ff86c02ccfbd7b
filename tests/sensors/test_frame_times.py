"""When samples arrived: with the last byte of their frame, however the bytes came and whatever the frame waited for."""

from __future__ import annotations

import bisect
import itertools

import numpy as np
import pytest
from wire_streams import WIRE, frame_bytes, stream

from edge_runtime.sensors.protocols import PROTOCOLS

BYTE_NS = 10**6


@pytest.mark.parametrize("name", WIRE)
@pytest.mark.parametrize("longest", [1, 4, 30, 400])
def test_a_block_has_the_time_at_which_its_newest_frame_was_whole(name: str, longest: int) -> None:
    """A chunk arrives with its last byte, and a byte takes a millisecond; every protocol's frames have one length."""
    data, length = stream(name, 60), frame_bytes(name)
    ends = np.cumsum(np.random.default_rng(longest).integers(1, longest + 1, len(data)))
    cuts = [0, *ends[ends < len(data)].tolist(), len(data)]
    decoder = PROTOCOLS[name].decoder(PROTOCOLS[name].example)
    found = []
    for begin, end in itertools.pairwise(cuts):
        found += [(b.stop, b.t_ns) for b in decoder.feed(data[begin:end], end * BYTE_NS)]
    whole = [cuts[bisect.bisect_left(cuts, n * length)] * BYTE_NS for n, _ in found]
    assert len(found) > 1 or longest == 400
    assert [t_ns for _, t_ns in found] == whole
