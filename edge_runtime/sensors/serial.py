"""Source `serial:///dev/ttyUSB0?protocol=csv&rate_hz=250`: a wearable on a port; alone imports pyserial."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.sensors.csvlines import CsvLines
from edge_runtime.sensors.lost import SourceLost
from edge_runtime.sensors.options import in_range, parse_options
from edge_runtime.sensors.playback import Pace

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.2
SILENCE_S = 1.0
MEASURED_S = 10.0
RATE_TOLERANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class SerialOptions:
    """mV = (number - offset) * scale; `column` and `counter` as in CsvLines."""

    protocol: Literal["csv"]
    rate_hz: float
    column: int = 0
    scale: float = 1.0
    offset: float = 0.0
    counter: int | None = None
    counter_wrap: int | None = None
    baud: int = 115200
    channel: str = "ECG"


class Port(Protocol):
    """What is used of pyserial's ports."""

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer after the port's own timeout."""

    def close(self) -> None:
        """Give the port back."""


def open_serial(path: str, query: str, pace: Pace) -> SerialSource:
    """Open a port: `///dev/NAME`, or another URL that pyserial knows (`socket://host:port`).

    Raises SourceError if the port cannot be opened or pyserial is not installed.
    """
    name = path.removeprefix("//")
    where = f"serial://{name}"
    if not name:
        raise SettingsError(f"{where}: no port; serial:///dev/NAME?protocol=csv&rate_hz=250 wanted")
    options = parse_options(SerialOptions, query, where)
    _check(options, where)
    set_latency_timer(name)
    return SerialSource(where, options, _port(name, options.baud), pace.clock)


class SerialSource:
    """Samples from a port as they arrive.

    rate_hz is the sensor's promise: what arrives is measured over `measured_s`, and a stream at another rate
    is refused, for every time and heart rate would be wrong. `measured_rate_hz` is NaN until then.
    """

    def __init__(
        self,
        where: str,
        options: SerialOptions,
        port: Port,
        clock: Callable[[], int],
        measured_s: float = MEASURED_S,
    ) -> None:
        self.spec = StreamSpec(rate_hz=options.rate_hz, channels=(options.channel,))
        self.measured_rate_hz = math.nan
        self.lines = CsvLines(
            options.rate_hz,
            column=options.column,
            scale=options.scale,
            offset=options.offset,
            counter=options.counter,
            counter_wrap=options.counter_wrap,
        )
        self._where, self._port, self._clock, self._measured_s = where, port, clock, measured_s
        self._has_counter = options.counter is not None
        self._next = self._skipped = self._n_bytes = 0
        self._last_ns: int | None = None
        self._measured_from: tuple[int, int] | None = None  # time, counter
        self._is_closed = False

    def blocks(self) -> Iterator[Block]:
        """Blocks as they arrive, an empty one after a read that brought none; SourceLost when unplugged."""
        while not self._is_closed:
            chunk = self._read()
            t_ns = self._clock()
            blocks = self._decoded(chunk, t_ns) if chunk else []
            if not blocks:
                yield Block(start=self._next, samples=np.zeros((0, 1), np.float32), t_ns=t_ns)
            yield from blocks
            if chunk:
                self._check_rate(t_ns)

    def close(self) -> None:
        """Close the port."""
        self._is_closed = True
        self._port.close()

    def _read(self) -> bytes:
        try:
            return bytes(self._port.read(max(1, self._port.in_waiting)))
        except (OSError, TypeError) as error:  # pyserial reads from None where a port went away under it
            raise SourceLost(f"{self._where}: the port went away ({error}); plug the sensor in again") from error

    def _decoded(self, chunk: bytes, t_ns: int) -> list[Block]:
        blocks = self.lines.feed(chunk, t_ns)
        silence_s = 0.0 if self._last_ns is None else (t_ns - self._last_ns) * 1e-9
        self._last_ns, self._n_bytes = t_ns, self._n_bytes + len(chunk)
        if silence_s >= SILENCE_S:
            self._measured_from = None
            if not self._has_counter:
                # Samples that the system kept for us meanwhile are in this chunk; the rest never came.
                came = sum(len(b.samples) for b in blocks)
                missing = round(silence_s * self.spec.rate_hz) - came
                self._skipped += missing if missing > 0.5 * self.spec.rate_hz else 0
        shifted = [Block(start=b.start + self._skipped, samples=b.samples, t_ns=t_ns) for b in blocks]
        self._next = shifted[-1].stop if shifted else self._next
        return shifted

    def _check_rate(self, t_ns: int) -> None:
        if self._measured_from is None:
            self._measured_from = (t_ns, self._next)
            return
        seconds = (t_ns - self._measured_from[0]) * 1e-9
        if seconds < self._measured_s:
            return
        if self.lines.good == 0:
            found = "no line" if self.lines.columns is None else f"lines of {self.lines.columns} numbers"
            raise SourceError(
                f"{self._where}: {self._n_bytes} bytes in {seconds:.0f} s hold {found} that can be used; "
                "check protocol, baud, column and counter"
            )
        declared = self.spec.rate_hz
        self.measured_rate_hz = (self._next - self._measured_from[1]) / seconds
        self._measured_from = (t_ns, self._next)
        if abs(self.measured_rate_hz - declared) > RATE_TOLERANCE * declared:
            raise SourceError(
                f"{self._where}: rate_hz={declared:g} was declared, {self.measured_rate_hz:.1f} Hz arrive; "
                "correct rate_hz, or the sensor's settings"
            )


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


def _check(options: SerialOptions, where: str) -> None:
    in_range(f"{where}: rate_hz", options.rate_hz, 1.0, 1e5)
    in_range(f"{where}: baud", options.baud, 50, 4_000_000)
    in_range(f"{where}: column", options.column, 0, 63)
    in_range(f"{where}: scale", options.scale, -1e9, 1e9)
    in_range(f"{where}: offset", options.offset, -1e12, 1e12)
    if options.counter is not None:
        in_range(f"{where}: counter", options.counter, 0, 63)
    if options.counter_wrap is not None:
        in_range(f"{where}: counter_wrap", options.counter_wrap, 2, 2**64)


def _port(name: str, baud: int) -> Port:
    try:
        import serial
    except ImportError as error:
        raise SourceError(f"serial://{name}: the pyserial package is not installed here") from error
    try:
        port: Port = serial.serial_for_url(name, baudrate=baud, timeout=READ_TIMEOUT_S, exclusive=True)
    except (OSError, ValueError) as error:
        raise SourceLost(f"serial://{name}: cannot be opened ({error})") from error
    return port
