"""A wearable's bytes with their times of arrival in a file (.vcap), and source `replay:FILE.vcap` that plays them.

    "vitalcap"  8 bytes
    u32         length of the header
    header      JSON: schema 1, protocol, options (as in a URL, without those of the port)
    records     u64 monotonic arrival in ns, u32 length, so many bytes; length 0xFFFFFFFF: a connection begins here

All numbers are little-endian. A record that the end of the file cuts is left out, and said.
"""

from __future__ import annotations

import json
import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edge_runtime.contract.errors import SourceError, one_line
from edge_runtime.contract.signal import Block
from edge_runtime.contract.strict import build
from edge_runtime.sensors.ble_protocols import BLE_PROTOCOLS
from edge_runtime.sensors.bytestream import Connection
from edge_runtime.sensors.options import parse_options
from edge_runtime.sensors.playback import Pace
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.timeline import Timeline
from edge_runtime.sensors.wired import Wired, parse_wired

log = logging.getLogger(__name__)

MAGIC, SCHEMA = b"vitalcap", 1
LENGTH, RECORD = struct.Struct("<I"), struct.Struct("<QI")
BEGINS = 0xFFFFFFFF
MAX_HEADER_BYTES, MAX_CHUNK_BYTES = 65536, 2**24
SLICE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Header:
    """How the bytes are to be decoded."""

    schema: int
    protocol: str
    options: str


@dataclass(frozen=True)
class Record:
    """What happened at `t_ns`: a chunk arrived, or (None) a connection began."""

    t_ns: int
    chunk: bytes | None


class CaptureWriter:
    """Recorder into a new file; every record leaves at once, so a crash tears the last one at most.

    Raises OSError if the file is there already or cannot be made. A disk that fills up later ends the capture with
    a warning, not the stream.
    """

    def __init__(self, path: Path) -> None:
        self.n_bytes = 0
        self._path = path
        self._file: BinaryIO | None = path.open("xb", buffering=0)
        self._header: Header | None = None

    def begin(self, t_ns: int, protocol: str, options: str) -> None:
        """A connection begins; the first one's protocol is the file's."""
        header = Header(schema=SCHEMA, protocol=protocol, options=options)
        if self._header is None:
            self._header = header
            text = json.dumps(asdict(header)).encode()
            self._put(MAGIC + LENGTH.pack(len(text)) + text)
        if header != self._header:
            raise SourceError(f"{self._path}: a connection of {header} follows; {self._header} wanted")
        self._put(RECORD.pack(t_ns, BEGINS))

    def write(self, t_ns: int, chunk: bytes) -> None:
        """Take a chunk down."""
        for at in range(0, len(chunk), MAX_CHUNK_BYTES):
            part = chunk[at : at + MAX_CHUNK_BYTES]
            self._put(RECORD.pack(t_ns, len(part)) + part)

    def close(self) -> None:
        """Close the file; one that nothing was written to goes away."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self.n_bytes == 0:
            self._path.unlink(missing_ok=True)

    def _put(self, what: bytes) -> None:
        if self._file is None:
            return
        try:
            left = memoryview(what)
            while left:
                left = left[self._file.write(left) :]
            self.n_bytes += len(what)
        except OSError as error:
            log.warning("%s: the capture ends here: %s", self._path, one_line(error))
            self._file.close()
            self._file = None


def read_capture(path: Path) -> tuple[Header, Iterator[Record]]:
    """Header and records of a capture.

    Raises SourceError naming the file if it is missing, no capture, newer than this reader, or damaged (there,
    when the records are read); a torn last record is left out with a warning.
    """
    try:
        with path.open("rb") as file:
            header, begin = _header(path, file), file.tell()
    except OSError as error:
        raise SourceError(one_line(error)) from error
    return header, _records(path, begin)


def _header(path: Path, file: BinaryIO) -> Header:
    head = file.read(len(MAGIC) + LENGTH.size)
    if not head.startswith(MAGIC) or len(head) < len(MAGIC) + LENGTH.size:
        raise SourceError(f"{path}: begins with {head[:8]!r}; a capture begins with {MAGIC!r}")
    (length,) = LENGTH.unpack(head[len(MAGIC) :])
    text = file.read(min(length, MAX_HEADER_BYTES))
    try:
        table = json.loads(text) if len(text) == length else None
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise SourceError(f"{path}: its header of {length} bytes is damaged")
    schema = table.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise SourceError(f"{path}: schema is {schema}; this reader knows {SCHEMA}: use a newer runtime")
    return build(Header, table, str(path), SourceError)


def _records(path: Path, begin: int) -> Iterator[Record]:
    last_ns = 0
    with path.open("rb") as file:
        file.seek(begin)
        while head := file.read(RECORD.size):
            at = file.tell() - len(head)
            if len(head) < RECORD.size:
                _say_torn(path, at, len(head))
                return
            t_ns, length = RECORD.unpack(head)
            if t_ns < last_ns or (length != BEGINS and length > MAX_CHUNK_BYTES):
                raise SourceError(f"{path}: the record at byte {at} is damaged ({length} bytes, {t_ns} ns)")
            last_ns = t_ns
            if length == BEGINS:
                yield Record(t_ns, None)
                continue
            chunk = file.read(length)
            if len(chunk) < length:
                _say_torn(path, at, len(head) + len(chunk))
                return
            yield Record(t_ns, chunk)


def _say_torn(path: Path, at: int, n: int) -> None:
    log.warning("%s: the last record, at byte %d, is torn: %d bytes left out", path, at, n)


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """How fast; protocol and options are the capture's own."""

    speed: float | None = None


def open_replay(path: str, query: str, pace: Pace) -> Replay:
    """Open a capture to play it; raises SourceError if it cannot be read."""
    pace = pace.at(parse_options(ReplayOptions, query, f"replay:{path}").speed)
    header, records = read_capture(Path(path))
    options = f"protocol={header.protocol}" + ("&" if header.options else "") + header.options
    return Replay(path, parse_wired(options, path, {**PROTOCOLS, **BLE_PROTOCOLS}), records, pace)


class Replay:
    """Source that gives the blocks which the live run saw: the same bytes, cut in the same places.

    Times of arrival are the recorded ones wherever something is measured by them. Blocks carry the times fitted to
    them, moved to now where it is paced, and 0 where it is not.
    """

    def __init__(self, where: str, wired: Wired, records: Iterator[Record], pace: Pace) -> None:
        self._where, self._wired, self._records, self._pace = where, wired, records, pace
        self.spec = wired.decoder().spec
        self._is_closed = False

    def blocks(self) -> Iterator[Block]:
        """All blocks, reconnections on one counter; SourceError at the end of bytes without a sample."""
        timeline = Timeline(self.spec.rate_hz)
        connection = Connection(self._where, self._wired)
        begun: tuple[int, int] | None = None  # recorded, now
        n_blocks, useless = 0, ""
        for record in self._records:
            if begun is None:
                begun = (record.t_ns, self._pace.clock())
            if self._is_closed:
                return
            if record.chunk is None:
                timeline.interrupt()
                useless = connection.useless() or useless
                connection = Connection(self._where, self._wired)
                continue
            due_ns = self._due(record.t_ns, *begun)
            yield from self._waited(due_ns, connection.next)
            for block in connection.feed(record.chunk, record.t_ns):
                n_blocks += 1
                placed = timeline.place(block, record.t_ns)
                yield replace(placed, t_ns=self._due(placed.t_ns, *begun))
            connection.check_rate(record.t_ns)
        useless = connection.useless() or useless
        if useless and not n_blocks:
            raise SourceError(f"{self._where}: {useless}")

    def close(self) -> None:
        """End `blocks`."""
        self._is_closed = True
        close = getattr(self._records, "close", None)
        if close is not None:
            close()

    def _due(self, t_ns: int, first_ns: int, begun_ns: int) -> int:
        """When the record is due; 0 where nothing is paced."""
        if math.isinf(self._pace.speed):
            return 0
        return begun_ns + round((t_ns - first_ns) / self._pace.speed)

    def _waited(self, due_ns: int, position: int) -> Iterator[Block]:
        """Wait; a block without samples now and then, so that the consumer can stop."""
        while due_ns and not self._is_closed and (left_ns := due_ns - self._pace.clock()) > 0:
            self._pace.sleep(min(SLICE_S, left_ns / 1e9))
            yield Block(start=position, samples=np.zeros((0, len(self.spec.channels)), np.float32), t_ns=due_ns)
