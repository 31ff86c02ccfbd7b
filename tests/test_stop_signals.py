"""SIGTERM and SIGINT: one asks to stop, a later one acts at once; in this process and in real ones."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.service import stop_on_signals
from tests.fake_time import FakeTime

NUMBERS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture(autouse=True)
def not_deaf() -> Iterator[None]:
    """A shell's job in the background is started deaf to SIGINT, and hands that on to all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@NUMBERS
def test_a_signal_asks_to_stop_and_leaving_restores(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("other", [signal.SIGTERM, signal.SIGINT])
@NUMBERS
def test_signals_within_half_a_second_are_one_request(number: signal.Signals, other: signal.Signals) -> None:
    fake = FakeTime()
    with stop_on_signals(fake.clock) as stop:
        signal.raise_signal(number)
        for _ in range(7):
            fake.sleep(0.07)
            signal.raise_signal(other)
        assert stop.is_set()


@NUMBERS
def test_one_after_half_a_second_acts_as_it_did_before(number: signal.Signals) -> None:
    heard, fake = [], FakeTime()
    before = signal.signal(number, lambda *_: heard.append(fake.now_ns))
    try:
        with stop_on_signals(fake.clock):
            signal.raise_signal(number)
            assert heard == []
            fake.sleep(0.5)
            signal.raise_signal(number)
            assert heard == [fake.now_ns]
            signal.raise_signal(number)  # and every one from then on
            assert heard == [fake.now_ns] * 2
    finally:
        signal.signal(number, before)


PROGRAM = """
import sys, time
from edge_runtime.contract.signal import Ledger, Reading
from edge_runtime.sensors.source import open_source
from edge_runtime.service import run_service, stop_on_signals
from edge_runtime.sinks.jsonlines import JsonLines

class Echo:
    def __init__(self): self.ledger = Ledger()
    def feed(self, block):
        self.ledger.received += len(block.samples); self.ledger.scored += len(block.samples)
        return [Reading(name="block", sample=block.start, t_s=block.start / 250, value=1.0)]
    def finish(self):
        sys.stderr.write("finishing\\n"); sys.stderr.flush()
        time.sleep(float(sys.argv[1]))
        return []

with stop_on_signals() as stop:
    source = lambda: open_source("synthetic:", realtime=True)
    run_service(source, lambda spec: Echo(), JsonLines(sys.stdout), stop=stop)
"""


def started(finish_s: float) -> subprocess.Popen[str]:
    """A service that has given its first reading, and takes so long to finish."""
    command = [sys.executable, "-c", PROGRAM, str(finish_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["sample"] == 0
    return process


@NUMBERS
@pytest.mark.parametrize("pause_s", [None, 0.0, 0.05])
def test_one_signal_or_two_in_a_row_end_a_real_process_with_its_ledger_and_0(
    number: signal.Signals, pause_s: float | None
) -> None:
    with started(finish_s=0.3) as process:
        process.send_signal(number)
        if pause_s is not None:
            time.sleep(pause_s)
            process.send_signal(number)
        assert process.stdout is not None
        rest = process.stdout.read().splitlines()
    assert process.returncode == 0
    last = json.loads(rest[-1])
    assert last["name"] == "ledger"
    assert last["received"] == last["scored"] > 0


@NUMBERS
def test_a_later_signal_ends_a_real_process_that_takes_too_long(number: signal.Signals) -> None:
    with started(finish_s=60.0) as process:
        process.send_signal(number)
        assert process.stderr is not None
        assert process.stderr.readline() == "finishing\n"  # the first one was heard
        time.sleep(0.6)
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in rest) == (number == signal.SIGINT)


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    with started(finish_s=0.0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaint = process.stderr.read()
    assert (process.returncode, complaint) == (0, "finishing\n")


def test_a_command_that_is_interrupted_says_so_and_exits_as_shells_do() -> None:
    """128 and the signal's number, as POSIX shells tell it of what a signal ended."""
    writer, reader = pty.openpty()
    name = os.ttyname(reader)
    command = [sys.executable, "-m", "edge_runtime", "probe", name, "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60.0
        while name not in open_files(process.pid) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
    for fd in (writer, reader):
        os.close(fd)
    assert said == ("", "edge-runtime: interrupted\n")
    assert process.returncode == 128 + signal.SIGINT


def open_files(pid: int) -> list[str]:
    """Names of the files that a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found
