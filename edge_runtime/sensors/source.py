"""A source of samples, and how a URL becomes one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.sensors.arrays import open_array
from edge_runtime.sensors.playback import Pace
from edge_runtime.sensors.serial import open_serial
from edge_runtime.sensors.simulated import open_synthetic
from edge_runtime.sensors.wfdb import open_wfdb


class Source(Protocol):
    """Where samples come from; opened once, iterated once, closed by whoever opened it.

    A live source gives a block at least every second, an empty one if nothing came, so that its consumer can
    stop; it raises SourceLost when the connection breaks and may come back.
    """

    spec: StreamSpec

    def blocks(self) -> Iterator[Block]:
        """Blocks float32 (n, 1) in order; counters start at 0 and a jump is a gap."""

    def close(self) -> None:
        """Give the device or file back."""


OPENERS: dict[str, Callable[[str, str, Pace], Source]] = {
    "npy": open_array,
    "serial": open_serial,
    "synthetic": open_synthetic,
    "wfdb": open_wfdb,
}


def open_source(
    url: str,
    *,
    realtime: bool = False,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Source:
    """Open `scheme:PATH?key=value&...`.

    realtime  play recordings at the speed they were taken (a `speed` in the URL overrides it)
    Raises SettingsError for a URL that is wrong, SourceError for a source that cannot be read.
    """
    scheme, _, rest = url.partition(":")
    if scheme not in OPENERS or scheme == url:
        raise SettingsError(
            f"source is {url!r}; SCHEME:PATH?key=value wanted, where SCHEME is {', '.join(sorted(OPENERS))}"
        )
    path, _, query = rest.partition("?")
    return OPENERS[scheme](path, query, Pace(speed=1.0 if realtime else math.inf, clock=clock, sleep=sleep))
