"""Source `stdin:?protocol=...`: a wearable's bytes from another program, to their end."""

from __future__ import annotations

import os
import select
import sys

from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.sensors.bytestream import ByteSource, Recorder
from edge_runtime.sensors.playback import Pace
from edge_runtime.sensors.wired import parse_wired

READ_TIMEOUT_S = 0.2
CHUNK_BYTES = 65536


class FileLink:
    """A file descriptor as a link; it stays with whoever opened it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self) -> bytes | None:
        """What is there; waits READ_TIMEOUT_S at most; None at the end."""
        if not select.select([self._fd], [], [], READ_TIMEOUT_S)[0]:
            return b""
        return os.read(self._fd, CHUNK_BYTES) or None

    def close(self) -> None:
        """Read no more."""


def open_stdin(path: str, query: str, pace: Pace, recorder: Recorder | None = None) -> ByteSource:
    """Read standard input; chunks are stamped as they arrive, so a file that is piped in plays as one burst."""
    wired = parse_wired(query, "stdin")
    if path not in ("", "-"):
        raise SettingsError(f"stdin:{path}: a path is given; stdin:?protocol=NAME wanted")
    if sys.stdin is None:  # so Python says that the descriptor was closed at its start
        raise SourceError("stdin: it is closed; bytes from a file or another program wanted")
    return ByteSource("stdin", FileLink(sys.stdin.fileno()), wired, pace.clock, recorder)
