"""The transport to this machine: the same programs as on a device, as child processes."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from host_tools.ship.errors import ShipError
from host_tools.ship.transport import NOT_FOUND, Completed


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

    @contextlib.contextmanager
    def hold(self, argv: Sequence[str]) -> Iterator[bytes]:
        """See `Transport.hold`; should this process die, the system ends the program's input."""
        with _start(argv) as process:
            try:
                yield process.stdout.readline() if process.stdout else b""
            finally:
                # Ends the program's input; `with` then waits for the program.
                process.communicate()

    def close(self) -> None:
        """Nothing is held open."""


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
