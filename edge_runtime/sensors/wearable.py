"""Play a recording or a synthetic heart as a wearable would send it: its bytes, at its rate, with faults on demand."""

from __future__ import annotations

import contextlib
import math
import os
import pty
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol as Typing

import numpy as np

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array, Float64Array
from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS
from edge_runtime.sensors.faults import ByteFaults, Events, Faults
from edge_runtime.sensors.options import in_range
from edge_runtime.sensors.protocols import PROTOCOLS, Protocol
from edge_runtime.sensors.source import Source

TICK_S = 0.1
UNREAD_BYTES = 4608  # the least that Linux allows, its book-keeping included
WRAPS = {"cyton": 256, "bitalino": 16, "edge": 2**32, "shimmer3": 2**24 // 64}
# Columns that are no signal: what a calm patient has.
NUMBERS = {"HR": 72.0, "SPO2": 97.0, "RR": 15.0, "PR": 72.0, "TEMP": 36.6, "BAR": 7.0, "DIGITAL": 0.0}
WIDER = {"nonin7": 400.0}  # its pulse wave has 16 bits
COUNTS = {"PLETH": (50.0, 30.0, 100.0), "A5": (32.0, 12.0, 63.0), "A6": (32.0, 12.0, 63.0)}  # middle, per mV, most
USUAL_COUNT = (512.0, 200.0, 1023.0)


class Outlet(Typing):
    """Where a simulated wearable's bytes go."""

    @property
    def where(self) -> str:
        """What to open."""

    def send(self, chunk: bytes) -> None:
        """Send, as a device does: what nobody takes is lost."""

    def unplug(self) -> None:
        """Go away; the next `send` is a device that is back."""

    def close(self) -> None:
        """End."""


class PtyOutlet:
    """A pseudo-terminal; `link` is a name that stays when its own changes.

    At that name only a link to a terminal is replaced, as a wearable that was killed left it, and only the own one is
    removed; raises SettingsError for anything else that is there.
    """

    def __init__(self, link: Path | None = None) -> None:
        self._link = link
        self._fds: tuple[int, int] | None = None
        self._open()

    @property
    def where(self) -> str:
        """What to open."""
        name = str(self._link) if self._link else os.ttyname(self._opened()[1])
        return f"serial://{name}"

    def send(self, chunk: bytes) -> None:
        """Write what the terminal takes."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._opened()[0], chunk)

    def unplug(self) -> None:
        """Close both ends."""
        if self._fds is None:
            return
        terminal = os.ttyname(self._fds[1])
        for fd in self._fds:
            os.close(fd)
        self._fds = None
        if self._link and _led_to(self._link) == terminal:
            self._link.unlink(missing_ok=True)

    def close(self) -> None:
        """End."""
        self.unplug()

    def _opened(self) -> tuple[int, int]:
        return self._fds or self._open()

    def _open(self) -> tuple[int, int]:
        writer, reader = pty.openpty()
        tty.setraw(reader)
        os.set_blocking(writer, False)
        try:
            if self._link:
                _link_to(self._link, os.ttyname(reader))
        except BaseException:
            os.close(writer)
            os.close(reader)
            raise
        self._fds = (writer, reader)
        return self._fds


def _led_to(link: Path) -> str:
    """What a symbolic link names; empty if the path is none."""
    return os.readlink(link) if link.is_symlink() else ""


def _link_to(link: Path, terminal: str) -> None:
    try:
        if Path(_led_to(link)).parent == Path(terminal).parent:
            link.unlink()
        link.symlink_to(terminal)
    except OSError as error:
        what = error.strerror or str(error)
        raise SettingsError(f"pty:{link}: {what}; a path that is free, or a link to a terminal, wanted") from error


class TcpOutlet:
    """A server for one client at a time."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            self._listener = socket.create_server((host, port))
        except (OSError, UnicodeError) as error:
            what = getattr(error, "strerror", None) or str(error)
            raise SettingsError(f"tcp:{host}:{port}: {what}; a free port of this machine wanted") from error
        self._listener.setblocking(False)
        self._client: socket.socket | None = None
        self.where = "tcp://{}:{}".format(*self._listener.getsockname()[:2])

    def send(self, chunk: bytes) -> None:
        """Send to the client, if there is one."""
        if self._client is None:
            with contextlib.suppress(BlockingIOError):
                self._client, _ = self._listener.accept()
                self._client.settimeout(1.0)
        if self._client is not None:
            try:
                self._client.sendall(chunk)
            except OSError:
                self.unplug()

    def unplug(self) -> None:
        """Close the client's connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        """End."""
        self.unplug()
        self._listener.close()


class UnixOutlet:
    """A socket at a path of this machine, for one client at a time: the USB plug of an emulated gateway.

    Gone while unplugged, so that nobody can connect. Little lies on the way to a client that does not read, as in a
    serial adapter; the rest is lost. What the client says is read and forgotten: a terminal that is just being opened
    echoes what it hears, and an emulator whose words nobody takes stands still, its processors too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self.where = f"unix:{path}"
        self._listen()

    def send(self, chunk: bytes) -> None:
        """Send what the client takes, if there is one."""
        with contextlib.suppress(BlockingIOError):
            if self._client is None:
                self._client, _ = self._listen().accept()
                self._client.setblocking(True)
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
                self._ear = threading.Thread(target=_hear, args=(self._client,), daemon=True)
                self._ear.start()
            try:
                self._client.sendall(chunk, socket.MSG_DONTWAIT)
            except ConnectionError:
                self._hang_up()

    def unplug(self) -> None:
        """Close the connection, and the place to connect to."""
        self._hang_up()
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)
        self._listener = None

    def close(self) -> None:
        """End."""
        self.unplug()

    def _hang_up(self) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):  # the client may have
                self._client.shutdown(socket.SHUT_RDWR)
            self._ear.join()
            self._client.close()
            self._client = None

    def _listen(self) -> socket.socket:
        if self._listener is None:
            listener = socket.socket(socket.AF_UNIX)
            try:
                self._forget_the_dead()
                listener.bind(str(self._path))
            except OSError as error:
                listener.close()
                raise SettingsError(f"unix:{self._path}: {error}; a path that is free and not long wanted") from error
            listener.listen(1)
            listener.setblocking(False)
            self._listener = listener
        return self._listener

    def _forget_the_dead(self) -> None:
        """Remove what a wearable that was killed left at the path."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self._path))
        except ConnectionRefusedError:
            if self._path.is_socket():
                self._path.unlink()
        except FileNotFoundError:
            pass


def _hear(client: socket.socket) -> None:
    """Read until the connection ends."""
    with contextlib.suppress(ConnectionError):
        while client.recv(65536):
            pass


def outlet(text: str) -> Outlet:
    """`pty`, `pty:LINK`, `tcp`, `tcp:PORT`, `tcp:HOST:PORT` or `unix:PATH`; raises SettingsError for another."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return UnixOutlet(Path(rest))
    if kind == "pty":
        return PtyOutlet(Path(rest) if rest else None)
    host, _, port = rest.rpartition(":")
    if kind != "tcp" or not (port or "0").isdecimal():
        raise SettingsError(f"--to is {text!r}; pty, pty:LINK, tcp, tcp:PORT, tcp:HOST:PORT or unix:PATH wanted")
    in_range("--to: port", int(port or 0), 0, 65535)
    return TcpOutlet(host or "127.0.0.1", int(port or 0))


def url(name: str, out: Outlet) -> str:
    """What a runtime opens to read such a device; raises SettingsError for a protocol that is not known."""
    if name in BLE_PROTOCOLS:
        raise SettingsError(
            f"protocol is {name!r}, which speaks over Bluetooth: that needs a radio and cannot be simulated on a port; "
            f"one of {', '.join(PROTOCOLS)} wanted"
        )
    if name not in PROTOCOLS:
        raise SettingsError(f"protocol is {name!r}; one of {', '.join(PROTOCOLS)} wanted")
    return "&".join(filter(None, (f"{out.where}?protocol={name}", PROTOCOLS[name].example)))


def play(
    name: str,
    source: Source,
    out: Outlet,
    faults: Faults,
    *,
    seed: int,
    speed: float,
    is_stopped: Callable[[], bool],
    clock: Callable[[], int],
    sleep: Callable[[float], None],
) -> int:
    """Play to the source's end or until stopped; returns the samples that were sent."""
    damaged, events = ByteFaults(faults, seed), Events(faults, seed)
    tick_s = TICK_S / (1.0 + faults.drift_ppm * 1e-6) / speed
    begun_ns, silent_until, away_until, n, held = clock(), 0.0, 0.0, 0, b""
    for tick, chunk, rows in encoded(name, source, faults, events):
        now_s = tick * TICK_S
        event = events.last
        silent_until = max(silent_until, now_s + event.stall_s) if event.stall_s else silent_until
        if event.unplug_s and now_s >= away_until:
            out.unplug()
            away_until, held = now_s + event.unplug_s, b""
        wait_s = (begun_ns - clock()) * 1e-9 + (tick + 1) * tick_s
        if wait_s > 0:
            sleep(wait_s)
        if is_stopped():
            break
        n += rows
        if now_s < away_until:
            continue
        held += damaged.feed(chunk)
        if now_s >= silent_until:
            out.send(held)
            held = b""
    return n


def encoded(name: str, source: Source, faults: Faults, events: Events) -> Iterator[tuple[int, bytes, int]]:
    """(number, bytes, rows) of each tenth of a second; `events.last` is what begins with it."""
    protocol = PROTOCOLS[name]
    spec = protocol.decoder(protocol.example).spec
    first = max(0, WRAPS.get(name, 0) - round(spec.rate_hz / 2)) if faults.wrap else 0
    off_until, done = 0.0, 0
    _refuse_lead_off(protocol, len(spec.channels), faults)
    for tick, millivolts in enumerate(_ticks(source, spec.rate_hz)):
        event = events.take()
        if event.leadoff_s:
            off_until = max(off_until, tick * TICK_S + event.leadoff_s)
        rows = _columns(millivolts, spec.channels, spec.unit.split(","), WIDER.get(name, 1.0))
        if tick * TICK_S < off_until:
            rows[:, 0] = np.nan
        yield tick, protocol.encode(rows, first + done) if len(rows) else b"", len(rows)
        done += len(rows)


def _refuse_lead_off(protocol: Protocol, n: int, faults: Faults) -> None:
    row = np.full((1, n), 1.0, np.float32)
    row[0, 0] = np.nan
    try:
        if faults.leadoff:
            protocol.encode(row, 0)
    except ValueError as error:
        raise SettingsError(f"{protocol.name}: cannot say that a lead is off; leave leadoff out") from error


def _columns(millivolts: Float64Array, channels: tuple[str, ...], units: list[str], wider: float) -> Float32Array:
    out = np.empty((len(millivolts), len(channels)), np.float32)
    for i, channel in enumerate(channels):
        unit = units[i] if len(units) == len(channels) else units[0]
        if channel in NUMBERS:
            out[:, i] = NUMBERS[channel]
        elif unit in ("mV", "uV"):
            out[:, i] = millivolts * (1000.0 if unit == "uV" else 1.0)
        else:
            middle, gain, most = COUNTS.get(channel, USUAL_COUNT)
            out[:, i] = np.clip(np.round(wider * (middle + gain * millivolts)), 0.0, wider * most)
    return out


def _ticks(source: Source, rate_hz: float) -> Iterator[Float64Array]:
    """The source's first channel at another rate, a tenth of a second at a time; between samples a straight line."""
    step = source.spec.rate_hz / rate_hz
    held, begin, tick, n_out = np.zeros(0), 0, 0, 0
    for block in source.blocks():
        held = np.concatenate([held, np.nan_to_num(block.samples[:, 0].astype(np.float64))])
        while True:
            stop = math.floor((tick + 1) * TICK_S * rate_hz + 1e-9)
            at = np.arange(n_out, stop) * step - begin
            if len(at) and at[-1] > len(held) - 1:
                break
            yield np.interp(at, np.arange(len(held)), held) if len(at) else np.zeros(0)
            tick, n_out = tick + 1, stop
            passed = max(0, math.floor(n_out * step) - begin - 1)
            held, begin = held[passed:], begin + passed
            if len(held) < 2:
                break
