"""Play samples that are already there, in real time or as fast as they are taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Block, Float32Array, StreamSpec

PACED_BLOCK_S = 0.1
FAST_BLOCK_S = 60.0  # many hops at once, which is cheaper for all stages


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast samples come: `speed` times real time, infinity for as fast as they are taken."""

    speed: float
    clock: Callable[[], int]
    sleep: Callable[[float], None]

    def at(self, speed: float | None) -> Pace:
        """The pace a URL asks for, or this one; raises SettingsError for a speed that is not positive."""
        if speed is None:
            return self
        if not speed > 0.0:
            raise SettingsError(f"speed is {speed:g}; a positive number or max wanted")
        return replace(self, speed=speed)


class Playback:
    """Source over samples that can be had at any time.

    read       (start, stop) -> float32 (n, channels); called with consecutive ranges, each once
    n_samples  length, or None for an endless source
    A paced block's time is when its newest sample was due, so a slow consumer shows as delay.
    """

    def __init__(
        self, spec: StreamSpec, read: Callable[[int, int], Float32Array], n_samples: int | None, pace: Pace
    ) -> None:
        self.spec = spec
        self._read, self._n_samples, self._pace = read, n_samples, pace
        self._is_closed = False

    def blocks(self) -> Iterator[Block]:
        """All samples from the first, in order."""
        rate, pace = self.spec.rate_hz, self._pace
        is_paced = math.isfinite(pace.speed)
        size = max(1, round(rate * (PACED_BLOCK_S if is_paced else FAST_BLOCK_S)))
        begun_ns, start = pace.clock(), 0
        while not self._is_closed and start != self._n_samples:
            stop = start + size if self._n_samples is None else min(start + size, self._n_samples)
            samples, t_ns = self._read(start, stop), 0
            if is_paced:
                t_ns = begun_ns + round(stop / (rate * pace.speed) * 1e9)
                wait_ns = t_ns - pace.clock()
                if wait_ns > 0:
                    pace.sleep(wait_ns / 1e9)
            yield Block(start=start, samples=samples, t_ns=t_ns)
            start = stop

    def close(self) -> None:
        """End `blocks` before its next block."""
        self._is_closed = True


def n_played(n_samples: int, seconds: float, rate_hz: float) -> int:
    """Samples in the first `seconds` of a recording; SettingsError for a length not positive."""
    if not seconds > 0.0:
        raise SettingsError(f"seconds is {seconds:g}; a positive number or max wanted")
    return n_samples if math.isinf(seconds) else min(n_samples, max(1, round(seconds * rate_hz)))
