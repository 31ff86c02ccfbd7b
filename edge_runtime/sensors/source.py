"""A source of samples, and how a URL becomes one."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.sensors.playback import Pace

if TYPE_CHECKING:
    from edge_runtime.sensors.bytestream import Recorder


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


# Where a scheme's function is; only that file is imported, for some need much that others do not.
RECORDINGS = {
    "csv": "csvfile:open_csv_file",
    "edf": "edf:open_edf",
    "npy": "arrays:open_array",
    "replay": "capture:open_replay",
    "synthetic": "simulated:open_synthetic",
    "wfdb": "wfdb:open_wfdb",
}
WEARABLES = {
    "ble": "ble:open_ble",
    "serial": "serial:open_serial",
    "stdin": "stdin:open_stdin",
    "tcp": "tcp:open_tcp",
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
        return _opener(WEARABLES[scheme])(path, query, pace, recorder)
    if recorder is not None:
        raise SettingsError(f"{scheme}: has no bytes to capture; {', '.join(sorted(WEARABLES))} have")
    return _opener(RECORDINGS[scheme])(path, query, pace)


def _opener(place: str) -> Callable[..., Source]:
    """The function that opens a source."""
    module, _, name = place.partition(":")
    found: Callable[..., Source] = getattr(importlib.import_module(f"edge_runtime.sensors.{module}"), name)
    return found
