"""Frames of our own against bytes written from their description, with counters that jump."""

from __future__ import annotations

import numpy as np
import pytest
from wire_decoded import NAN, close, decoded

from edge_runtime.sensors.encoders import edge_frame
from edge_runtime.sensors.protocols import PROTOCOLS


def test_frames_that_never_came_are_a_gap_although_no_byte_is_wrong() -> None:
    data = edge_frame.encode([[float(i)] for i in range(10)])
    size = len(data) // 10
    stage = PROTOCOLS["edge"].decoder("rate_hz=100")
    found = stage.feed(data[: 2 * size] + data[5 * size :])
    assert [(b.start, b.stop, b.samples[0, 0]) for b in found] == [(0, 2, 0.0), (5, 10, 5.0)]
    assert stage.counts.damaged == 3


def test_a_frame_said_twice_counts_once() -> None:
    data = edge_frame.encode([[1.0], [2.0], [3.0]])
    size = len(data) // 3
    stage = PROTOCOLS["edge"].decoder("rate_hz=100&scale=1")
    found = stage.feed(data[: 2 * size] + data[size:])
    assert np.concatenate([b.samples[:, 0] for b in found]).tolist() == [1.0, 2.0, 3.0]
    assert stage.counts.good == 3


def test_edge_frame_golden() -> None:
    # CRC-16/CCITT-FALSE of "123456789" is 29B1 (catalogue of CRC algorithms, Greg Cook).
    assert edge_frame._crc(b"123456789") == 0x29B1
    body = bytes.fromhex("11 06 03 04030201 010000 000080")
    data = b"\xa5\x5a" + body + edge_frame._crc(body).to_bytes(2, "little") + b"\r"
    assert data == edge_frame.encode([[1, NAN]], kind="i24", stream=3, first=0x01020304)
    found = decoded("edge", data, "rate_hz=100&stream=3&type=i24&columns=A,B&scale=2&offset=-1")
    close(found.samples, [[4.0, NAN]])
    assert found.contact.tolist() == [False]
    assert decoded("edge", data, "rate_hz=100&stream=3&type=i24&columns=A,B&channel=A").contact.tolist() == [True]


@pytest.mark.parametrize("kind", ["i16", "i24", "f32"])
def test_edge_frames_of_several_rows_and_streams(kind: str) -> None:
    rows = [[float(3 * i), float(-i)] for i in range(40)]
    mine = edge_frame.encode(rows, kind=kind, stream=1, samples=4, first=2**32 - 5)
    other = edge_frame.encode([[float(i)] for i in range(10)], stream=2)
    a, b = len(mine) // 10, len(other) // 10
    data = b"".join(mine[i * a : (i + 1) * a] + other[i * b : (i + 1) * b] for i in range(10))
    stage = PROTOCOLS["edge"].decoder(f"rate_hz=100&stream=1&type={kind}&columns=A,B&samples=4")
    found = stage.feed(data)
    close(np.concatenate([x.samples for x in found]), rows)
    assert (found[0].start, found[-1].stop) == (0, 40)  # the counter went round in between
    assert stage.counts.good == 20


def test_an_edge_device_that_starts_again_is_a_gap_by_time() -> None:
    stage = PROTOCOLS["edge"].decoder("rate_hz=100&samples=2")
    stage.feed(edge_frame.encode([[1.0]] * 20, samples=2, first=5000), 0)
    found = stage.feed(edge_frame.encode([[2.0]] * 4, samples=2, first=0), 2_000_000_000)
    assert [(b.start, b.stop) for b in found] == [(216, 220)]


def test_an_edge_frame_needs_its_end() -> None:
    data = edge_frame.encode([[1.0]])
    assert PROTOCOLS["edge"].decoder("rate_hz=100").feed(data[:-1] + b"\xa5") == []
    assert len(PROTOCOLS["edge"].decoder("rate_hz=100").feed(data)) == 1
