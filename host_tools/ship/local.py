"""The transport to this machine: the same programs as on a device, as child processes."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from host_tools.ship.errors import ShipError
from host_tools.ship.transport import NOT_FOUND, Completed

CHUNK = 1 << 18


class LocalTransport:
    """Runs programs here; see `Transport`."""

    lease_s = 0.0

    def run(self, argv: Sequence[str], stdin: Iterable[bytes] = (), *, timeout_s: float | None = None) -> Completed:
        """See `Transport.run`."""
        try:
            process = _start(argv)
        except FileNotFoundError:
            return Completed(NOT_FOUND, b"", f"{argv[0]}: not found".encode())
        with process, ThreadPoolExecutor(3) as threads:
            fed = threads.submit(_feed, process.stdin, stdin)
            out, err = threads.submit(_read, process.stdout), threads.submit(_read, process.stderr)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired as error:
                raise ShipError(f"local: {argv[0]} did not end within {timeout_s:g} s") from error
            finally:
                if process.poll() is None:
                    process.kill()
            fed.result()
            return Completed(process.returncode, out.result(), err.result())

    def talk(self, argv: Sequence[str], sign_of_life: bytes) -> LocalTalk:
        """See `Transport.talk`; should this process die, the system ends the program's input."""
        return LocalTalk(argv)

    def close(self) -> None:
        """Nothing is held open."""


class LocalTalk:
    """See `Talk`."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._rest = b""
        # Not a pipe: nobody reads it while the program runs.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        pipe = subprocess.PIPE
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(FileNotFoundError):
            self._process = subprocess.Popen(
                list(argv), stdin=pipe, stdout=pipe, stderr=self._errors, bufsize=0, cwd=Path.home()
            )

    def exchange(self, frames: Iterable[bytes]) -> bytes:
        """See `Talk.exchange`."""
        out = self._output()
        for number, frame in enumerate(frames):
            # What is there before anything was asked is no answer: a helper says hello as soon as it runs.
            if number and (self._rest or out is None or select.select([out], [], [], 0)[0]):
                break
            try:
                self._write(frame)
            except BrokenPipeError:
                break
        while out is not None and b"\n" not in self._rest:
            part = os.read(out, CHUNK)
            if not part:
                return b""
            self._rest += part
        line, end, self._rest = self._rest.partition(b"\n")
        return line + end

    def read(self, n_bytes: int) -> bytes:
        """See `Talk.read`."""
        parts, self._rest = [self._rest[:n_bytes]], self._rest[n_bytes:]
        left, out = n_bytes - len(parts[0]), self._output()
        while left and out is not None and (part := os.read(out, min(left, CHUNK))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def close(self) -> Completed:
        """See `Talk.close`."""
        if self._process is None:
            self._errors.close()
            return Completed(NOT_FOUND, b"", b"not found")
        with self._process as process:
            # `communicate` would wait for what it does not own: a child of the program may hold the pipes.
            if process.stdin:
                process.stdin.close()
            rc = process.wait()
        if self._errors.closed:
            return Completed(rc, self._rest, b"")
        with self._errors:
            self._errors.seek(0)
            return Completed(rc, self._rest, self._errors.read())

    def _write(self, frame: bytes) -> None:
        view = memoryview(frame)
        while view and self._process and self._process.stdin:
            view = view[self._process.stdin.write(view) :]

    def _output(self) -> int | None:
        return self._process.stdout.fileno() if self._process and self._process.stdout else None


def _start(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe, cwd=Path.home())


def _feed(pipe: IO[bytes] | None, stdin: Iterable[bytes]) -> None:
    if pipe is None:
        return
    with contextlib.suppress(BrokenPipeError), contextlib.closing(pipe):
        for chunk in stdin:
            try:
                pipe.write(chunk)
            except BrokenPipeError:
                # A program that ends early says why through its exit status.
                return


def _read(pipe: IO[bytes] | None) -> bytes:
    return pipe.read() if pipe else b""
