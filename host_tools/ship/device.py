"""A connected device: verbs run there, files moved there and back, the shipped runtime called."""

from __future__ import annotations

import contextlib
import getpass
import platform
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from host_tools.ship.errors import ShipError
from host_tools.ship.facts import Facts, PartFacts, read_facts
from host_tools.ship.helper import Helper, NoPythonError, brought, start
from host_tools.ship.options import Progress, ShipOptions, no_progress
from host_tools.ship.parcels import Parcel, chunks, pack, sha256_of
from host_tools.ship.python_archive import bring, open_python_archive
from host_tools.ship.sources import ALONE
from host_tools.ship.targets import LocalTarget, Target, parse_target
from host_tools.ship.transport import Completed, Transport


@dataclass(frozen=True)
class Device:
    """A transport, the helper that runs behind it and the root folder there; a context that closes the link."""

    transport: Transport
    name: str
    helper: Helper
    root: str

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.helper.close()
        self.transport.close()

    @property
    def executable(self) -> str:
        """The Python there that runs everything."""
        return self.helper.executable

    def facts(self, *, brief: bool = False) -> Facts:
        """What is there now."""
        return read_facts(self.verb("facts", root=self.root, brief=brief), self.name)

    def verb(self, name: str, *, body: Iterable[bytes] | None = None, **arguments: object) -> dict[str, object]:
        """Have one verb done there; raises ShipError with what the device said."""
        return self.helper.ask(name, arguments, body)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else deploys to this root meanwhile; the device lets go by itself if this end dies."""
        owner = f"{getpass.getuser()}@{platform.node()}, {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}"
        self.verb("lock", root=self.root, owner=owner, lease_s=self.transport.lease_s)
        try:
            yield
        finally:
            # A device that cannot be asked any more has let go.
            with contextlib.suppress(ShipError):
                self.verb("unlock")

    def path(self, remote: str) -> str:
        """A path below the root; absolute ones stay."""
        return remote if remote.startswith("/") else f"{self.root}/{remote}"

    def put(self, source: Path | bytes, remote: str, progress: Progress = no_progress) -> int:
        """Copy a file there, whole or not at all; gives the bytes sent, 0 if it was there already."""
        place, sha256 = self.path(remote), sha256_of(source)
        if self.verb("hashes", paths=[place])[place] == sha256:
            return 0
        return self.send([(remote, pack(sha256, source, ("zlib",)))], {}, progress)

    def send(
        self,
        parcels: Sequence[tuple[str, Parcel]],
        parts: dict[str, PartFacts],
        progress: Progress = no_progress,
    ) -> int:
        """Copy files there in one go: (remote path, parcel); gives the bytes sent.

        parts  payloads that are there in part: what an interrupted transfer left is not sent again
        """
        offsets = [_offset(parcel, parts) for _, parcel in parcels]
        announced = [
            {
                "path": self.path(remote),
                "sha256": parcel.sha256,
                "n_bytes": parcel.n_bytes,
                "payload_sha256": parcel.payload_sha256,
                "payload_bytes": parcel.payload_bytes,
                "codec": parcel.codec,
                "base": self.path(parcel.base) if parcel.base else None,
                "offset": offset,
            }
            for (remote, parcel), offset in zip(parcels, offsets, strict=True)
        ]
        total = sum(parcel.payload_bytes for _, parcel in parcels) - sum(offsets)
        told = _told(parcels, offsets, total, progress)
        self.verb("receive", body=told, parcels=announced, parts=self.path("incoming/parts"))
        return total

    def get(self, remote: str, destination: Path | None = None) -> bytes:
        """A file from there, checked; also written to `destination` if that is given."""
        data = self.helper.fetch(self.path(remote))
        if destination is not None:
            aside = destination.with_name(destination.name + ".part")
            aside.write_bytes(data)
            aside.replace(destination)
        return data

    def edge_runtime(
        self,
        argv: Sequence[str],
        *,
        release: str | None = None,
        stdin: Iterable[bytes] = (),
        timeout_s: float | None = None,
    ) -> Completed:
        """Run `edge-runtime ARGV` with the runtime of a release (None: of the current one)."""
        command = device_command(self.root, argv, self.executable, release=release)
        if stdin != ():
            return self.transport.run(command, stdin, timeout_s=timeout_s)
        # The helper is there: no other program, shell and channel need be set up.
        done = self.verb("run", argv=command, timeout_s=timeout_s)
        return Completed(int(str(done["rc"])), str(done["stdout"]).encode(), str(done["stderr"]).encode())


def connect(target: str | Target, options: ShipOptions | None = None, progress: Progress | None = None) -> Device:
    """Reach a target and find its Python; raises ShipError, or SettingsError for an unreadable target.

    progress  where a deployment follows: the device gets `options.python_archive` if it has no Python that will do;
              else nothing is written there
    """
    options = options or ShipOptions()
    target = parse_target(target) if isinstance(target, str) else target
    transport = open_transport(target, options)
    try:
        helper = _start(transport, target, options, progress)
        root = helper.ask("expand", {"path": target.root})
    except BaseException:
        transport.close()
        raise
    return Device(transport, str(target), helper, str(root["path"]))


def _start(transport: Transport, target: Target, options: ShipOptions, progress: Progress | None) -> Helper:
    try:
        return start(transport, str(target), brought(target.root))
    except NoPythonError:
        if options.python_archive is None or progress is None:
            raise
    bring(transport, target.root, open_python_archive(options.python_archive), str(target), progress)
    return start(transport, str(target), brought(target.root))


def device_command(
    root: str, argv: Sequence[str], executable: str = "python3", *, release: str | None = None
) -> list[str]:
    """What runs `python -m edge_runtime ARGV` there with the runtime that a release (None: the current) names."""
    folder = f"{root}/current" if release is None else f"{root}/releases/{release}"
    # The launcher reads release.json on the device, so that release and runtime cannot be mixed up here.
    return [executable, *ALONE, "-c", LAUNCHER, folder, *argv]


def launcher_text(executable: str) -> str:
    """The shell script `ROOT/bin/edge-runtime`: edge-runtime of whatever release is active when it is called."""
    return COMMAND.format(python=shlex.quote(executable), alone=" ".join(ALONE), launcher=shlex.quote(LAUNCHER.strip()))


COMMAND = """#!/bin/sh
# edge-runtime of the active release. Written by `vitaledge deploy`, which replaces it.
root=$(dirname "$(dirname "$(readlink -f "$0")")")
# One look at the link: a deployment that switches it meanwhile must not mix two releases.
release=$(readlink -f "$root/current")
for word; do
    shift
    if [ "$word" -ef "$root/current" ]; then word=$release; fi
    set -- "$@" "$word"
done
exec {python} {alone} -c {launcher} "$release" "$@"
"""

LAUNCHER = """
import json, os, sys
folder = sys.argv[1]
try:
    with open(os.path.join(folder, "release.json")) as stream:
        runtime = json.load(stream)["runtime"]
except (OSError, ValueError, KeyError):
    sys.exit(folder + ": no release there; deploy one first")
site = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(folder))), "runtime", runtime, "site")
os.environ["PYTHONPATH"] = site
# What Python would write of its own is neither on the disk nor hashed.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
# As -m does, but without the folder it is called in, where a file could be named like a module.
start = "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
start += "runpy.run_module(\\"edge_runtime\\", run_name=\\"__main__\\", alter_sys=True)"
os.execv(sys.executable, [sys.executable, "-s", "-c", start, *sys.argv[2:]])
"""


def open_transport(target: Target, options: ShipOptions) -> Transport:
    """Reach a target; raises ShipError."""
    if isinstance(target, LocalTarget):
        from host_tools.ship.local import LocalTransport

        return LocalTransport()
    from host_tools.ship.ssh import SshTransport

    return SshTransport(target, options)


def _offset(parcel: Parcel, parts: dict[str, PartFacts]) -> int:
    """How much of a payload need not be sent: what is there, if it is how the payload begins."""
    part = parts.get(parcel.payload_sha256)
    if part is None or part.n_bytes > parcel.payload_bytes:
        return 0
    return part.n_bytes if sha256_of(parcel.payload, part.n_bytes) == part.sha256 else 0


def _told(
    parcels: Sequence[tuple[str, Parcel]], offsets: Sequence[int], total: int, progress: Progress
) -> Iterator[bytes]:
    """The payloads' bytes, with the progress told on the way."""
    sent = 0
    for (remote, parcel), offset in zip(parcels, offsets, strict=True):
        for chunk in chunks(parcel.payload, offset):
            yield chunk
            sent += len(chunk)
            progress(f"sending {Path(remote).name}", sent, total)
