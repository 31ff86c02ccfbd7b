"""From a device's bytes on a terminal to readings: the beats of the direct way, and those of the annotations."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.assemble import open_engine, open_pipeline
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.signal import Block, Ledger, Reading, StreamSpec
from edge_runtime.pipeline import Pipeline
from edge_runtime.sensors.faults import Events, Faults
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.source import open_source
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.sensors.wearable import PtyOutlet, encoded
from edge_runtime.service import run_service

BUNDLE = Path(__file__).parents[2] / "deploy" / "bundles" / "ecg-beats"
# Protocols with a column in mV that needs no scale, and the channel to take.
QUERIES = {"cyton": "channel=EXG1&unit=mV", "healthypi3": "channel=ECG", "shimmer3": "channel=ECG1"}


def as_bytes(name: str, url: str) -> bytes:
    """A recording as the device would send it."""
    source = open_source(url)
    return b"".join(chunk for _, chunk, _ in encoded(name, source, Faults(), Events(Faults(), 1)))


def piped(spec: StreamSpec) -> Pipeline:
    return open_pipeline(open_bundle(BUNDLE), spec, open_engine())


def direct(name: str, data: bytes) -> list[Reading]:
    """Readings of all bytes at once: no terminal, no service."""
    decoder = PROTOCOLS[name].decoder(QUERIES[name])
    pipeline = piped(decoder.spec)
    return [r for b in decoder.feed(data) for r in pipeline.feed(b)] + pipeline.finish()


class Kept:
    """A sink that keeps all, and stops the service when so many samples came."""

    is_open = True

    def __init__(self, n_samples: int) -> None:
        self.readings: list[Reading] = []
        self.ledger = Ledger()
        self.pipeline: Pipeline | None = None
        self._n, self._until = n_samples, time.monotonic() + 60.0

    def opened(self, spec: StreamSpec) -> Pipeline:
        self.pipeline = piped(spec)
        return self.pipeline

    def is_set(self) -> bool:
        ledger = self.pipeline.ledger if self.pipeline else self.ledger
        return ledger.received - ledger.gap >= self._n or time.monotonic() > self._until

    def begin(self, spec: StreamSpec) -> None:
        pass

    def write(self, said: Reading | Ledger) -> None:
        if isinstance(said, Ledger):
            self.ledger = said
        else:
            self.readings.append(said)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def terminal(play: Callable[[int], None]) -> Iterator[str]:
    """A terminal that a thread writes to; gives its name."""
    writer, reader = pty.openpty()
    tty.setraw(reader)
    thread = threading.Thread(target=play, args=(writer,))
    thread.start()
    try:
        yield os.ttyname(reader)
        thread.join(60)
    finally:
        for fd in (writer, reader):
            with contextlib.suppress(OSError):
                os.close(fd)


def through_terminal(name: str, data: bytes, n_samples: int) -> Kept:
    def play(writer: int) -> None:
        # pyserial throws away what came before it opened; a Cyton and a Shimmer3 say when that is done.
        if PROTOCOLS[name].start:
            select.select([writer], [], [], 30)
        else:
            time.sleep(1.0)
        for i in range(0, len(data), 700):
            os.write(writer, data[i : i + 700])

    kept = Kept(n_samples)
    with terminal(play) as where:
        url = f"serial://{where}?protocol={name}&{QUERIES[name]}"
        run_service(lambda: open_source(url), kept.opened, kept, stop=kept)
    return kept


@pytest.mark.parametrize("name", ["cyton", "shimmer3"])
def test_a_terminal_gives_the_beats_of_the_direct_way_and_of_the_simulated_heart(name: str) -> None:
    url = "synthetic:?seconds=30&pvc=0.1&seed=5"
    data, truth = as_bytes(name, url), simulate(30, rate_hz=250.0, pvc=0.1, seed=5)
    wanted = direct(name, data)
    rate_hz = PROTOCOLS[name].decoder(QUERIES[name]).spec.rate_hz
    kept = through_terminal(name, data, round(29.5 * rate_hz))
    assert kept.readings[:-2] == wanted[: len(kept.readings) - 2]
    assert len(kept.readings) >= len(wanted) - 1
    assert (kept.ledger.is_balanced, kept.ledger.gap) == (True, 0)
    found = np.array([r.t_s for r in kept.readings])
    beats = truth.beat_samples[truth.beat_samples < 29 * 250] / 250.0
    assert all(np.min(np.abs(found - t)) < 0.15 for t in beats)


@pytest.mark.skipif("VITALEDGE_DATA" not in os.environ, reason="needs VITALEDGE_DATA, the folder that holds mitdb/")
@pytest.mark.parametrize("record", ["100", "119"])
def test_a_recorded_heart_played_into_a_terminal_is_read_as_it_was_annotated(record: str) -> None:
    """MIT-BIH, 40 s through Cyton frames at 250 Hz; 150 ms as in AAMI EC57."""
    import wfdb

    path = Path(os.environ["VITALEDGE_DATA"]) / "mitdb" / record
    data = as_bytes("cyton", f"wfdb:{path}?seconds=40")
    wanted = direct("cyton", data)
    kept = through_terminal("cyton", data, round(39.8 * 250))
    assert kept.readings[:-2] == wanted[: len(kept.readings) - 2]
    notes = wfdb.rdann(str(path), "atr")
    beats = [
        (s / 360.0, y) for s, y in zip(notes.sample, notes.symbol, strict=True) if y in "NV" and 1.0 < s / 360 < 38
    ]
    for t, symbol in beats:
        nearest = min(kept.readings, key=lambda r: abs(r.t_s - t))
        assert abs(nearest.t_s - t) < 0.15
        assert nearest.value == symbol


def test_unplugged_and_back_under_another_name_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A Cyton behind a lasting name: 12 s, gone, then on another terminal 12 s more."""
    data = as_bytes("cyton", "synthetic:?seconds=24&seed=5")
    half = len(data) // 33 // 2 * 33
    out = PtyOutlet(tmp_path / "wearable")
    first = os.path.realpath(tmp_path / "wearable")
    names = [first]

    def sent(part: bytes) -> None:
        fd = out._opened()[0]
        select.select([fd], [], [], 30)
        os.read(fd, 10)
        os.set_blocking(fd, True)
        for i in range(0, len(part), 700):
            os.write(fd, part[i : i + 700])

    def play() -> None:
        sent(data[:half])
        time.sleep(1.0)  # until all is read: an unplugged terminal takes along what it holds
        taken = pty.openpty()  # somebody else gets the old number
        out.unplug()
        spare = pty.openpty()
        out._open()
        names.append(os.path.realpath(tmp_path / "wearable"))
        for fd in (*taken, *spare):
            os.close(fd)
        sent(data[half:])

    thread = threading.Thread(target=play)
    thread.start()
    kept = Kept(2 * 12 * 250 - 60)
    url = f"serial://{tmp_path / 'wearable'}?protocol=cyton&{QUERIES['cyton']}"
    run_service(lambda: open_source(url), kept.opened, kept, stop=kept)
    thread.join(30)
    out.close()
    assert names[0] != names[1]
    assert "went away" in caplog.text
    assert kept.ledger.is_balanced
    assert kept.ledger.gap >= 250  # a second at least
    decoder = PROTOCOLS["cyton"].decoder(QUERIES["cyton"])
    pipeline = piped(decoder.spec)
    blocks = decoder.feed(data)
    samples = np.concatenate([b.samples for b in blocks])
    n = half // 33
    readings = pipeline.feed(Block(start=0, samples=samples[:n]))
    behind = kept.ledger.gap + n
    readings += pipeline.feed(Block(start=behind, samples=samples[n:])) + pipeline.finish()
    assert len(kept.readings) > 20
    assert [(r.sample, r.value) for r in kept.readings][:-2] == [(r.sample, r.value) for r in readings][
        : len(kept.readings) - 2
    ]
