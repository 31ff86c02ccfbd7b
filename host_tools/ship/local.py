"""The transport to this machine: the same programs as on a device, as child processes."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from host_tools.ship.errors import ShipError
from host_tools.ship.transport import NOT_FOUND, Completed


class LocalTransport:
    """Runs programs here; see `Transport`."""

    lease_s = 0.0

    def run(
        self, argv: Sequence[str], stdin: Iterable[bytes] = (), *, timeout_s: float | None = None
    ) -> Completed:
        """See `Transport.run`."""
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=Path.home(),
            )
        except FileNotFoundError:
            return Completed(NOT_FOUND, b"", f"{argv[0]}: not found".encode())
        feeder = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
        with process:
            feeder.start()
            try:
                out, err = _collect(process, timeout_s)
            except subprocess.TimeoutExpired as error:
                raise ShipError(f"local: {argv[0]} did not end within {timeout_s:g} s") from error
            finally:
                if process.poll() is None:
                    process.kill()
                feeder.join()
        return Completed(process.returncode, out, err)

    @contextlib.contextmanager
    def hold(self, argv: Sequence[str]) -> Iterator[bytes]:
        """See `Transport.hold`; should this process die, the system ends the program's input."""
        with subprocess.Popen(list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                yield process.stdout.readline() if process.stdout else b""
            finally:
                if process.stdin:
                    process.stdin.close()
                process.wait()

    def close(self) -> None:
        """Nothing is held open."""


def _feed(process: subprocess.Popen[bytes], stdin: Iterable[bytes]) -> None:
    if process.stdin is None:
        return
    # A program that ends early says why through its exit status, not through a broken pipe.
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        for chunk in stdin:
            pipe.write(chunk)


def _collect(process: subprocess.Popen[bytes], timeout_s: float | None) -> tuple[bytes, bytes]:
    """Everything the program writes, read from both pipes at once, until it ends."""
    err: list[bytes] = []
    out: list[bytes] = []
    readers = [
        threading.Thread(target=lambda: out.append(process.stdout.read() if process.stdout else b"")),
        threading.Thread(target=lambda: err.append(process.stderr.read() if process.stderr else b"")),
    ]
    for reader in readers:
        reader.start()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    finally:
        for reader in readers:
            reader.join()
    return b"".join(out), b"".join(err)
