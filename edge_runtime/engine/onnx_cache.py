"""Graphs as this device's engine optimized them, kept so that the next start need not do it again.

The work depends on processor, engine and settings, so these are part of an entry's name, and so is the sha256 of its
content: what is damaged is thrown away and made anew. A folder that cannot be written is done without. Entries lie
outside of the bundle, which stays as it was signed.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.contract.errors import EngineError
from edge_runtime.contract.sha256 import sha256_hex

KEPT_ENTRIES = 16
SUFFIX = ".onnx"

# path of a graph, where to keep what it was optimized to (or None) -> a session
Open = Callable[..., Any]


def processor(root: Path = Path("/")) -> str:
    """What the optimized form depends on: machine, model and instructions of the first processor."""
    lines = []
    with contextlib.suppress(OSError), (root / "proc/cpuinfo").open() as file:
        for line in file:
            if not line.strip():
                break
            if line.startswith(("model name", "flags", "Features", "CPU part", "CPU implementer")):
                lines.append(line)
    return platform.machine() + "".join(lines)


class ModelCache:
    """A folder of optimized graphs."""

    def __init__(self, folder: Path, processor: str) -> None:
        self._folder, self._processor = folder, processor

    def open(self, key: tuple[object, ...], path: Path, open_session: Open) -> Any:
        """A session over the kept form of the graph at `path`, or over the graph, whose optimized form is then kept."""
        name = sha256_hex(repr((self._processor, *key)).encode())[:24]
        for kept in sorted(self._folder.glob(f"{name}-*{SUFFIX}")):
            with contextlib.suppress(EngineError):
                if _is_whole(kept):
                    return open_session(kept, None, is_optimized=True)
            with contextlib.suppress(OSError):
                kept.unlink()
        draft = self._folder / f".{name}-{os.getpid()}{SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.touch()
        except OSError:
            return open_session(path, None)
        try:
            session = open_session(path, draft)
            os.replace(draft, self._folder / f"{name}-{_sha256(draft)}{SUFFIX}")
            self._drop_oldest()
        finally:
            draft.unlink(missing_ok=True)
        return session

    def _drop_oldest(self) -> None:
        entries = sorted(self._folder.glob(f"*-*{SUFFIX}"), key=lambda p: p.stat().st_mtime)
        for old in entries[:-KEPT_ENTRIES]:
            old.unlink(missing_ok=True)


def _is_whole(kept: Path) -> bool:
    try:
        return kept.stem.rpartition("-")[2] == _sha256(kept)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    return sha256_hex(path.read_bytes())
