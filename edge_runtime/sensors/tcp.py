"""Source `tcp://HOST:PORT?protocol=...`: the bytes of a wearable behind a network address."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from edge_runtime.contract.errors import SettingsError
from edge_runtime.sensors.bytestream import ByteSource, Recorder
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.playback import Pace
from edge_runtime.sensors.wired import parse_wired

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 0.2
CHUNK_BYTES = 65536
# A peer that is switched off says nothing: ask after 10 s of silence, every 5 s, and give up after three.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class TcpLink:
    """A connection as a link; a peer that ends it is lost, for a live sensor has no end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self) -> bytes:
        """What is there; waits READ_TIMEOUT_S at most."""
        try:
            chunk = self._connection.recv(CHUNK_BYTES)
        except TimeoutError:
            return b""
        if not chunk:
            raise ConnectionError("the other side ended the connection")
        return chunk

    def write(self, command: bytes) -> None:
        """Tell the sensor something."""
        self._connection.sendall(command)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def open_tcp(path: str, query: str, pace: Pace, recorder: Recorder | None = None) -> ByteSource:
    """Connect to `//HOST:PORT`; SourceLost if nobody answers."""
    where = f"tcp:{path}"
    wired = parse_wired(query, where)
    try:
        address = urlsplit(where)
        host, port = address.hostname, address.port
    except ValueError as error:
        raise SettingsError(f"{where}: {error}; tcp://HOST:PORT?protocol=NAME wanted") from error
    if not path.startswith("//") or not host or port is None or address.path:
        raise SettingsError(f"{where}: no host and port; tcp://HOST:PORT?protocol=NAME wanted")
    try:
        connection = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
    except OSError as error:
        raise SourceLost(f"{where}: cannot be reached ({error})") from error
    connection.settimeout(READ_TIMEOUT_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    link = TcpLink(connection)
    link.write(wired.start)
    return ByteSource(where, link, wired, pace.clock, recorder)
