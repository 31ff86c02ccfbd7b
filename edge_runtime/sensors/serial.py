"""Source `serial:///dev/ttyUSB0?protocol=csv&rate_hz=250`: a wearable on a port; alone imports pyserial."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.sensors.bytestream import ByteSource, Recorder
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.playback import Pace
from edge_runtime.sensors.wired import parse_wired

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.2
SOCKET_BYTES = 65536


class Port(Protocol):
    """What is used of pyserial's ports."""

    timeout: float | None

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer after the port's own timeout."""

    def write(self, data: bytes) -> int | None:
        """Send bytes."""

    def close(self) -> None:
        """Give the port back."""


def open_serial(path: str, query: str, pace: Pace, recorder: Recorder | None = None) -> ByteSource:
    """Open a port: `///dev/NAME`, or another URL that pyserial knows (`socket://host:port`, `rfc2217://host:port`).

    Raises SourceError if the port cannot be opened or pyserial is not installed.
    """
    name = path.removeprefix("//")
    where = f"serial://{name}"
    if not name:
        raise SettingsError(f"{where}: no port; serial:///dev/NAME?protocol=csv&rate_hz=250 wanted")
    wired = parse_wired(query, where)
    set_latency_timer(name)
    link = link_to(name, open_port(name, wired.baud, wired.serial), wired.start, wired.stop)
    return ByteSource(where, link, wired, pace.clock, recorder)


def port_name(text: str) -> str:
    """The port that a source's URL names (`serial:///dev/x?...`, `tcp://host:port?...`), or the text if it is none."""
    scheme, mark, rest = text.partition(":")
    if not mark or scheme not in ("serial", "tcp"):
        return text
    name = rest.partition("?")[0].removeprefix("//")
    return f"socket://{name}" if scheme == "tcp" else name


def link_to(name: str, port: Port, start: bytes, stop: bytes) -> SerialLink:
    """A port as a link, in the way that suits its kind."""
    kind = SocketLink if name.startswith("socket://") else SerialLink
    return kind(port, start, stop)


class SerialLink:
    """A port as a link; the device is told to start, and at the end to stop, where its protocol has words for it."""

    def __init__(self, port: Port, start: bytes = b"", stop: bytes = b"") -> None:
        self._port, self._stop = port, stop
        if start:
            try:
                port.write(start)
            except OSError as error:
                port.close()
                raise SourceLost(f"the port went away ({error})") from error

    def read(self) -> bytes:
        """What is there; waits READ_TIMEOUT_S at most."""
        return bytes(self._port.read(max(1, self._port.in_waiting)))

    def close(self) -> None:
        """Close the port."""
        if self._stop:
            with contextlib.suppress(OSError, TypeError):  # it may be gone
                self._port.write(self._stop)
        self._port.close()


class SocketLink(SerialLink):
    """pyserial's `socket://`, whose `in_waiting` counts to one: once a byte came, all that is there is taken."""

    def read(self) -> bytes:
        """What is there; waits READ_TIMEOUT_S at most."""
        chunk = bytes(self._port.read(1))
        if not chunk:
            return b""
        self._port.timeout = 0
        try:
            return chunk + bytes(self._port.read(SOCKET_BYTES))
        finally:
            self._port.timeout = READ_TIMEOUT_S


def set_latency_timer(name: str, sys_root: Path = Path("/sys")) -> bool:
    """Have an FTDI adapter hand bytes over after 1 ms instead of 16; returns whether it does.

    Other adapters have no such setting; without the right to write it, samples come in bursts of 16 ms.
    """
    timer = sys_root / "bus/usb-serial/devices" / Path(name).resolve().name / "latency_timer"
    if not timer.is_file():
        return False
    try:
        if timer.read_text().strip() != "1":
            timer.write_text("1")
    except OSError as error:
        log.info("%s: latency timer stays as it is (%s)", name, error.strerror)
        return False
    return True


def open_port(name: str, baud: int, settings: Mapping[str, Any]) -> Port:
    """Open a port with settings in pyserial's words; SourceLost if it cannot be opened."""
    try:
        import serial
    except ImportError as error:
        raise SourceError(f"serial://{name}: the pyserial package is not installed here") from error
    try:
        port: Port = serial.serial_for_url(name, baudrate=baud, timeout=READ_TIMEOUT_S, exclusive=True, **settings)
    except (OSError, ValueError) as error:
        raise SourceLost(f"serial://{name}: cannot be opened ({error})") from error
    return port


def listed_ports() -> list[tuple[str, dict[str, object]]]:
    """Device names of this machine's ports with what their adapters say; SourceError without pyserial."""
    try:
        from serial.tools import list_ports
    except ImportError as error:
        raise SourceError("the pyserial package is not installed here") from error
    return [
        (p.device, {"description": p.description, "manufacturer": p.manufacturer, "serial_number": p.serial_number})
        for p in sorted(list_ports.comports())
    ]
