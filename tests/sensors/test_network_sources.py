"""Wearables behind TCP, standard input and pyserial's own URLs, each over the real thing on this machine."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
import serial.rfc2217
from taken import Taken

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Block
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.source import Source, open_source
from edge_runtime.service import run_service

QUERY = "protocol=csv&rate_hz=250&counter=0&column=1"
ROOT = Path(__file__).parents[2]
Play = Callable[[socket.socket], None]


def lines(begin: int, end: int) -> bytes:
    return b"".join(b"%d,%d\n" % (i, i % 97) for i in range(begin, end))


@contextlib.contextmanager
def server(*plays: Play) -> Iterator[str]:
    """A server on the loopback that plays to one client after the other; gives host:port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for play in plays:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    play(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


def until(source: Source, position: int) -> list[Block]:
    """Blocks up to a position."""
    found = []
    for block in source.blocks():
        found.append(block)
        if block.stop >= position:
            break
    return found


def values(blocks: list[Block]) -> dict[int, float]:
    return {b.start + i: v for b in blocks for i, v in enumerate(b.samples[:, 0].tolist())}


def test_a_stream_over_tcp_arrives_whole() -> None:
    def play(client: socket.socket) -> None:
        client.sendall(b"boot\n" + lines(0, 1000))
        client.recv(1)  # until the other side closes

    with server(play) as address:
        source = open_source(f"tcp://{address}?{QUERY}")
        found = values(until(source, 1000))
        source.close()
    assert found == {i: i % 97 for i in range(1000)}


def test_a_device_over_tcp_is_told_to_start() -> None:
    heard = []
    with server(lambda client: heard.append(client.recv(1))) as address:
        open_source(f"tcp://{address}?protocol=cyton&channel=EXG1").close()
    assert heard == [b"b"]  # OpenBCI: b begins the stream


def test_a_peer_that_ends_the_connection_is_lost_and_not_ended() -> None:
    with server(lambda client: client.sendall(b"x\n" + lines(0, 10))) as address:
        source = open_source(f"tcp://{address}?{QUERY}")
        with pytest.raises(SourceLost, match="ended the connection"):
            list(source.blocks())
        source.close()


def test_the_service_connects_again_and_the_time_away_is_a_gap() -> None:
    def first(client: socket.socket) -> None:
        client.sendall(b"x\n" + lines(0, 500))

    def second(client: socket.socket) -> None:
        client.sendall(b"x\n" + lines(0, 500))
        client.recv(1)

    class Thousand(Taken):
        def is_set(self) -> bool:
            return sum(len(b.samples) for b in self.blocks) >= 1000

    it = Thousand()
    with server(first, second) as address:
        began = time.monotonic()
        run_service(lambda: open_source(f"tcp://{address}?{QUERY}"), lambda spec: it, it, stop=it)  # type: ignore[arg-type,return-value]
        took_s = time.monotonic() - began
    stretch = [b.stop - b.start for b in it.blocks]
    assert sum(stretch) == 1000
    gap = it.blocks[-1].stop - 1000
    assert 0 < gap <= took_s * 250


def test_nobody_there_is_lost_so_that_a_service_may_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceLost, match="cannot be reached"):
        open_source(f"tcp://127.0.0.1:{port}?{QUERY}")


@pytest.mark.parametrize("address", ["", "//", "//host", "//host:x", "//host:99999", "//host:1/path", "host:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="tcp://HOST:PORT"):
        open_source(f"tcp:{address}?{QUERY}")


def test_standard_input_is_read_to_its_end() -> None:
    program = (
        "from edge_runtime.sensors.source import open_source\n"
        f"source = open_source('stdin:?{QUERY}')\n"
        "print(sum(float(v) for b in source.blocks() for v in b.samples[:, 0]), source.spec.rate_hz)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"x\n" + lines(0, 3000), capture_output=True, cwd=ROOT, timeout=60
    )
    assert done.stderr == b""
    assert done.stdout.split() == [str(float(sum(i % 97 for i in range(3000)))).encode(), b"250.0"]


def test_pyserials_own_socket_url_works() -> None:
    def play(client: socket.socket) -> None:
        for i in range(0, 100_000, 10):  # pyserial throws away what came before it was ready
            client.sendall(lines(i, i + 10))
            time.sleep(0.005)

    with server(play) as address:
        source = open_source(f"serial:socket://{address}?{QUERY}")
        found = values(until(source, 200))
        source.close()
    assert found == {i: (found[0] + i) % 97 for i in range(len(found))}


def test_pyserials_socket_url_is_not_read_byte_by_byte() -> None:
    """One burst of 40 kB: a read for each byte would be 40,000 of them."""
    text = lines(0, 5000)
    go = threading.Event()

    def play(client: socket.socket) -> None:
        go.wait(10)
        client.sendall(text)
        client.recv(1)

    taken: list[bytes] = []

    class Recorder:
        def begin(self, t_ns: int, protocol: str, options: str) -> None:
            go.set()  # pyserial throws away what came before it was ready

        def write(self, t_ns: int, chunk: bytes) -> None:
            taken.append(chunk)

    with server(play) as address:
        source = open_source(f"serial:socket://{address}?{QUERY}", recorder=Recorder())
        until(source, 4998)
        source.close()
    assert b"".join(taken).startswith(text[:30_000])
    assert len(taken) < 200


class Rfc2217Server:
    """A port shared after RFC 2217 with pyserial's PortManager; the port is pyserial's own loop."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self.settings: tuple[int, int, str] | None = None

    def write(self, data: bytes) -> None:
        """What the PortManager answers."""
        self._client.sendall(data)

    def serve(self) -> None:
        with serial.serial_for_url("loop://", timeout=0) as port:
            manager, i = serial.rfc2217.PortManager(port, self), 0
            while True:
                if select.select([self._client], [], [], 0.02)[0]:
                    data = self._client.recv(1024)
                    if not data:
                        return
                    port.write(b"".join(manager.filter(data)))
                    self.settings = (port.baudrate, port.bytesize, port.parity)
                if port.in_waiting:
                    self._client.sendall(b"".join(manager.escape(port.read(port.in_waiting))))
                if port.baudrate == 57600:
                    port.write(lines(i, i + 10))
                    i += 10


@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial 3.5's own code
def test_a_port_shared_after_rfc_2217_works() -> None:
    shared: list[Rfc2217Server] = []

    def play(client: socket.socket) -> None:
        shared.append(Rfc2217Server(client))
        shared[0].serve()

    with server(play) as address:
        source = open_source(f"serial:rfc2217://{address}?{QUERY}&baud=57600")
        found = values(until(source, 100))
        source.close()
    assert found == {i: (found[0] + i) % 97 for i in range(len(found))}
    assert shared[0].settings == (57600, 8, "N")


def test_blocks_of_many_channels_come_as_wide_as_they_are_declared() -> None:
    def play(client: socket.socket) -> None:
        time.sleep(0.3)
        client.recv(1)
        client.recv(1)

    with server(play) as address:
        source = open_source(f"tcp://{address}?protocol=cyton")
        empty = next(iter(source.blocks()))
        source.close()
    assert empty.samples.shape == (0, 8)
    assert np.dtype(np.float32) == empty.samples.dtype
