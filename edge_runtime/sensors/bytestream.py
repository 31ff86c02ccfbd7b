"""Bytes of a wearable as they arrive -> blocks: what all sources of bytes share, live or captured."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.sensors.clock import DeviceClock
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.wired import Wired

log = logging.getLogger(__name__)

SILENCE_NS = 10**9
MEASURED_NS = 10 * 10**9
RATE_TOLERANCE = 0.1


class Link(Protocol):
    """A connection that bytes come from."""

    def read(self) -> bytes | None:
        """What is there, waiting a fraction of a second at most; empty for nothing yet, None for the end.

        Raises OSError when the connection is gone.
        """

    def close(self) -> None:
        """End the connection; `read` is not called again."""


class Recorder(Protocol):
    """Takes chunks down as they arrive; capture.py has one."""

    def begin(self, t_ns: int, protocol: str, options: str) -> None:
        """A connection begins."""

    def write(self, t_ns: int, chunk: bytes) -> None:
        """A chunk arrived."""


class Connection:
    """Chunks of one connection -> blocks; the same chunks at the same times give the same blocks.

    A block's time is that of its newest sample by the device's fitted clock, not that of its chunk's arrival; only
    rows that come when they like keep their arrival.
    A decoder without a counter cannot know how long a silence was: from a second on it is measured by arrival.
    The declared rate is the sensor's promise: what arrives is measured over MEASURED_NS, and a stream that is too
    fast, or too slow, twice in a row is refused, for every time and heart rate would be wrong. Before the first
    measurement `measured_rate_hz` is NaN.
    """

    def __init__(self, where: str, wired: Wired) -> None:
        self.decoder, self.next = wired.decoder(), 0
        self.clock = DeviceClock(self.decoder.spec.rate_hz)
        self.measured_rate_hz = math.nan
        self._off = 0.0  # by how much the last measured rate was off, as a share; 0 within the tolerance
        self._where, self._is_irregular = where, wired.is_irregular
        self._skipped = self._n_bytes = self._newest_ns = 0
        self._last_ns: int | None = None
        self._measured_from: tuple[int, int] | None = None  # time, counter

    def feed(self, chunk: bytes, t_ns: int) -> list[Block]:
        """Blocks that `chunk` makes certain."""
        blocks = self.decoder.feed(chunk, t_ns)
        if self._skipped or (self._last_ns is not None and t_ns - self._last_ns >= SILENCE_NS):
            blocks = self._shifted(blocks, t_ns)
        self._last_ns = t_ns
        self._n_bytes += len(chunk)
        if not blocks:
            return []
        newest = blocks[-1]
        self.next = newest.start + len(newest.samples)
        if self._is_irregular:
            return list(blocks)
        before_ns = self._newest_ns
        self._newest_ns = newest_ns = self.clock.observe(self.next - 1, newest.t_ns)
        # Written into blocks that are just made and nobody else's yet: a copy of each takes longer than its time.
        newest.__dict__["t_ns"] = newest_ns
        for block in blocks[:-1]:
            block.__dict__["t_ns"] = min(max(self.clock.time_ns(block.stop - 1), before_ns), newest_ns)
        return list(blocks)

    def check_rate(self, t_ns: int) -> None:
        """Call behind each chunk; raises SourceError for a stream that is not what was declared."""
        if self._measured_from is None:
            self._measured_from = (t_ns, self.next)
            return
        if t_ns - self._measured_from[0] < MEASURED_NS:
            return
        seconds = (t_ns - self._measured_from[0]) * 1e-9
        if self.decoder.counts.good == 0:
            raise SourceError(f"{self._where}: {self.useless(f' in {seconds:.0f} s')}")
        declared = self.decoder.spec.rate_hz
        self.measured_rate_hz = (self.next - self._measured_from[1]) / seconds
        self._measured_from = (t_ns, self.next)
        if self._is_irregular:
            return
        before, off = self._off, self.measured_rate_hz / declared - 1.0
        self._off = off if abs(off) > RATE_TOLERANCE else 0.0
        # Once is no proof: what waited on a busy machine is missing in one measurement and on top in the next.
        if self._off * before > 0.0:
            raise SourceError(
                f"{self._where}: rate_hz={declared:g} was declared, {self.measured_rate_hz:.1f} Hz arrive; "
                "correct rate_hz, or the sensor's settings"
            )

    def useless(self, when: str = "") -> str:
        """What is to be said where bytes came and not one sample; empty while none came, or once one did."""
        if self.next or not self._n_bytes:
            return ""
        good = self.decoder.counts.good
        found = f"{good} frames, none of this stream" if good else f"{self.decoder.found()} that can be used"
        wanted = "check protocol, baud and the protocol's options (column, counter, stream)"
        return f"{self._n_bytes} bytes{when} hold {found}; {wanted}"

    def _shifted(self, blocks: Sequence[Block], t_ns: int) -> list[Block]:
        silence_ns = 0 if self._last_ns is None else t_ns - self._last_ns
        if silence_ns >= SILENCE_NS:
            self._measured_from = None
            if not self.decoder.has_counter:
                # Samples that the system kept for us meanwhile are in this chunk; the rest never came.
                came, rate = sum(len(b.samples) for b in blocks), self.decoder.spec.rate_hz
                missing = round(silence_ns * 1e-9 * rate) - came
                self._skipped += missing if missing > 0.5 * rate else 0
        return [replace(b, start=b.start + self._skipped) for b in blocks] if self._skipped else list(blocks)


class ByteSource:
    """Source over a link and a protocol; an empty block follows a read that brought none.

    recorder  takes down every chunk before it is decoded
    """

    def __init__(
        self,
        where: str,
        link: Link,
        wired: Wired,
        clock: Callable[[], int],
        recorder: Recorder | None = None,
    ) -> None:
        self._connection = Connection(where, wired)
        self.spec: StreamSpec = self._connection.decoder.spec
        self._where, self._link, self._clock, self._recorder = where, link, clock, recorder
        self._is_closed = False
        if recorder is not None:
            recorder.begin(clock(), wired.name, wired.query)

    @property
    def measured_rate_hz(self) -> float:
        """What arrived a second; NaN in the first seconds."""
        return self._connection.measured_rate_hz

    def blocks(self) -> Iterator[Block]:
        """Blocks as they arrive.

        Raises SourceLost when the connection breaks, SourceError at the end of bytes that held not one sample.
        """
        while not self._is_closed:
            try:
                chunk = self._link.read()
            except (OSError, TypeError) as error:  # pyserial reads from None where a port went away under it
                wanted = self._connection.useless() or "plug the sensor in again"
                raise SourceLost(f"{self._where}: the port went away ({error}); {wanted}") from error
            if chunk is None:
                if text := self._connection.useless():
                    raise SourceError(f"{self._where}: {text}")
                return
            t_ns = self._clock()
            if chunk and self._recorder is not None:
                self._recorder.write(t_ns, chunk)
            blocks = self._connection.feed(chunk, t_ns) if chunk else []
            if not blocks:
                samples = np.zeros((0, len(self.spec.channels)), np.float32)
                yield Block(start=self._connection.next, samples=samples, t_ns=t_ns)
            yield from blocks
            if chunk:
                self._connection.check_rate(t_ns)

    def close(self) -> None:
        """Close the link."""
        self._is_closed = True
        self._link.close()
        if not math.isnan(self.measured_rate_hz):
            clock = self._connection.clock
            log.info("%s: the device's clock ran at %.4f Hz (%+.0f ppm)", self._where, clock.rate_hz, clock.drift_ppm)
