"""The plug of an emulated gateway: a socket that is there while the wearable is, and holds back next to nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.wearable import UnixOutlet, outlet


@contextmanager
def reader(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(2.0)
        end.connect(str(path))
        yield end


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[UnixOutlet]:
    made = outlet(f"unix:{tmp_path}/w")
    assert isinstance(made, UnixOutlet)
    yield made
    made.close()


def test_what_is_sent_arrives_as_it_was(plug, tmp_path):
    with reader(tmp_path / "w") as end:
        plug.send(b"one")
        plug.send(b"two")
        assert end.recv(6, socket.MSG_WAITALL) == b"onetwo"


def test_a_reader_that_comes_late_hears_only_what_follows(plug, tmp_path):
    plug.send(b"lost")
    with reader(tmp_path / "w") as end:
        plug.send(b"heard")
        assert end.recv(64) == b"heard"


def test_little_waits_for_a_reader_that_does_not_read_and_nobody_waits_for_it(plug, tmp_path):
    with reader(tmp_path / "w") as end:
        begun = time.monotonic()
        for _ in range(1000):
            plug.send(bytes(450))  # a tenth of a second of 250 rows of 18 bytes
        assert time.monotonic() - begun < 1.0
        end.setblocking(False)
        kept = 0
        with suppress(BlockingIOError):
            while True:
                kept += len(end.recv(1 << 20))
        # An adapter's own buffer and a terminal's are some kilobytes; a second of this stream is 4.5.
        assert 0 < kept <= 9000


def test_what_a_reader_says_is_taken_so_that_an_emulator_never_stands_still(plug, tmp_path):
    with reader(tmp_path / "w") as end:
        plug.send(b"hello")
        # QEMU sends a terminal's echo byte by byte; some 300 of them fill a socket whose other end never reads.
        for _ in range(5000):
            assert end.send(b"x") == 1
        plug.send(b"again")
        assert end.recv(10, socket.MSG_WAITALL) == b"helloagain"


def test_unplugged_there_is_nothing_to_connect_to_until_it_sends_again(plug, tmp_path):
    with reader(tmp_path / "w") as end:
        plug.send(b"on")
        plug.unplug()
        assert end.recv(8) == b"on"
        assert end.recv(8) == b""
    assert not (tmp_path / "w").exists()
    plug.send(b"back, and nobody there yet")
    with reader(tmp_path / "w") as end:
        plug.send(b"again")
        assert end.recv(8) == b"again"


def test_a_reader_that_leaves_makes_room_for_the_next(plug, tmp_path):
    with reader(tmp_path / "w"):
        plug.send(b"first")
    plug.send(b"nobody")
    with reader(tmp_path / "w") as end:
        plug.send(b"second")
        assert end.recv(64) == b"second"


def test_a_socket_that_a_killed_wearable_left_is_taken_over_and_no_other_file(tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "w"))
    plug = UnixOutlet(tmp_path / "w")
    with pytest.raises(SettingsError, match="free"):
        UnixOutlet(tmp_path / "w")  # that one lives
    plug.close()
    (tmp_path / "w").write_text("a file")
    with pytest.raises(SettingsError, match="free"):
        UnixOutlet(tmp_path / "w")
    assert (tmp_path / "w").read_text() == "a file"
