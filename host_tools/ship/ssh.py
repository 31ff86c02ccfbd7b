"""The transport over SSH: asyncssh on a thread of its own behind plain calls; strict host keys, always."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import threading
from collections.abc import Coroutine, Iterable, Sequence
from typing import TypeVar

import asyncssh

from host_tools.ship.errors import LinkError, ShipError
from host_tools.ship.options import ShipOptions
from host_tools.ship.ssh_trust import HostKeyWatch, client_options, explain, new_known_hosts
from host_tools.ship.targets import SshTarget
from host_tools.ship.transport import Completed

log = logging.getLogger(__name__)
T = TypeVar("T")
# A program whose input has ended gets this long to end by itself.
CLOSE_S = 5.0


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
            self._connection = self.wait(self._connect(target))
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
        return self.wait(self._run(argv, stdin, timeout_s))

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
            raise self.cut() from error
        finally:
            feeder.cancel()
            fed = await asyncio.gather(feeder, return_exceptions=True)
        if isinstance(fed[0], Exception):
            raise fed[0]
        if done.returncode is None:
            raise self.cut()
        return Completed(done.returncode, _bytes(done.stdout), _bytes(done.stderr))

    async def _start(self, argv: Sequence[str]) -> asyncssh.SSHClientProcess[bytes]:
        if self._connection is None:
            raise self.cut()
        try:
            # SSH carries one string: quoting is done here and nowhere else.
            return await self._connection.create_process(shlex.join(argv), encoding=None)
        except (OSError, asyncssh.Error) as error:
            raise self.cut() from error

    def talk(self, argv: Sequence[str], sign_of_life: bytes) -> SshTalk:
        """See `Transport.talk`."""
        return self.wait(self._talk(argv, sign_of_life))

    async def _talk(self, argv: Sequence[str], sign_of_life: bytes) -> SshTalk:
        process = await self._start(argv)
        heart = asyncio.ensure_future(_beat(process, sign_of_life, self._options.keepalive_s))
        return SshTalk(process, heart, self)

    def cut(self) -> LinkError:
        """What a link that was cut is told as."""
        return LinkError(f"{self._name}: the link was cut; look at the network, then try again")

    def close(self) -> None:
        """Close the connection, end the thread; the exceptions of stray tasks are consumed."""
        if self._loop.is_closed():
            return
        self.wait(self._shut())
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

    def wait(self, work: Coroutine[object, object, T]) -> T:
        """Have something done on the connection's thread."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


class SshTalk:
    """See `Talk`; `heart` sends the signs of life, whole frames between whole frames."""

    def __init__(
        self, process: asyncssh.SSHClientProcess[bytes], heart: asyncio.Future[None], transport: SshTransport
    ) -> None:
        self._process = process
        self._heart = heart
        self._transport = transport

    def exchange(self, frames: Iterable[bytes]) -> bytes:
        """See `Talk.exchange`."""
        return self._transport.wait(self._exchange(frames))

    async def _exchange(self, frames: Iterable[bytes]) -> bytes:
        answer = asyncio.ensure_future(self._process.stdout.readline())
        try:
            for frame in frames:
                if answer.done():
                    break
                self._process.stdin.write(frame)
                await self._process.stdin.drain()
            line = await answer
        except (asyncssh.Error, OSError) as error:
            if isinstance(error, asyncssh.Error | ConnectionError):
                raise self._transport.cut() from error
            raise
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        if not line.endswith(b"\n"):
            await self._require_end()
            return b""
        return line

    async def _require_end(self) -> None:
        """Output ends with the program, or with the link: then its exit status never comes."""
        with contextlib.suppress(OSError, asyncssh.Error, asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait_closed(), 5.0)
        if self._process.returncode is None:
            raise self._transport.cut()

    def read(self, n_bytes: int) -> bytes:
        """See `Talk.read`."""
        return self._transport.wait(self._read(n_bytes))

    async def _read(self, n_bytes: int) -> bytes:
        try:
            return await self._process.stdout.readexactly(n_bytes) if n_bytes else b""
        except asyncio.IncompleteReadError as error:
            return error.partial
        except (OSError, asyncssh.Error) as error:
            raise self._transport.cut() from error

    def close(self) -> Completed:
        """See `Talk.close`."""
        return self._transport.wait(self._close())

    async def _close(self) -> Completed:
        self._heart.cancel()
        await asyncio.gather(self._heart, return_exceptions=True)
        words = b""
        with contextlib.suppress(OSError, asyncssh.Error, asyncio.TimeoutError):
            self._process.stdin.write_eof()
            words = await asyncio.wait_for(self._process.stderr.read(), CLOSE_S)
            await asyncio.wait_for(self._process.wait_closed(), CLOSE_S)
        rc = self._process.returncode
        return Completed(-1 if rc is None else rc, b"", words)


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


async def _beat(process: asyncssh.SSHClientProcess[bytes], sign_of_life: bytes, every_s: float) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while True:
            await asyncio.sleep(every_s)
            process.stdin.write(sign_of_life)
