"""What the streams of this machine have come to: each running one's ledger, kept where `edge-runtime info` finds it."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from edge_runtime.contract.errors import one_line
from edge_runtime.contract.signal import Ledger

log = logging.getLogger(__name__)


class Running(Protocol):
    """A pipeline, as far as its ledger is told."""

    def so_far(self) -> Ledger:
        """The ledger as if the stream ended now."""


def notes_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where notes lie: in memory where the system offers it (systemd, a login), else in the temporary folder."""
    if environment.get("RUNTIME_DIRECTORY"):
        return Path(environment["RUNTIME_DIRECTORY"].split(":")[0])
    if environment.get("XDG_RUNTIME_DIR"):
        return Path(environment["XDG_RUNTIME_DIR"]) / "vitaledge"
    return Path(environment.get("TMPDIR") or "/tmp") / f"vitaledge-{os.getuid()}"


class StreamNote:
    """A stream's ledger in a file of its own, written anew now and then; a folder that cannot be written is said once.

    The last ledger of a source stays until it runs again.
    """

    def __init__(self, source: str, bundle: str, folder: Path) -> None:
        self._path = folder / f"stream-{zlib.crc32(source.encode()):08x}.json"
        self._facts = {"source": source, "bundle": bundle, "pid": os.getpid()}
        self._running: Running | None = None
        self._is_lost = False

    def follow(self, running: Running) -> None:
        """Tell of this pipeline from now on."""
        self._running = running

    def beside(self, notify: Callable[[str], None]) -> Callable[[str], None]:
        """`notify` for a service, which calls it every few seconds and at its end; each time the ledger is noted."""

        def both(state: str) -> None:
            notify(state)
            self.write()

        return both

    def write(self) -> None:
        """Note the ledger as it is now."""
        if self._running is None or self._is_lost:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._path.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps(self._facts | self._running.so_far().to_json()))
            new.replace(self._path)
        except OSError as error:
            self._is_lost = True
            log.info("`edge-runtime info` will not show this stream's ledger: %s", one_line(error))


def noted_streams(folder: Path, proc: Path = Path("/proc")) -> list[dict[str, object]]:
    """The notes of a folder, each with whether its process still runs; what is no note is left out."""
    found: list[dict[str, object]] = []
    for path in sorted(folder.glob("stream-*.json")):
        try:
            note = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(note, dict) and {"source", "bundle", "pid"} <= note.keys():
            found.append(note | {"is_running": (proc / str(note["pid"])).is_dir()})
    return found
