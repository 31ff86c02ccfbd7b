"""The service with a fake clock and fake sources; systemd and the sink with the real things."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Block, Ledger, Reading, StreamSpec
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.service import run_service, systemd_notifier
from edge_runtime.sinks.jsonlines import JsonLines
from edge_runtime.sinks.text import TextLines
from tests.fake_time import FakeTime

SPEC = StreamSpec(rate_hz=250.0)


class FakeSource:
    """Blocks of 0.1 s for some seconds, then `end`: an error, or None for the end of the stream."""

    def __init__(self, time: FakeTime, seconds: float, end: SourceError | None, spec: StreamSpec = SPEC) -> None:
        self.spec, self.is_closed = spec, False
        self._time, self._n, self._end = time, round(seconds * 10), end

    def blocks(self) -> Iterator[Block]:
        for i in range(self._n):
            self._time.sleep(0.1)
            samples = np.zeros((25, 1), np.float32)
            yield Block(start=25 * i, samples=samples, t_ns=self._time.now_ns)
        if self._end is not None:
            raise self._end

    def close(self) -> None:
        self.is_closed = True


class FakePipeline:
    """Says where each block was; refuses a counter that goes back; a ledger like the real one's."""

    def __init__(self) -> None:
        self.ledger, self.next, self.gaps, self.is_finished = Ledger(), 0, [], False

    def feed(self, block: Block) -> list[Reading]:
        assert block.start >= self.next
        assert len(block.samples) > 0
        if block.start > self.next:
            self.gaps.append(block.start - self.next)
        self.ledger.gap += block.start - self.next
        self.ledger.scored += len(block.samples)
        self.ledger.received += block.stop - self.next
        self.next = block.stop
        return [Reading(name="block", sample=block.start, t_s=block.start / 250, value=None)]

    def finish(self) -> list[Reading]:
        self.is_finished = True
        return [Reading(name="last", sample=self.next, t_s=self.next / 250, value=None)]


class FakeSink:
    """Keeps what it is told; stops taking it after `limit`."""

    def __init__(self, limit: int = 10**9) -> None:
        self.said: list[Reading | Ledger] = []
        self.is_open, self._limit = True, limit

    def begin(self, spec: StreamSpec) -> None:
        self.spec = spec

    def write(self, said: Reading | Ledger) -> None:
        self.said.append(said)
        self.is_open = len(self.said) < self._limit

    def close(self) -> None:
        self.is_open = False


class Never:
    def is_set(self) -> bool:
        return False


class At:
    """Stop once a time has come."""

    def __init__(self, time: FakeTime, seconds: float) -> None:
        self._time, self._ns = time, time.now_ns + round(seconds * 1e9)

    def is_set(self) -> bool:
        return self._time.now_ns >= self._ns


class Bench:
    """A service whose openings are listed: each a source to give or an error to raise."""

    def __init__(self, openings: Callable[[FakeTime], list[FakeSource | SourceError]]) -> None:
        self.time, self.sink, self.pipeline = FakeTime(), FakeSink(), FakePipeline()
        self.told: list[tuple[float, str]] = []
        self.opened_s: list[float] = []
        self.sources: list[FakeSource] = []
        self._openings = iter(openings(self.time))

    def open(self) -> FakeSource:
        self.opened_s.append(self.time.now_ns / 1e9)
        found = next(self._openings)
        if isinstance(found, SourceError):
            raise found
        self.sources.append(found)
        return found

    def run(self, stop: At | Never | None = None, *, waits: bool = False) -> Ledger:
        return run_service(
            self.open,
            lambda spec: self.pipeline,
            self.sink,
            stop=stop or Never(),
            clock=self.time.clock,
            sleep=self.time.sleep,
            notify=lambda state: self.told.append((self.time.now_ns / 1e9, state)),
            waits=waits,
        )


LOST = SourceLost("unplugged")


def test_a_stream_that_ends_is_finished_and_the_ledger_is_last() -> None:
    bench = Bench(lambda t: [FakeSource(t, 3, None)])
    ledger = bench.run()
    assert ledger == Ledger(received=750, scored=750)
    assert bench.pipeline.is_finished
    assert bench.sink.said[-1] is ledger
    assert isinstance(bench.sink.said[-2], Reading)
    assert bench.sources[0].is_closed


def test_a_stop_ends_cleanly_with_the_ledger() -> None:
    bench = Bench(lambda t: [FakeSource(t, 1000, None)])
    bench.run(At(bench.time, 5))
    assert isinstance(bench.sink.said[-1], Ledger)
    assert bench.pipeline.is_finished
    assert 1100 <= bench.pipeline.ledger.received <= 1250
    assert bench.sources[0].is_closed


def test_a_lost_source_is_opened_again_and_the_time_away_is_a_gap() -> None:
    bench = Bench(lambda t: [FakeSource(t, 4, LOST), LOST, LOST, FakeSource(t, 4, None)])
    ledger = bench.run()
    # Away for 1 + 2 + 4 s: 1750 samples that never arrived.
    assert bench.pipeline.gaps == [1750]
    assert ledger == Ledger(received=3750, scored=2000, gap=1750)
    assert ledger.is_balanced
    assert all(s.is_closed for s in bench.sources)


def test_a_source_that_is_back_at_once_is_still_a_gap() -> None:
    bench = Bench(lambda t: [FakeSource(t, 1, LOST), FakeSource(t, 1, None)])
    bench.time.sleep = lambda seconds: None if seconds > 0.2 else FakeTime.sleep(bench.time, seconds)  # type: ignore[method-assign]
    link_clock = iter(range(10**9, 10**12, 10**8))
    bench.time.clock = lambda: next(link_clock)  # type: ignore[method-assign]
    bench.run()
    assert bench.pipeline.gaps
    assert min(bench.pipeline.gaps) >= 1


def test_waits_double_up_to_half_a_minute_and_start_afresh_after_a_healthy_minute() -> None:
    bench = Bench(
        lambda t: [
            FakeSource(t, 2, LOST),
            *[LOST] * 6,
            FakeSource(t, 30, LOST),
            FakeSource(t, 61, LOST),
            FakeSource(t, 1, None),
        ]
    )
    bench.run()
    waits = np.diff(bench.opened_s)
    # Each difference holds the life of the connection before it, where there was one.
    assert waits == pytest.approx([2 + 1, 2, 4, 8, 16, 30, 30, 30 + 30, 61 + 1], abs=0.01)


def test_a_stop_while_waiting_is_noticed_within_a_second() -> None:
    bench = Bench(lambda t: [FakeSource(t, 2, LOST), *[LOST] * 1000])
    bench.run(At(bench.time, 40.0))
    assert bench.time.now_ns / 1e9 - 1 <= 41.0
    assert isinstance(bench.sink.said[-1], Ledger)


def test_what_was_never_there_is_not_waited_for() -> None:
    bench = Bench(lambda t: [LOST])
    with pytest.raises(SourceLost):
        bench.run()
    assert bench.sink.said == []
    assert bench.told == []


def test_what_was_never_there_is_waited_for_if_asked_and_systemd_hears_that_the_service_is_up() -> None:
    bench = Bench(lambda t: [*[LOST] * 6, FakeSource(t, 4, None)])
    ledger = bench.run(waits=True)
    assert np.diff(bench.opened_s) == pytest.approx([1, 2, 4, 8, 16, 30], abs=0.01)
    assert ledger == Ledger(received=1000, scored=1000)
    states = [state for _, state in bench.told]
    assert states[0] == "READY=1"
    assert states[1] == "STATUS=unplugged; waiting"
    pings = [at for at, state in bench.told if state == "WATCHDOG=1"]
    assert max(np.diff(pings)) <= 5.0  # half of the unit's WatchdogSec


def test_a_stop_ends_the_wait_for_a_source_that_never_comes() -> None:
    bench = Bench(lambda t: [LOST] * 1000)
    assert bench.run(At(bench.time, 20.0), waits=True) == Ledger()
    assert bench.time.now_ns / 1e9 - 1 <= 21.0
    assert isinstance(bench.sink.said[-1], Ledger)


def test_systemd_hears_of_the_first_reading_once() -> None:
    bench = Bench(lambda t: [FakeSource(t, 3, None)])
    bench.run()
    told = [(at, state) for at, state in bench.told if state.startswith("STATUS=serving")]
    # The clock starts at 1 s; the first block, and with it a reading, is there 0.1 s later.
    assert told == [(pytest.approx(1.1), "STATUS=serving: first reading after 0.10 s")]


def test_a_source_that_is_not_what_it_claims_is_not_tried_again() -> None:
    bench = Bench(lambda t: [FakeSource(t, 2, SourceError("wrong rate")), FakeSource(t, 1, None)])
    with pytest.raises(SourceError, match="wrong rate"):
        bench.run()
    assert len(bench.opened_s) == 1
    assert bench.sources[0].is_closed


def test_a_source_that_comes_back_as_another_is_refused() -> None:
    other = replace(SPEC, rate_hz=125.0)
    bench = Bench(lambda t: [FakeSource(t, 2, LOST), FakeSource(t, 1, None, other)])
    with pytest.raises(SourceError, match=r"125.*250"):
        bench.run()
    assert all(s.is_closed for s in bench.sources)


def test_nobody_reading_ends_the_service() -> None:
    bench = Bench(lambda t: [FakeSource(t, 1000, None)])
    bench.sink = FakeSink(limit=5)
    bench.run()
    assert bench.pipeline.ledger.received == 125


def test_systemd_hears_ready_watchdog_and_stopping_also_while_the_source_is_away() -> None:
    bench = Bench(lambda t: [FakeSource(t, 20, LOST), *[LOST] * 10, FakeSource(t, 20, None)])
    bench.run()
    states = [state for _, state in bench.told]
    assert states[0] == "READY=1"
    assert states[-1] == "STOPPING=1"
    assert any("unplugged" in s for s in states if s.startswith("STATUS="))
    pings = [at for at, state in bench.told if state == "WATCHDOG=1"]
    assert max(np.diff(pings)) <= 5.0  # half of the unit's WatchdogSec


def test_a_pipeline_that_hangs_does_not_ping() -> None:
    bench = Bench(lambda t: [FakeSource(t, 20, None)])

    def slow(block: Block) -> list[Reading]:
        bench.time.sleep(60)
        return []

    bench.pipeline.feed = slow  # type: ignore[method-assign]
    bench.run(At(bench.time, 600))
    pings = [at for at, state in bench.told if state == "WATCHDOG=1"]
    assert min(np.diff(pings)) >= 60


@pytest.mark.parametrize("is_abstract", [False, True])
def test_sd_notify_reaches_a_real_socket(tmp_path: Path, is_abstract: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"vitaledge-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
        manager.bind("\0" + name if is_abstract else name)
        manager.settimeout(5)
        systemd_notifier({"NOTIFY_SOCKET": "@" + name if is_abstract else name})("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_told_and_a_dead_socket_harms_nothing(tmp_path: Path) -> None:
    systemd_notifier({})("READY=1")
    systemd_notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})("READY=1")


def test_json_lines_are_one_object_a_line(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as stream:
        sink = JsonLines(stream)
        sink.write(Reading(name="beat", sample=5, t_s=0.02, value="N", confidence=0.9))
        assert json.loads((tmp_path / "out").read_text()) == {
            "name": "beat", "sample": 5, "t_s": 0.02, "class": "N", "confidence": 0.9,
        }  # fmt: skip
        sink.write(Ledger(received=3, scored=2, dropped=1))
        sink.close()
        sink.write(Ledger())
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert lines[1] == {"name": "ledger", "received": 3, "scored": 2, "dropped": 1, "gap": 0}
    assert len(lines) == 2


@pytest.mark.parametrize("kind", [JsonLines, TextLines])
def test_every_line_of_a_simulated_stream_says_so(kind: type[JsonLines]) -> None:
    lines = {}
    for simulated in (True, False):
        stream = io.StringIO()
        sink = kind(stream)
        sink.begin(StreamSpec(rate_hz=250, simulated=simulated))
        sink.write(Reading(name="beat", sample=5, t_s=0.02, value="N", confidence=0.9))
        sink.write(Ledger(received=3, scored=2, dropped=1))
        lines[simulated] = stream.getvalue().splitlines()
    assert ["simulated" in line for line in lines[True]] == [True, True]
    assert ["simulated" in line for line in lines[False]] == [False, False]
