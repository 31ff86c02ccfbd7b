"""Runs on the device for as long as a host is connected: answers verbs, one after the other.

Standard library only. The host starts it (`helper.py`), sends it this source and those of the verbs, then frames:
one byte of kind, four of length, the contents. V asks a verb (JSON), D is a piece of the body that follows some
verbs, E ends the body, X breaks it off, H is a sign of life. Each verb is answered by one line of JSON: its result,
or {"error": ..., "errno": ...}. The loop ends with its input, or when a lock's owner shows no life.
"""

from __future__ import annotations

import errno
import json
import os
import select
import struct
import sys
import time
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

HEAD = struct.Struct(">cI")
LARGEST = 1 << 26


class RefusedError(Exception):
    """What was received is not what was announced, or what was asked for cannot be."""


class EndedError(Exception):
    """The host has gone."""


class Frames:
    """Frames from standard input; `lease_s` of silence, unless 0, end the program."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._pushed: tuple[bytes, bytes] | None = None
        self.lease_s = 0.0

    def next(self) -> tuple[bytes, bytes]:
        """The next frame that is no sign of life."""
        if self._pushed is not None:
            pushed, self._pushed = self._pushed, None
            return pushed
        while True:
            kind, n_bytes = HEAD.unpack(self._read(HEAD.size))
            if n_bytes > LARGEST:
                raise EndedError
            contents = self._read(n_bytes)
            if kind != b"H":
                return kind, contents

    def body(self) -> Iterator[bytes]:
        """The pieces of a verb's body."""
        while True:
            kind, contents = self.next()
            if kind == b"D":
                yield contents
            elif kind == b"E":
                return
            else:
                raise RefusedError("the transfer was broken off")

    def skip_body(self) -> None:
        """Forget the rest of a body whose verb has failed; the next verb ends it, too."""
        while True:
            kind, contents = self.next()
            if kind in b"EX":
                return
            if kind == b"V":
                self._pushed = kind, contents
                return

    def _read(self, n_bytes: int) -> bytes:
        parts = []
        while n_bytes:
            if not select.select([self._source], [], [], self.lease_s or None)[0]:
                raise EndedError
            part = os.read(self._source, min(n_bytes, 1 << 20))
            if not part:
                raise EndedError
            parts.append(part)
            n_bytes -= len(part)
        return b"".join(parts)


class Loop:
    """Verbs by name, and what a verb may need of the loop: the body, the lock."""

    def __init__(self, verbs: dict[str, Callable[..., Any]], frames: Frames) -> None:
        self.frames = frames
        self._verbs: dict[str, Callable[..., Any]] = {
            **verbs,
            "load": self.load,
            "lock": self.lock,
            "unlock": self.unlock,
        }
        self._lock: int | None = None

    def run(self) -> None:
        """Answer until the input ends."""
        while True:
            kind, contents = self.frames.next()
            if kind == b"V":
                self._answer(json.loads(contents))

    def _answer(self, asked: dict[str, Any]) -> None:
        extra = {"body": self.frames.body()} if asked["body"] else {}
        started = time.monotonic_ns()
        answer: Any
        try:
            answer = self._verbs[asked["verb"]](**asked["arguments"], **extra)
        except RefusedError as error:
            answer = {"error": str(error), "errno": 0}
        except (OSError, zlib.error, EOFError) as error:
            answer = {"error": str(error), "errno": getattr(error, "errno", None) or errno.EIO}
        if isinstance(answer, types.GeneratorType):
            for part in answer:
                write_all(part)
            return
        write_all(json.dumps({**answer, "took_ns": time.monotonic_ns() - started}).encode() + b"\n")
        if extra and "error" in answer:
            self.frames.skip_body()

    def load(self, body: Iterator[bytes]) -> dict[str, Any]:
        """More verbs."""
        self._verbs.update(loaded(json.loads(zlib.decompress(b"".join(body)))))
        return {}

    def lock(self, root: str, owner: str, lease_s: float) -> dict[str, Any]:
        """Hold the root until `unlock`, the end of the program, or `lease_s` of silence."""
        import fcntl

        require_place(root)
        os.makedirs(root, exist_ok=True)
        handle = os.open(os.path.join(root, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
        # A deployment whose host was killed a moment ago is letting go just now.
        patience = time.monotonic() + 2.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > patience:
                    who = os.read(handle, 500).decode("utf-8", "replace").strip()
                    os.close(handle)
                    raise RefusedError(f"another deployment or bench is under way ({who}); wait for its end") from None
                time.sleep(0.05)
        os.ftruncate(handle, 0)
        os.write(handle, owner.encode())
        self._lock, self.frames.lease_s = handle, lease_s
        return {"locked": True}

    def unlock(self) -> dict[str, Any]:
        """Let go of the root."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock, self.frames.lease_s = None, 0.0
        return {}


def require_place(root: str) -> None:
    """Raises RefusedError where no folder is, or can be made, since something else lies there or above it."""
    above = root
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise RefusedError(f"{above} is no folder; a folder wanted at {root}: choose another root folder")


def write_all(data: bytes) -> None:
    """To standard output, whole."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def loaded(modules: list[tuple[str, str]]) -> dict[str, Callable[..., Any]]:
    """The verbs of some sources."""
    verbs: dict[str, Callable[..., Any]] = {}
    for name, source in modules:
        module = sys.modules[f"host_tools.ship.{name}"] = types.ModuleType(f"host_tools.ship.{name}")
        exec(compile(source, name, "exec"), module.__dict__)
        verbs.update(module.__dict__.get("VERBS", {}))
    return verbs


def serve(modules: list[tuple[str, str]]) -> None:
    """Answer the verbs of some sources, which import this one by the name that it has on the host."""
    for name in ("host_tools", "host_tools.ship", "host_tools.ship.device_loop"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    sys.modules["host_tools.ship.device_loop"].__dict__.update(globals())
    try:
        Loop(loaded(modules), Frames(0)).run()
    except (EndedError, BrokenPipeError):
        # Nothing is left to be told to anybody.
        os._exit(0)
