"""Keep many streams running: a thread for each source, one loop for all readings, systemd, a clean end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import EdgeError, SettingsError
from edge_runtime.contract.signal import Ledger, Reading, StreamSpec
from edge_runtime.feeder import Feeder
from edge_runtime.inbox import Inlet
from edge_runtime.sensors.source import Source
from edge_runtime.service import SERVING, Heart, Stop
from edge_runtime.sinks.jsonlines import Sink

log = logging.getLogger(__name__)

IDLE_S = 0.25  # how often the loop looks around when nothing arrives
STATUS_S = 10.0
LAST_WORDS_S = 2.0  # for threads to close their sources


class HasBundle(Protocol):
    """What scores streams, opened."""

    @property
    def bundle(self) -> Bundle:
        """What was opened."""


S = TypeVar("S", bound=Inlet)
M = TypeVar("M", bound=HasBundle)


class Scores(Protocol[S, M]):
    """Samples of many streams -> readings: together (gateway.py) or one by one (one_by_one.py)."""

    streams: dict[str, S]

    @property
    def model(self) -> M:
        """What scores the streams now."""

    def swap(self, model: M) -> None:
        """Go on with another bundle; raises BundleError if it cannot take over."""

    def join(self, name: str, spec: StreamSpec) -> S:
        """A new stream; raises SettingsError if it does not suit the bundle, or there is no room."""

    def ledger(self, stream: S) -> Ledger:
        """Where the stream's samples went so far; what is not scored yet counts as neither."""

    def so_far(self, stream: S) -> Ledger:
        """The ledger as if the stream ended now; it balances."""

    def lag_s(self, stream: S) -> float:
        """Signal of the stream that waits, in seconds."""

    def step(self, now_ns: int) -> list[tuple[S, Reading]]:
        """Do what is due; streams that end leave."""

    def wait_s(self, now_ns: int) -> float | None:
        """How long until `step` has something to do: 0 if it has now, None if only after an offer."""


class GatewayService(Generic[S, M]):
    """The loop of a gateway.

    make_sink  a sink for a stream's name
    next_model  a model that is to take over now, or None; asked often, so it must be quick
    make_note  given a stream's name and a function for its ledger so far, something to call when it is to be noted
    status     called now and then with each stream's name, state, ledger so far and lag in seconds
    """

    def __init__(
        self,
        gateway: Scores[S, M],
        sources: Mapping[str, Callable[[], Source]],
        make_sink: Callable[[str], Sink],
        *,
        stop: Stop,
        next_model: Callable[[], M | None] = lambda: None,
        make_note: Callable[[str, Callable[[], Ledger]], Callable[[], None]] = lambda name, so_far: lambda: None,
        status: Callable[[str, str, Ledger, float], None] | None = None,
        status_s: float = STATUS_S,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        notify: Callable[[str], None] = lambda state: None,
    ) -> None:
        self._gateway, self._sources, self._make_sink = gateway, sources, make_sink
        self._stop, self._next_model, self._make_note, self._status = stop, next_model, make_note, status
        self._status_ns = round(status_s * 1e9)
        self._clock, self._sleep, self._notify = clock, sleep, notify
        self._heart = Heart(clock, notify)
        self._wake = threading.Event()
        self._sinks: dict[str, Sink] = {}
        self._streams: dict[str, S] = {}
        self._notes: dict[str, Callable[[], None]] = {}
        self.ledgers: dict[str, Ledger] = {}
        self.n_broken = 0

    def run(self) -> dict[str, Ledger]:
        """Run until every source has ended, `stop` is set or nobody reads; the ledgers by stream, written as well.

        A source that is not there yet, or is lost, is waited for and does not delay the others; one that breaks ends.
        Raises SettingsError or SourceError of the first that broke if not one stream could be read at all.
        """
        feeders = [
            Feeder(name, opened, stop=self._stop, wake=self._wake.set, clock=self._clock, sleep=self._sleep)
            for name, opened in self._sources.items()
        ]
        self._notify("READY=1")
        waiting, started_ns, told_ns, is_serving = list(feeders), self._clock(), self._clock(), False
        while not self._stop.is_set() and self._is_read():
            waiting = [f for f in waiting if not self._admit(f)]
            n_said = self._step()
            if n_said and not is_serving:
                is_serving = True
                self._heart.say(f"{SERVING} after {(self._clock() - started_ns) / 1e9:.2f} s")
            if not (waiting or self._gateway.streams):
                break
            if is_serving and self._clock() - told_ns >= self._status_ns:
                told_ns = self._clock()
                self._tell(feeders)
            self._heart.beat()
            self._rest()
        self._notify("STOPPING=1")
        self._end(feeders)
        broken = [f.error for f in feeders if f.error is not None]
        if broken and not self.ledgers:
            raise broken[0]
        return self.ledgers

    def _is_read(self) -> bool:
        return all(sink.is_open for sink in self._sinks.values())

    def _admit(self, feeder: Feeder) -> bool:
        """Whether a feeder needs no more looking after: its source opened and joined, or it ended before."""
        if feeder.spec is None:
            if not feeder.is_alive and feeder.error is not None:
                self._broke(feeder.name, feeder.error)
            return not feeder.is_alive
        try:
            stream = self._gateway.join(feeder.name, feeder.spec)
        except SettingsError as error:
            feeder.error = error
            self._broke(feeder.name, error)
            feeder.join(None)
            return True
        self._streams[feeder.name] = stream
        sink = self._sinks[feeder.name] = self._make_sink(feeder.name)
        sink.begin(feeder.spec)
        self._notes[feeder.name] = self._make_note(feeder.name, lambda: self._gateway.so_far(stream))
        feeder.join(stream)
        return True

    def _step(self) -> int:
        """Everything that is to be done now; how many readings that gave."""
        model = self._next_model()
        if model is not None:
            self._take_over(model)
        said = self._gateway.step(self._clock())
        for stream, reading in said:
            self._sinks[stream.name].write(reading)
        for name in [n for n, s in self._streams.items() if s.is_over]:
            self._finish(name)
        return len(said)

    def _take_over(self, model: M) -> None:
        try:
            self._gateway.swap(model)
        except EdgeError as error:
            log.error("%s; %s goes on", error, self._gateway.model.bundle.id)
        else:
            log.info("%s takes over", model.bundle.id)

    def _finish(self, name: str) -> None:
        stream = self._streams.pop(name)
        self.ledgers[name] = stream.ledger
        self._sinks.pop(name).write(stream.ledger)
        self._notes.pop(name)()
        if stream.error is not None:
            self._broke(name, stream.error)

    def _broke(self, name: str, error: Exception) -> None:
        self.n_broken += 1
        log.error("stream %s ends: %s", name, error)

    def _rest(self) -> None:
        """Sleep until something arrives or is due."""
        wait_s = self._gateway.wait_s(self._clock())
        if wait_s is None or wait_s > 0.0:
            self._wake.wait(IDLE_S if wait_s is None else min(wait_s, IDLE_S))
        self._wake.clear()

    def _tell(self, feeders: list[Feeder]) -> None:
        lags = [self._gateway.lag_s(s) for s in self._streams.values()]
        lost = sum(f.state != "running" for f in feeders if f.is_alive)
        self._heart.say(f"{len(lags)} streams, {lost} not there, longest lag {max(lags, default=0.0):.1f} s")
        for note in self._notes.values():
            note()
        if self._status is not None:
            for name, state, ledger, lag_s in self._states(feeders):
                self._status(name, state, ledger, lag_s)

    def _states(self, feeders: list[Feeder]) -> Iterator[tuple[str, str, Ledger, float]]:
        for feeder in feeders:
            stream = self._streams.get(feeder.name)
            if stream is not None:
                yield feeder.name, feeder.state, self._gateway.ledger(stream), self._gateway.lag_s(stream)

    def _end(self, feeders: list[Feeder]) -> None:
        """Score what is queued, write every ledger, let the threads close their sources."""
        for feeder in feeders:
            feeder.join(self._streams.get(feeder.name))
        for stream in list(self._streams.values()):
            stream.end()
        while self._streams:
            self._heart.beat()
            self._step()
            wait_s = self._gateway.wait_s(self._clock())
            if wait_s:
                self._sleep(wait_s)
        until_ns = self._clock() + round(LAST_WORDS_S * 1e9)
        for feeder in feeders:
            feeder.wait(max(0.0, (until_ns - self._clock()) * 1e-9))
