"""A day of a wearable that is unplugged at random: the ledger to the sample, and where the last sample lies in time.

The device is simulated down to its bytes (Cyton frames, a counter that goes round each 1.02 s, 50 ppm fast, bytes lost
on the way, cut anywhere); all else is what a live run uses: link, decoder, clock, reconnection, timeline, pipeline.
Only the model is left out: its place is taken by a stage that scores hops of 25 samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_runtime.contract.channels import AsTheyAre
from edge_runtime.contract.signal import Block, Frames, Ledger, Reading, StreamSpec
from edge_runtime.pipeline import Pipeline
from edge_runtime.sensors.bytestream import ByteSource
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.wired import parse_wired
from edge_runtime.service import run_service

RATE_HZ, PPM, FRAME, HOP = 250.0, 50.0, 33, 25
PERIOD = 64_000  # frames after which counter and values repeat; no absence is as long
READ_S, JITTER_S = 0.5, 0.005
START_NS = 10**12
QUERY = "protocol=cyton&channel=EXG1"


class Device:
    """A wearable and the link to it, on a clock of its own; `unplug_s` between absences on average."""

    def __init__(self, seconds: float, seed: int, unplug_s: float = 300.0, lost_byte: float = 2e-6) -> None:
        self.now_ns, self._rng, self._lost_byte, self._unplug_s = (
            START_NS,
            np.random.default_rng(seed),
            lost_byte,
            unplug_s,
        )
        self._end_ns = START_NS + round(seconds * 1e9)
        n = np.arange(PERIOD)
        rows = np.zeros((PERIOD, 8), np.float32)
        rows[:, 0] = n
        self._bytes = PROTOCOLS["cyton"].encode(rows, 0)
        self.n_connections = self.n_lost_bytes = 0
        self._until_ns = self._away_until_ns = 0
        self._sent = 0  # bytes

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def open(self) -> ByteSource:
        if self.now_ns < self._away_until_ns:
            raise SourceLost("fake: not there")
        self.n_connections += 1
        self._until_ns = self.now_ns + round(self._rng.exponential(self._unplug_s) * 1e9)
        self._sent = self._made() + int(self._rng.integers(FRAME))  # it begins somewhere in a frame
        return ByteSource("fake", self, parse_wired(QUERY, "fake"), self.clock)

    def _made(self) -> int:
        """Bytes that the device has sent since it was switched on."""
        return int((self.now_ns - START_NS) * 1e-9 * RATE_HZ * (1.0 + PPM * 1e-6)) * FRAME

    def read(self) -> bytes | None:
        late_ns = int(self._rng.exponential(JITTER_S) * 1e9)
        self.now_ns += round(READ_S * self._rng.uniform(0.5, 1.5) * 1e9)
        if self.now_ns >= self._end_ns:
            return None
        if self.now_ns >= self._until_ns:
            # From moments to minutes, across many rounds of the counter.
            self._away_until_ns = self.now_ns + round(min(200.0, self._rng.exponential(20.0)) * 1e9)
            raise OSError("unplugged")
        begin, self._sent = self._sent, max(self._sent, self._made() - int(self._rng.integers(FRAME)))
        self.now_ns += late_ns
        size = len(self._bytes)
        chunk = b"".join(
            self._bytes[at % size : at % size + min(size - at % size, self._sent - at)]
            for at in (begin, begin + size - begin % size)
            if at < self._sent
        )
        if self._rng.random() < self._lost_byte * len(chunk):
            at = int(self._rng.integers(len(chunk)))
            chunk, self.n_lost_bytes = chunk[:at] + chunk[at + 1 :], self.n_lost_bytes + 1
        return chunk

    def close(self) -> None:
        pass


class Hops:
    """Scores hops of 25 samples with their mean; keeps the carry."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._rest, self._start = np.zeros(0, np.float32), 0

    def feed(self, block: Block) -> list[Frames]:
        if len(self._rest) == 0:
            self._start = block.start
        x = np.concatenate((self._rest, block.samples[:, 0]))
        n = len(x) // HOP
        self._rest = x[n * HOP :]
        if n == 0:
            return []
        frames = Frames(
            start=self._start, scores=x[: n * HOP].reshape(n, HOP).mean(axis=1, keepdims=True), t_ns=block.t_ns
        )
        self._start += n * HOP
        return [frames]


class Silent:
    """Reads nothing into anything."""

    def watch(self, block: Block) -> None:
        pass

    def feed(self, frames: Frames) -> list[Reading]:
        return []

    def interrupt(self) -> None:
        pass

    def reset(self) -> None:
        pass


class Witness(Pipeline):
    """A pipeline that notes what came: how many samples, and whether each lies as far from the one before as it was."""

    def __init__(self, device: Device) -> None:
        super().__init__(
            AsTheyAre(takes_missing=False),
            Hops(),
            Silent(),
            rate_hz=RATE_HZ,
            channels=("EXG1",),
            row_samples=HOP,
            delay_s=0.0,
        )
        self._device, self._last, self._of = device, (0, 0), 0
        self.n_samples = self.n_misplaced = 0
        self.first: tuple[int, int, int] | None = None  # position, number on the device, time
        self.newest = (0, 0, 0)
        self.errors: list[int] = []  # of each reconnection's gap, in samples
        self.stamps_ms: list[float] = []

    def feed(self, block: Block) -> list[Reading]:
        number = round(float(block.samples[0, 0]))
        assert np.array_equal(np.round(block.samples[:, 0]), (number + np.arange(len(block.samples))) % PERIOD)
        expected_ns = block.t_ns - START_NS
        # The device's number modulo the period; arrival tells which period, for it is 256 s long.
        whole = expected_ns * 1e-9 * RATE_HZ * (1.0 + PPM * 1e-6)
        number += PERIOD * round((whole - number) / PERIOD)
        last, self._last = self._last, (block.stop, number + len(block.samples))
        moved = (block.start - last[0]) - (number - last[1])
        if self.first is None:
            self.first = (block.start, number, block.t_ns)
        elif self._of == self._device.n_connections:
            self.n_misplaced += moved != 0
        else:
            self.errors.append(moved)
        self._of = self._device.n_connections
        self.n_samples += len(block.samples)
        true_ns = START_NS + self._last[1] / (RATE_HZ * (1.0 + PPM * 1e-6)) * 1e9
        self.stamps_ms.append((block.t_ns - true_ns) / 1e6)
        self.newest = (block.stop, self._last[1], block.t_ns)
        return super().feed(block)


class Nothing:
    """A sink that keeps the ledger."""

    is_open = True

    def __init__(self) -> None:
        self.ledger: Ledger | None = None

    def begin(self, spec: StreamSpec) -> None:
        pass

    def write(self, said: Reading | Ledger) -> None:
        if isinstance(said, Ledger):
            self.ledger = said

    def close(self) -> None:
        pass


class Never:
    def is_set(self) -> bool:
        return False


def day(seconds: float, seed: int, unplug_s: float = 300.0) -> tuple[Device, Witness, Ledger]:
    """The service over a simulated device; its ledger."""
    device, sink = Device(seconds, seed, unplug_s), Nothing()
    witness = Witness(device)
    run_service(device.open, lambda spec: witness, sink, stop=Never(), clock=device.clock, sleep=device.sleep)
    assert sink.ledger is not None
    return device, witness, sink.ledger


@pytest.mark.parametrize("hours", [24])
def test_a_day_with_random_unplugging(benchmark: Any, hours: float, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR")
    device, witness, ledger = benchmark.pedantic(day, args=(3600.0 * hours, 1), rounds=1)
    benchmark.extra_info.update(figures(device, witness, ledger))
    check(device, witness, ledger)


def figures(device: Device, witness: Witness, ledger: Ledger) -> dict[str, object]:
    return ledger.to_json() | {
        "connections": device.n_connections,
        "lost_bytes": device.n_lost_bytes,
        "samples": witness.n_samples,
        "misplaced": witness.n_misplaced,
        "gap_error_p50_samples": float(np.median(np.abs(witness.errors))),
        "gap_error_max_samples": int(np.max(np.abs(witness.errors))),
        "place_error_at_end_samples": int(np.sum(witness.errors)),
        "stamp_error_p50_ms": float(np.median(np.abs(witness.stamps_ms))),
        "stamp_error_p99_ms": float(np.percentile(np.abs(witness.stamps_ms), 99)),
    }


def check(device: Device, witness: Witness, ledger: Ledger) -> None:
    """Exact: every sample that came is scored or dropped, every place that none came for is a gap."""
    assert device.n_connections > 5
    assert ledger.is_balanced
    assert witness.n_misplaced == 0
    assert ledger.scored + ledger.dropped == witness.n_samples
    assert witness.first is not None
    assert ledger.received == witness.newest[0] - witness.first[0]
    assert ledger.gap == ledger.received - witness.n_samples
    # How long the device was away is told by arrival, whose jitter is 5 ms on average, and so is a little wrong.
    assert ledger.gap - sum(witness.errors) == witness.newest[1] - witness.first[1] - witness.n_samples
    assert max(map(abs, witness.errors)) <= 0.1 * RATE_HZ
