"""One wearable's own thread: opens its source, again when it is lost, and offers its blocks to the gateway."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from edge_runtime.contract.errors import EdgeError
from edge_runtime.contract.signal import StreamSpec
from edge_runtime.inbox import Inlet
from edge_runtime.sensors.source import Source
from edge_runtime.service import Heart, Link, Stop, awaited

log = logging.getLogger(__name__)

STACK_BYTES = 256 * 1024  # a decoder's calls are not deep


class Feeder:
    """Reads a source in a thread, however often it is lost and comes back.

    The gateway's thread sees a `spec` when the source is open, lets it `join` with a stream, and is woken by every
    block. `error` says why it ended, if it broke.
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], Source],
        *,
        stop: Stop,
        wake: Callable[[], None],
        clock: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        self.name = name
        self.spec: StreamSpec | None = None
        self.error: EdgeError | OSError | None = None
        self.state = "opening"
        self._open_source, self._stop, self._wake = open_source, stop, wake
        self._clock, self._sleep = clock, sleep
        self._heart = Heart(clock, self._said)
        self._stream: Inlet | None = None
        self._joined = threading.Event()
        before = threading.stack_size(STACK_BYTES)
        self._thread = threading.Thread(target=self._run, name=f"stream {name}", daemon=True)
        self._thread.start()
        threading.stack_size(before)

    @property
    def is_alive(self) -> bool:
        """Whether something may still come."""
        return self._thread.is_alive()

    def join(self, stream: Inlet | None) -> None:
        """Offer the blocks to this stream from now on; None ends the thread."""
        self._stream = stream
        self._joined.set()

    def wait(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            source = awaited(self._open_source, self._stop, self._clock, self._sleep, self._heart)
            if source is not None:
                with contextlib.closing(
                    Link(source, self._open_source, self._stop, self._clock, self._sleep, self._heart)
                ) as link:
                    self._feed(link, source.spec)
        except (EdgeError, OSError) as error:
            self.error = error
        finally:
            if self._stream is not None:
                self._stream.end(self.error)
            self._wake()

    def _feed(self, link: Link, spec: StreamSpec) -> None:
        self.spec = spec
        self._wake()
        self._joined.wait()
        stream = self._stream
        if stream is None:
            return
        self.state = "running"
        for block in link.blocks():
            stream.offer(block)
            self._wake()

    def _said(self, state: str) -> None:
        """What the link would tell systemd, which hears the gateway's own status only."""
        kind, _, text = state.partition("=")
        if kind == "STATUS":
            self.state = text
