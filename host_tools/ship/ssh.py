"""The transport over SSH: asyncssh on a thread of its own behind plain calls; strict host keys, always."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import threading
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import TypeVar

import asyncssh

from host_tools.ship.errors import LinkError, ShipError
from host_tools.ship.options import ShipOptions
from host_tools.ship.ssh_trust import HostKeyWatch, client_options, explain, new_known_hosts
from host_tools.ship.targets import SshTarget
from host_tools.ship.transport import Completed

log = logging.getLogger(__name__)
T = TypeVar("T")


class SshTransport:
    """One SSH connection; see `Transport`. The constructor connects or raises ShipError."""

    def __init__(self, target: SshTarget, options: ShipOptions) -> None:
        self._name = str(target)
        self._options = options
        # The far end misses several heartbeats before it gives up a held program.
        self.lease_s = 6.0 * options.keepalive_s
        self._loop = asyncio.new_event_loop()
        # A cut link ends tasks inside asyncssh that nobody awaits; what they say is known already.
        self._loop.set_exception_handler(lambda _, context: log.debug("ssh: %s", context.get("message")))
        self._thread = threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True)
        self._thread.start()
        self._connection: asyncssh.SSHClientConnection | None = None
        try:
            self._connection = self._wait(self._connect(target))
        except BaseException:
            self.close()
            raise

    async def _connect(self, target: SshTarget) -> asyncssh.SSHClientConnection:
        watch = HostKeyWatch(new_known_hosts(self._options) if self._options.accept_new else None)
        arguments, settings, trusted = client_options(target, self._options, watch)
        try:
            return await asyncio.wait_for(asyncssh.connect(**arguments), self._options.connect_timeout_s + 1.0)
        except (OSError, asyncssh.Error, ValueError) as error:
            raise explain(error, target, settings, trusted, watch) from error

    def run(self, argv: Sequence[str], stdin: Iterable[bytes] = (), *, timeout_s: float | None = None) -> Completed:
        """See `Transport.run`."""
        return self._wait(self._run(argv, stdin, timeout_s))

    async def _run(self, argv: Sequence[str], stdin: Iterable[bytes], timeout_s: float | None) -> Completed:
        process = await self._start(argv)
        feeder = asyncio.ensure_future(_feed(process, stdin))
        try:
            done = await asyncio.wait_for(process.wait(), timeout_s)
        except asyncio.TimeoutError as error:
            with contextlib.suppress(OSError, asyncssh.Error):
                process.kill()
            process.close()
            raise ShipError(f"{self._name}: {argv[0]} did not end within {timeout_s:g} s") from error
        except (OSError, asyncssh.Error) as error:
            raise self._cut() from error
        finally:
            feeder.cancel()
            fed = await asyncio.gather(feeder, return_exceptions=True)
        if isinstance(fed[0], Exception):
            raise fed[0]
        if done.returncode is None:
            raise self._cut()
        return Completed(done.returncode, _bytes(done.stdout), _bytes(done.stderr))

    async def _start(self, argv: Sequence[str]) -> asyncssh.SSHClientProcess[bytes]:
        if self._connection is None:
            raise self._cut()
        try:
            # SSH carries one string: quoting is done here and nowhere else.
            return await self._connection.create_process(shlex.join(argv), encoding=None)
        except (OSError, asyncssh.Error) as error:
            raise self._cut() from error

    @contextlib.contextmanager
    def hold(self, argv: Sequence[str]) -> Iterator[bytes]:
        """See `Transport.hold`; a heartbeat tells the program that this end is alive."""
        process = self._wait(self._start(argv))
        heart: asyncio.Future[None] | None = None
        try:
            line = self._wait(self._first_line(process))
            heart = self._wait(self._start_heart(process))
            yield line
        finally:
            self._wait(self._let_go(process, heart))

    async def _first_line(self, process: asyncssh.SSHClientProcess[bytes]) -> bytes:
        try:
            return await process.stdout.readline()
        except (OSError, asyncssh.Error) as error:
            raise self._cut() from error

    async def _start_heart(self, process: asyncssh.SSHClientProcess[bytes]) -> asyncio.Future[None]:
        return asyncio.ensure_future(_beat(process, self._options.keepalive_s))

    async def _let_go(self, process: asyncssh.SSHClientProcess[bytes], heart: asyncio.Future[None] | None) -> None:
        if heart is not None:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
        with contextlib.suppress(OSError, asyncssh.Error, asyncio.TimeoutError):
            process.stdin.write_eof()
            await asyncio.wait_for(process.wait_closed(), self._options.connect_timeout_s)

    def _cut(self) -> LinkError:
        return LinkError(f"{self._name}: the link was cut; look at the network, then try again")

    def close(self) -> None:
        """Close the connection, end the thread; the exceptions of stray tasks are consumed."""
        if self._loop.is_closed():
            return
        self._wait(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()
            with contextlib.suppress(OSError, asyncssh.Error, asyncio.TimeoutError):
                await asyncio.wait_for(self._connection.wait_closed(), 2.0)
        strays = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in strays:
            task.cancel()
        await asyncio.gather(*strays, return_exceptions=True)

    def _wait(self, work: Coroutine[object, object, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _bytes(output: bytes | str | None) -> bytes:
    return output.encode() if isinstance(output, str) else output or b""


async def _feed(process: asyncssh.SSHClientProcess[bytes], stdin: Iterable[bytes]) -> None:
    try:
        for chunk in stdin:
            try:
                process.stdin.write(chunk)
                await process.stdin.drain()
            except (OSError, asyncssh.Error):
                # A program that ended early, or a cut link, is told by `process.wait`.
                return
    finally:
        with contextlib.suppress(OSError, asyncssh.Error):
            process.stdin.write_eof()


async def _beat(process: asyncssh.SSHClientProcess[bytes], every_s: float) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while True:
            process.stdin.write(b".")
            await asyncio.sleep(every_s)
