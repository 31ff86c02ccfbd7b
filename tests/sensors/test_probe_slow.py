"""Probing devices that send a frame a second, as `simulate` plays them and as a port hands their bytes over."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from edge_runtime.sensors.faults import Events, Faults
from edge_runtime.sensors.probe import Verdict, probe
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.source import open_source
from edge_runtime.sensors.wearable import encoded

CALM = Faults()


class Played:
    """A port at one speed, on a clock that only reading moves; a chunk's first byte is handed over by itself."""

    def __init__(self, chunks: list[bytes], baud: int) -> None:
        self._chunks, self._baud = chunks, baud
        self._at_ns = self._opened_ns = 0
        self._rest = b""
        self._is_mute = True

    def clock(self) -> int:
        return self._at_ns

    def open(self, name: str, baud: int, serial: Mapping[str, Any], start: bytes, stop: bytes) -> Played:
        self._is_mute, self._rest = baud != self._baud, b""
        return self

    def read(self) -> bytes:
        if self._rest:
            chunk, self._rest = self._rest, b""
            self._at_ns += 10**6
            return chunk
        tick = self._at_ns // 10**8 + 1
        self._at_ns = tick * 10**8
        chunk = b"" if self._is_mute or tick >= len(self._chunks) else self._chunks[tick]
        self._rest = chunk[1:]
        return chunk[:1]

    def close(self) -> None:
        pass


def simulated(name: str, seconds: float) -> list[bytes]:
    """The bytes of each tenth of a second."""
    with closing(open_source("synthetic:?seconds=max")) as source:
        ticks = encoded(name, source, CALM, Events(CALM, 1))
        return [chunk for _, (_, chunk, _) in zip(range(round(seconds * 10)), ticks, strict=False)]


def probed(port: Played, seconds: float = 3.0, baud: int | None = None) -> list[Verdict]:
    opened: Any = port.open
    return probe("/dev/none", baud=baud, seconds=seconds, clock=port.clock, open_link=opened)


@pytest.mark.parametrize("name", ["nonin8", "nonin13"])
def test_a_device_that_sends_a_frame_a_second_is_recognised_with_its_rate(name: str) -> None:
    best = probed(Played(simulated(name, 60.0), 9600))[0]
    assert (best.protocol, best.is_speaking, best.damaged) == (name, True, 0)
    assert best.rate_hz == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", [n for n in PROTOCOLS if PROTOCOLS[n].baud == 9600])
def test_the_rate_is_the_devices_however_the_port_cuts_its_bytes(name: str) -> None:
    best = probed(Played(simulated(name, 60.0), 9600), seconds=9.0)[0]
    declared = PROTOCOLS[name].decoder(PROTOCOLS[name].example).spec.rate_hz
    assert best.protocol == name
    assert best.rate_hz == pytest.approx(declared, rel=0.02)


def test_one_spot_check_is_enough_and_its_rate_is_not_known() -> None:
    """Format 13 has eight fixed bytes and a sum, so a whole frame is no chance."""
    chunks = [b""] * 600
    chunks[101] = PROTOCOLS["nonin13"].encode(np.array([[97.0, 72.0]], np.float32), 0)
    best = probed(Played(chunks, 9600), 20.0, baud=9600)[0]
    assert (best.protocol, best.good, best.is_speaking) == ("nonin13", 1, True)
    assert np.isnan(best.rate_hz)


def test_weak_frames_that_are_few_are_not_believed_and_waited_for_only_so_long() -> None:
    """Four bytes with bit 7 on the first alone hold by chance in noise; two of them, and then nothing."""
    two = PROTOCOLS["nonin8"].encode(np.full((2, 2), 90.0, np.float32), 0)
    mute, port = Played([], 9600), Played([b""] * 10 + [two], 9600)
    probed(mute, baud=9600)
    assert not any(v.is_speaking for v in probed(port, baud=9600))
    assert mute.clock() + 5 * 10**9 <= port.clock() <= mute.clock() + 8 * 10**9


def test_noise_is_listened_to_no_longer_than_was_asked_for() -> None:
    rng = np.random.default_rng(8)
    noise = [rng.integers(0, 256, 40, np.uint8).tobytes() for _ in range(600)]
    mute, port = Played([], 9600), Played(noise, 115200)
    probed(mute)
    assert not any(v.is_speaking for v in probed(port))
    assert port.clock() <= mute.clock() + 10**9
