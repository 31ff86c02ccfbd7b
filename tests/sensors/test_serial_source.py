"""The serial source: a real pty through pyserial, and a fake port where time matters."""

from __future__ import annotations

import itertools
import math
import os
import pty
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SourceError
from edge_runtime.contract.signal import Block
from edge_runtime.sensors.bytestream import ByteSource
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.serial import SerialLink, set_latency_timer
from edge_runtime.sensors.source import open_source
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.sensors.wired import parse_wired

OPTIONS = "protocol=csv&rate_hz=250"


class FakePort:
    """A port whose reads take the time they say: (seconds until they return, bytes); then it is unplugged."""

    def __init__(self, reads: list[tuple[float, bytes]]) -> None:
        self.now_ns, self.is_closed, self.written = 0, False, b""
        self._reads = iter(reads)

    @property
    def in_waiting(self) -> int:
        return 0

    def read(self, size: int) -> bytes:
        seconds, chunk = next(self._reads, (0.0, None))
        self.now_ns += round(seconds * 1e9)
        if chunk is None:
            raise OSError(5, "Input/output error")
        return chunk

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True


def fake_source(port: FakePort, options: str = OPTIONS) -> ByteSource:
    return ByteSource("serial:///dev/fake", SerialLink(port), parse_wired(options, "fake"), lambda: port.now_ns)


def lines(n: int) -> bytes:
    return b"".join(b"%d\n" % i for i in range(n))


def run(reads: list[tuple[float, bytes]], options: str = OPTIONS) -> tuple[ByteSource, list[Block]]:
    """Everything until the port is unplugged."""
    port = FakePort(reads)
    source = fake_source(port, options)
    blocks: list[Block] = []
    with pytest.raises(SourceLost, match="went away"):
        collect(source, blocks)
    source.close()
    assert port.is_closed
    return source, blocks


def collect(source: ByteSource, into: list[Block]) -> None:
    for block in source.blocks():
        into.append(block)  # one by one: what came before the error is wanted


def ranges(blocks: list[Block]) -> list[tuple[int, int]]:
    """Stretches of consecutive positions."""
    joined: list[tuple[int, int]] = []
    for b in blocks:
        if len(b.samples) == 0:
            continue
        if joined and joined[-1][1] == b.start:
            joined[-1] = (joined[-1][0], b.stop)
        else:
            joined.append((b.start, b.stop))
    return joined


def test_an_ecg_played_into_a_real_terminal_arrives_whole(terminal: tuple[int, str]) -> None:
    writer, name = terminal
    ecg = np.round(simulate(12, rate_hz=250, pvc=0.1).samples[:, 0] / 0.005 + 512).astype(int)
    source = open_source(f"serial://{name}?protocol=csv&rate_hz=250&column=1&scale=0.005&offset=512")

    def play() -> None:
        os.write(writer, b"\x00boot\r\ncount,ecg\r\n")
        for i in range(0, len(ecg), 50):
            os.write(writer, b"".join(b"%d,%d\r\n" % (i + k, v) for k, v in enumerate(ecg[i : i + 50])))
            time.sleep(0.005)

    player = threading.Thread(target=play)
    player.start()
    found: list[Block] = []
    for block in source.blocks():
        found.append(block)
        if block.stop >= len(ecg):
            break
    player.join()
    source.close()
    samples = np.concatenate([b.samples[:, 0] for b in found])
    np.testing.assert_array_equal(samples, ((ecg - 512.0) * 0.005).astype(np.float32))
    assert ranges(found) == [(0, len(ecg))]
    assert all(a.t_ns <= b.t_ns for a, b in itertools.pairwise(b for b in found if len(b.samples)))
    assert source.spec.channels == ("ECG",)


def test_a_terminal_that_goes_away_is_lost_and_not_ended() -> None:
    writer, reader = pty.openpty()
    source = open_source(f"serial://{os.ttyname(reader)}?protocol=csv&rate_hz=250")
    os.close(reader)
    blocks = source.blocks()
    os.write(writer, b"x\n1\n2\n")
    # A block without samples is the sign of life of a port that has nothing to say yet.
    assert len(next(b for b in blocks if len(b.samples)).samples) == 2
    os.close(writer)
    with pytest.raises(SourceLost, match="plug the sensor in again"):
        list(blocks)
    source.close()


def test_a_port_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="/dev/no-such-port"):
        open_source("serial:///dev/no-such-port?protocol=csv&rate_hz=250")


def test_without_pyserial_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "serial", None)  # how Python marks a missing module
    with pytest.raises(SourceError, match="pyserial package is not installed"):
        open_source("serial:///dev/x?protocol=csv&rate_hz=250")


def test_a_silent_port_gives_empty_blocks() -> None:
    _, blocks = run([(0.2, b"")] * 5)
    assert [len(b.samples) for b in blocks] == [0] * 5


def test_half_the_declared_rate_is_refused() -> None:
    reads = [(0.1, lines(12)), (0.1, lines(13))] * 102
    port = FakePort(reads)
    source = fake_source(port)
    with pytest.raises(SourceError, match=r"rate_hz=250 was declared, 12[0-9]\.[0-9] Hz arrive") as caught:
        list(source.blocks())
    assert not isinstance(caught.value, SourceLost)
    assert port.now_ns == pytest.approx(20.1e9, abs=0.3e9)


def test_what_comes_late_in_one_piece_is_no_wrong_rate() -> None:
    """A machine that was busy for some seconds reads slowly, then what had waited, and is as quick again as before."""
    steady, stuck, backlog = [(0.1, lines(25))], [(0.1, lines(6))], [(0.1, lines(100))]
    seconds = [steady * 101, stuck * 50 + steady * 51, backlog * 13 + steady * 88, steady * 101]
    source, _ = run([read for reads in seconds for read in reads])
    assert source.measured_rate_hz == pytest.approx(250, rel=0.01)


@pytest.mark.parametrize("n", [23, 25, 27])
def test_a_rate_within_a_tenth_is_measured_and_accepted(n: int) -> None:
    source, blocks = run([(0.1, lines(n))] * 105)
    assert source.measured_rate_hz == pytest.approx(10 * n, rel=0.01)
    assert ranges(blocks) == [(0, 105 * n - 1)]


def test_the_rate_is_not_judged_too_early() -> None:
    source, _ = run([(0.1, lines(12))] * 95)
    assert math.isnan(source.measured_rate_hz)


def test_what_the_system_kept_before_the_start_is_no_rate() -> None:
    source, _ = run([(0.1, lines(1000))] + [(0.1, lines(25))] * 105)
    assert source.measured_rate_hz == pytest.approx(250, rel=0.01)


def test_bytes_that_are_no_lines_are_refused() -> None:
    port = FakePort([(0.1, b"\x80\xfe\x13")] * 200)
    source = fake_source(port)
    with pytest.raises(SourceError, match=r"no line that can be used; check protocol, baud"):
        list(source.blocks())


def test_a_column_that_is_not_there_is_refused() -> None:
    options = f"{OPTIONS}&column=2"
    port = FakePort([(0.1, lines(25))] * 200)
    source = fake_source(port, options)
    with pytest.raises(SourceError, match=r"lines of 1 numbers that can be used.*column"):
        list(source.blocks())


def test_a_silence_is_a_gap_of_its_length() -> None:
    steady = [(0.1, lines(25))] * 20
    _, blocks = run([*steady, *[(0.2, b"")] * 15, *steady])
    (start, stop), (again, end) = ranges(blocks)
    assert (start, stop) == (0, 499)
    assert again - stop == pytest.approx((15 * 0.2 + 0.1) * 250 - 25, abs=1)
    assert end - again == 500


def test_a_late_consumer_loses_nothing() -> None:
    steady = [(0.1, lines(25))] * 20
    _, blocks = run([*steady, (3.0, lines(750)), *steady])
    assert ranges(blocks) == [(0, 499 + 750 + 500)]


@pytest.mark.parametrize("before", ["16", "1"])
def test_the_latency_timer_of_an_ftdi_adapter_is_set(tmp_path: Path, before: str) -> None:
    timer = tmp_path / "bus/usb-serial/devices/ttyUSB7/latency_timer"
    timer.parent.mkdir(parents=True)
    timer.write_text(f"{before}\n")
    assert set_latency_timer("/dev/ttyUSB7", tmp_path)
    assert timer.read_text().strip() == "1"


def test_an_adapter_without_latency_timer_is_left_alone(tmp_path: Path) -> None:
    assert not set_latency_timer("/dev/ttyACM0", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_told_to_start_and_to_stop() -> None:
    """Contec CMS50D+: F5 F5 and F6 F6 F6 (atbrask/CMS50Dplus)."""
    port = FakePort([])
    wired = parse_wired("protocol=contec", "fake")
    assert (wired.baud, wired.serial) == (19200, {"parity": "O"})
    link = SerialLink(port, wired.start, wired.stop)
    assert port.written == b"\xf5\xf5"
    link.close()
    assert port.written == b"\xf5\xf5\xf6\xf6\xf6"
