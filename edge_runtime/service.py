"""Keep one stream running: signals, reconnection with backoff, systemd; the one place that recovers."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Block, Ledger, Reading, StreamSpec
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.source import Source
from edge_runtime.sensors.timeline import Timeline
from edge_runtime.sinks.jsonlines import Sink

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S, HEALTHY_S = 1.0, 30.0, 60.0
SLICE_S = 0.5
WATCHDOG_S = 2.0
SAME_REQUEST_S = 0.5  # two signals within it are one
SERVING = "serving: first reading"  # begins the status that a deployment waits for


class Pipeline(Protocol):
    """Samples of one stream -> readings."""

    ledger: Ledger

    def feed(self, block: Block) -> list[Reading]:
        """Readings that this block makes possible."""

    def finish(self) -> list[Reading]:
        """Readings that still waited for what follows."""


class Stop(Protocol):
    """Whether to end; a threading.Event is one."""

    def is_set(self) -> bool:
        """Whether to end now."""


def run_service(
    open_source: Callable[[], Source],
    make_pipeline: Callable[[StreamSpec], Pipeline],
    sink: Sink,
    *,
    stop: Stop,
    clock: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
    notify: Callable[[str], None] = lambda state: None,
    waits: bool = False,
) -> Ledger:
    """Run until the source ends, `stop` is set or nobody reads; writes and returns the ledger.

    A source that is lost is opened again, after 1 s, 2 s, 4 s ... 30 s, from 1 s again after 60 s of health;
    the time it was away is a gap of the sample counter. What was never there is not waited for, unless `waits`:
    the first opening raises. Raises SourceError also when a source comes back with another rate or channel.
    `notify` hears STATUS=serving after the first reading.
    """
    heart = Heart(clock, notify)
    started_ns = clock()
    source = awaited(open_source, stop, clock, sleep, heart) if waits else open_source()
    if source is None:
        ledger = Ledger()
        sink.write(ledger)
        return ledger
    with contextlib.closing(Link(source, open_source, stop, clock, sleep, heart)) as link:
        pipeline = make_pipeline(source.spec)
        sink.begin(source.spec)
        notify("READY=1")
        is_serving = False
        try:
            for block in link.blocks():
                for reading in pipeline.feed(block):
                    sink.write(reading)
                    if not is_serving:
                        is_serving = True
                        heart.say(f"{SERVING} after {(clock() - started_ns) / 1e9:.2f} s")
                if not sink.is_open:
                    break
            for reading in pipeline.finish():
                sink.write(reading)
        finally:
            notify("STOPPING=1")
        sink.write(pipeline.ledger)
    return pipeline.ledger


def awaited(
    open_source: Callable[[], Source],
    stop: Stop,
    clock: Callable[[], int],
    sleep: Callable[[float], None],
    heart: Heart,
) -> Source | None:
    """A source that may not be there yet; None if `stop` was set meanwhile."""
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return open_source()
        except SourceLost as error:
            if wait_s == FIRST_WAIT_S:
                # The service is up: a wearable that is switched off is no reason to start it again.
                heart.ready()
            log.warning("%s; next attempt in %g s", error, wait_s)
            heart.say(f"{error}; waiting")
        pause(wait_s, stop, clock, sleep, heart.beat)
        wait_s = min(2.0 * wait_s, LONGEST_WAIT_S)
        if stop.is_set():
            return None


def pause(
    seconds: float, stop: Stop, clock: Callable[[], int], sleep: Callable[[float], None], beat: Callable[[], None]
) -> None:
    """Sleep in slices, so that a signal is noticed and the watchdog fed."""
    until_ns = clock() + round(seconds * 1e9)
    while not stop.is_set() and (left_ns := until_ns - clock()) > 0:
        beat()
        sleep(min(SLICE_S, left_ns / 1e9))


@contextlib.contextmanager
def stop_on_signals(clock: Callable[[], int] = time.monotonic_ns) -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set; one more, half a second later or after, acts as it did before.

    One that comes sooner is the same request: `timeout` tells its child and then its child's group. Main thread only.
    """
    event = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    asked_ns: int | None = None

    def restore() -> None:
        for number, action in before.items():
            signal.signal(number, action)

    def on_signal(number: int, frame: object) -> None:
        nonlocal asked_ns
        now_ns = clock()
        if asked_ns is None:
            asked_ns = now_ns
            event.set()
        elif now_ns - asked_ns >= SAME_REQUEST_S * 1e9:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield event
    finally:
        restore()


def systemd_notifier(environment: Mapping[str, str] = os.environ) -> Callable[[str], None]:
    """A function that tells systemd the service's state (sd_notify); it does nothing outside systemd."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return lambda state: None
    # An address that starts with @ is in Linux's abstract name space, where the first byte is zero.
    target = "\0" + address[1:] if address.startswith("@") else address

    import socket  # only where systemd listens

    def notify(state: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            try:
                out.sendto(state.encode(), target)
            except OSError as error:
                log.warning("systemd cannot be told %s (%s)", state, error.strerror)

    return notify


class Heart:
    """Pings systemd's watchdog now and then, from the one loop: a loop that hangs stops pinging."""

    def __init__(self, clock: Callable[[], int], notify: Callable[[str], None]) -> None:
        self._clock, self._notify = clock, notify
        self._last_ns: int | None = None

    def beat(self) -> None:
        """Call often; pings every WATCHDOG_S."""
        now = self._clock()
        if self._last_ns is None or now - self._last_ns >= WATCHDOG_S * 1e9:
            self._last_ns = now
            self._notify("WATCHDOG=1")

    def ready(self) -> None:
        """The service is up, with or without its source."""
        self._notify("READY=1")

    def say(self, status: str) -> None:
        """Show a line in `systemctl status`."""
        self._notify(f"STATUS={status}")


class Link:
    """One stream of blocks over however many connections it takes."""

    def __init__(
        self,
        source: Source,
        open_source: Callable[[], Source],
        stop: Stop,
        clock: Callable[[], int],
        sleep: Callable[[float], None],
        heart: Heart,
    ) -> None:
        self._source, self._open_source = source, open_source
        self._stop, self._clock, self._sleep, self._heart = stop, clock, sleep, heart
        self._spec = source.spec
        self._wait_s = FIRST_WAIT_S
        self._timeline = Timeline(source.spec.rate_hz)

    def blocks(self) -> Iterator[Block]:
        """Blocks that hold samples, counters rising across connections; ends with the source or with stop."""
        is_over = False
        while not is_over and not self._stop.is_set():
            connected_ns = self._clock()
            try:
                yield from self._connection()
                is_over = True
            except SourceLost as error:
                if self._clock() - connected_ns >= HEALTHY_S * 1e9:
                    self._wait_s = FIRST_WAIT_S
                self._reconnect(error)

    def close(self) -> None:
        """Close the connection."""
        self._source.close()

    def _connection(self) -> Iterator[Block]:
        for block in self._source.blocks():
            self._heart.beat()
            if self._stop.is_set():
                return
            if len(block.samples):
                yield self._timeline.place(block, self._clock())

    def _reconnect(self, error: SourceLost) -> None:
        """Open the source again, however long it takes, or until stop is set."""
        self._source.close()
        self._timeline.interrupt()
        while not self._stop.is_set():
            log.warning("%s; next attempt in %g s", error, self._wait_s)
            self._heart.say(f"{error}; waiting")
            pause(self._wait_s, self._stop, self._clock, self._sleep, self._heart.beat)
            self._wait_s = min(2.0 * self._wait_s, LONGEST_WAIT_S)
            if self._stop.is_set():
                return
            try:
                self._source = self._open_source()
            except SourceLost as again:
                error = again
                continue
            if self._source.spec != self._spec:
                raise SourceError(f"the source came back as {self._source.spec}; {self._spec} wanted")
            log.info("the source is back")
            self._heart.say("running")
            return
