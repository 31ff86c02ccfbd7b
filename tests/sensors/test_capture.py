"""Captures: the file's bytes by its own description, damage, and that a replay says what the live run said."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from taken import Taken

from edge_runtime.cli import main
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.sensors.bytestream import ByteSource
from edge_runtime.sensors.capture import CaptureWriter, Record, read_capture
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.source import open_source
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.sensors.wired import parse_wired
from edge_runtime.service import run_service
from tests.fake_time import FakeTime

OPTIONS = "rate_hz=250&counter=0&column=1&counter_wrap=256"


def by_hand(*records: tuple[int, bytes | None], header: bytes | None = None) -> bytes:
    """A capture written from its description, not with its writer."""
    text = header or json.dumps({"schema": 1, "protocol": "csv", "options": OPTIONS}).encode()
    out = b"vitalcap" + struct.pack("<I", len(text)) + text
    for t_ns, chunk in records:
        out += t_ns.to_bytes(8, "little")
        out += b"\xff\xff\xff\xff" if chunk is None else len(chunk).to_bytes(4, "little") + chunk
    return out


def test_the_file_is_what_its_description_says(tmp_path: Path) -> None:
    path = tmp_path / "a.vcap"
    writer = CaptureWriter(path)
    writer.begin(5, "csv", OPTIONS)
    writer.write(7, b"1,2\n")
    assert path.read_bytes() == by_hand((5, None), (7, b"1,2\n"))  # before it is closed: every record leaves at once
    writer.begin(9, "csv", OPTIONS)
    writer.write(2**63, bytes(range(256)))
    writer.close()
    wanted = by_hand((5, None), (7, b"1,2\n"), (9, None), (2**63, bytes(range(256))))
    assert path.read_bytes() == wanted
    header, records = read_capture(path)
    assert (header.protocol, header.options) == ("csv", OPTIONS)
    assert list(records) == [
        Record(5, None),
        Record(7, b"1,2\n"),
        Record(9, None),
        Record(2**63, bytes(range(256))),
    ]


def test_a_file_cut_anywhere_gives_the_whole_records_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, records = tmp_path / "a.vcap", [(5, None), (7, b"1,2\n"), (9, b"3,4\n")]
    whole, begins = by_hand(*records), len(by_hand())
    ends = [len(by_hand(*records[:n])) for n in range(4)]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        caplog.clear()
        if size < begins:
            with pytest.raises(SourceError, match=r"a\.vcap"):
                read_capture(path)
            continue
        _, found = read_capture(path)
        n = sum(end <= size for end in ends) - 1
        assert [(r.t_ns, r.chunk) for r in found] == records[:n]
        assert ("is torn" in caplog.text) == (size not in ends)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with b''"),
        (b"RIFF0000WAVE", "begins with b'RIFF0000'"),
        (by_hand(header=b"{"), "header of 1 bytes is damaged"),
        (by_hand(header=b'{"schema": 2}'), "schema is 2; this reader knows 1"),
        (by_hand(header=b'{"schema": 1, "protocol": "csv"}'), "'options' is missing"),
        (by_hand(header=b'{"schema": 1, "protocol": "csv", "options": "", "a": 1}'), "unknown key 'a'"),
        (by_hand((9, b"a"), (8, b"b")), "record at byte .* is damaged"),
        (by_hand() + bytes(8) + b"\xff\xff\xff\xfe", "record at byte .* is damaged"),
    ],
)
def test_what_is_no_capture_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.vcap"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=words):
        list(read_capture(path)[1])


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.vcap"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        CaptureWriter(path)
    assert path.read_bytes() == b"precious"


def test_a_capture_of_nothing_leaves_no_file(tmp_path: Path) -> None:
    CaptureWriter(tmp_path / "a.vcap").close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_capture_and_not_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    class Full(CaptureWriter):
        def __init__(self) -> None:
            self.n_bytes, self._path, self._header = 0, Path("/dev/full"), None
            self._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - closed by the writer

    writer = Full()
    writer.begin(1, "csv", "")
    writer.write(2, b"abc")
    assert caplog.text.count("the capture ends here") == 1


def test_a_source_without_bytes_cannot_be_captured(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path / "a.vcap")
    with pytest.raises(SettingsError, match=r"synthetic: has no bytes to capture; ble, serial, stdin, tcp have"):
        open_source("synthetic:", recorder=writer)
    writer.close()


class Chunks:
    """A link whose reads take the time they say; then it is lost, or ends."""

    def __init__(self, time: FakeTime, reads: list[tuple[float, bytes]], *, is_lost: bool) -> None:
        self._time, self._reads, self._is_lost = time, iter(reads), is_lost

    def read(self) -> bytes | None:
        seconds, chunk = next(self._reads, (0.0, None))
        self._time.sleep(seconds)
        if chunk is None and self._is_lost:
            raise OSError("unplugged")
        return chunk

    def close(self) -> None:
        pass


def sent_values(seed: int, seconds: float) -> list[int]:
    """What a connection of `uneven_reads` sent, a line each."""
    rng = np.random.default_rng(seed)
    return [int(rng.integers(-500, 500)) for _ in range(round(250 * seconds))]


def uneven_reads(seed: int, seconds: float) -> list[tuple[float, bytes]]:
    """Counted lines cut anywhere, some damaged, some silences, the counter going round in 1 s."""
    rng = np.random.default_rng([seed, 1])
    lines = b"".join(b"%d,%d\n" % (i % 256, v) for i, v in enumerate(sent_values(seed, seconds)))
    reads, at = [], 0
    while at < len(lines):
        size = int(rng.integers(1, 400))
        chunk = bytearray(lines[at : at + size])
        if rng.random() < 0.05:
            chunk[int(rng.integers(len(chunk)))] ^= 0x15
        is_dropped = rng.random() < 0.03
        reads.append((size * seconds / len(lines), b"" if is_dropped else bytes(chunk)))
        at += size
    return reads


@pytest.mark.parametrize("speed", ["", "?speed=1", "?speed=7", "?speed=max"])
def test_a_replay_gives_the_blocks_of_the_live_run_through_damage_and_reconnections(tmp_path: Path, speed: str) -> None:
    time, path, live = FakeTime(), tmp_path / "a.vcap", Taken()
    began_ns = time.now_ns
    writer = CaptureWriter(path)
    links = iter(
        Chunks(time, uneven_reads(seed, seconds), is_lost=seed < 3) for seed, seconds in ((1, 9.0), (2, 4.0), (3, 5.0))
    )

    def reopen() -> ByteSource:
        return ByteSource("fake", next(links), parse_wired(f"protocol=csv&{OPTIONS}", "fake"), time.clock, writer)

    class Never:
        def is_set(self) -> bool:
            return False

    def service(opened, into: Taken, clock: FakeTime) -> None:  # type: ignore[no-untyped-def]
        run_service(opened, lambda spec: into, into, stop=Never(), clock=clock.clock, sleep=clock.sleep)

    service(reopen, live, time)
    writer.close()
    again, later = Taken(), FakeTime()
    later.now_ns = 10**15
    service(
        lambda: open_source(f"replay:{path}{speed}", realtime=True, clock=later.clock, sleep=later.sleep), again, later
    )
    assert live.flat() == again.flat()
    assert len(live.flat()) > 4000
    starts = [(a.stop, b.start) for a, b in zip(live.blocks, live.blocks[1:], strict=False)]
    away = [(stop, start) for stop, start in starts if start - stop > 200]
    assert [round((start - stop) / 250) for stop, start in away] == [1, 2]  # a second away, then two
    # Every line is in its place: the first of a connection may be half a line and is left out.
    place = dict(live.flat())
    for begin, seed, seconds in ((0, 1, 9.0), (away[0][1], 2, 4.0), (away[1][1], 3, 5.0)):
        sent = sent_values(seed, seconds)[1:]
        found = {i: place[begin + i] for i in range(len(sent)) if begin + i in place}
        assert len(found) > 0.85 * len(sent)
        wrong = [i for i, value in found.items() if value != sent[i]]
        # A digit that became another looks like any other, and so do two halves of lines: single ones, never a stretch.
        assert len(wrong) <= 3
        assert all(b - a > 1 for a, b in itertools.pairwise(wrong))
    took_s = (later.now_ns - 10**15) / 1e9
    factor = {"": 1.0, "?speed=1": 1.0, "?speed=7": 7.0, "?speed=max": np.inf}[speed]
    assert took_s == pytest.approx((time.now_ns - began_ns) / 1e9 / factor, abs=0.6)


def test_a_long_silence_in_a_paced_replay_lets_its_consumer_stop(tmp_path: Path) -> None:
    path, time = tmp_path / "a.vcap", FakeTime()
    path.write_bytes(by_hand((0, None), (1, b"x\n0,1\n1,2\n"), (600 * 10**9, b"2,3\n")))
    source = open_source(f"replay:{path}", realtime=True, clock=time.clock, sleep=time.sleep)
    empty = 0
    for block in source.blocks():
        empty += len(block.samples) == 0
        if time.now_ns > 20 * 10**9:
            source.close()
    assert 20 <= empty <= 40


def test_a_live_run_and_its_replay_print_the_same_lines(
    tmp_path: Path, terminal: tuple[int, str], int8_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    writer, name = terminal
    counts = np.round(simulate(12, rate_hz=250, pvc=0.1).samples[:, 0] / 0.005 + 512).astype(int)
    path = tmp_path / "live.vcap"
    url = f"serial://{name}?protocol=csv&rate_hz=250&column=1&counter=0&counter_wrap=256&scale=0.005&offset=512"
    command = [sys.executable, "-m", "edge_runtime", "run", str(int8_bundle.path), url]
    with subprocess.Popen(
        [*command, "--json", "--capture", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        until = time.monotonic() + 60
        while (not path.exists() or path.stat().st_size == 0) and run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        os.write(writer, b"boot\n")
        for i in range(0, len(counts), 50):
            text = b"".join(b"%d,%d\n" % ((i + k) % 256, v) for k, v in enumerate(counts[i : i + 50]))
            os.write(writer, text.replace(b"7,5", b"7x5") if i == 1500 else text)
            time.sleep(0.01)
        sent = b"%d,%d\n" % ((len(counts) - 1) % 256, counts[-1])
        while not path.read_bytes().endswith(sent) and run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)  # the last chunk is captured before it is decoded
        run.send_signal(signal.SIGTERM)
        live, said = run.communicate(timeout=30)
    assert run.returncode == 0, said
    assert main(["replay", str(int8_bundle.path), f"replay:{path}", "--json"]) == 0
    assert capsys.readouterr().out == live
    assert live.count('"beat"') > 8


def test_a_capture_that_goes_back_to_an_unknown_protocol_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.vcap"
    path.write_bytes(by_hand(header=b'{"schema": 1, "protocol": "morse", "options": ""}'))
    with pytest.raises(SettingsError, match=r"'morse'.*csv"):
        open_source(f"replay:{path}")


def test_no_sample_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "a.vcap"
    path.write_bytes(by_hand((0, None), (1, b"x\n0,31337\n1,31337\n"))[:-1])
    for block in open_source(f"replay:{path}").blocks():
        assert block is not None
    assert "31337" not in caplog.text
    with pytest.raises(SourceLost):
        open_source("tcp://127.0.0.1:1?protocol=csv&rate_hz=250")
