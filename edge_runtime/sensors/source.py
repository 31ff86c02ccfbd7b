"""A source of samples, and how a URL becomes one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.sensors.arrays import open_array
from edge_runtime.sensors.ble import open_ble
from edge_runtime.sensors.bytestream import ByteSource, Recorder
from edge_runtime.sensors.capture import open_replay
from edge_runtime.sensors.csvfile import open_csv_file
from edge_runtime.sensors.edf import open_edf
from edge_runtime.sensors.playback import Pace
from edge_runtime.sensors.serial import open_serial
from edge_runtime.sensors.simulated import open_synthetic
from edge_runtime.sensors.stdin import open_stdin
from edge_runtime.sensors.tcp import open_tcp
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


RECORDINGS: dict[str, Callable[[str, str, Pace], Source]] = {
    "csv": open_csv_file,
    "edf": open_edf,
    "npy": open_array,
    "replay": open_replay,
    "synthetic": open_synthetic,
    "wfdb": open_wfdb,
}
WEARABLES: dict[str, Callable[[str, str, Pace, Recorder | None], ByteSource]] = {
    "ble": open_ble,
    "serial": open_serial,
    "stdin": open_stdin,
    "tcp": open_tcp,
}
SCHEMES = tuple(sorted({*RECORDINGS, *WEARABLES}))


def open_source(
    url: str,
    *,
    realtime: bool = False,
    recorder: Recorder | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Source:
    """Open `scheme:PATH?key=value&...`.

    realtime  play recordings at the speed they were taken (a `speed` in the URL overrides it)
    recorder  takes down the bytes of a wearable
    Raises SettingsError for a URL that is wrong, SourceError for a source that cannot be read.
    """
    scheme, _, rest = url.partition(":")
    if scheme not in SCHEMES or scheme == url:
        raise SettingsError(f"source is {url!r}; SCHEME:PATH?key=value wanted, where SCHEME is {', '.join(SCHEMES)}")
    path, _, query = rest.partition("?")
    pace = Pace(speed=1.0 if realtime else math.inf, clock=clock, sleep=sleep)
    if scheme in WEARABLES:
        return WEARABLES[scheme](path, query, pace, recorder)
    if recorder is not None:
        raise SettingsError(f"{scheme}: has no bytes to capture; {', '.join(sorted(WEARABLES))} have")
    return RECORDINGS[scheme](path, query, pace)
