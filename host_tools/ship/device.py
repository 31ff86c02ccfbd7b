"""A connected device: verbs run there, files moved there and back, the shipped runtime called."""

from __future__ import annotations

import contextlib
import errno
import getpass
import hashlib
import io
import json
import platform
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType

from host_tools.ship.errors import ShipError
from host_tools.ship.facts import Facts, gather
from host_tools.ship.options import Progress, ShipOptions, no_progress
from host_tools.ship.targets import LocalTarget, Target, parse_target
from host_tools.ship.transport import Completed, Transport

CHUNK = 1 << 16


@dataclass(frozen=True)
class Device:
    """A transport, the Python found behind it and the root folder there; a context that closes the link."""

    transport: Transport
    name: str
    executable: str
    root: str

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.close()

    def facts(self, *, brief: bool = False) -> Facts:
        """What is there now."""
        return gather(self.transport, self.root, self.name, brief=brief)

    def verb(self, name: str, *, stdin: Iterable[bytes] = (), **arguments: object) -> dict[str, object]:
        """Run one verb of `device_steps.py`; raises ShipError with what the device said."""
        done = self.transport.run(self._step(name, arguments), stdin)
        return self._answer(name, done.rc, done.stdout, done.last_words)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else deploys to this root meanwhile; the device lets go by itself if this end dies."""
        owner = f"{getpass.getuser()}@{platform.node()}, {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}"
        arguments = {"root": self.root, "owner": owner, "lease_s": self.transport.lease_s}
        with self.transport.hold(self._step("lock", arguments)) as line:
            self._answer("lock", 0, line, "it said nothing")
            yield

    def path(self, remote: str) -> str:
        """A path below the root; absolute ones stay."""
        return remote if remote.startswith("/") else f"{self.root}/{remote}"

    def put(self, source: Path | bytes, remote: str, progress: Progress = no_progress) -> int:
        """Copy a file there, whole or not at all; gives the bytes sent, 0 if it was there already."""
        place, sha256 = self.path(remote), _sha256(source)
        if self.verb("hashes", paths=[place])[place] == sha256:
            return 0
        return self.send([(remote, sha256, source)], progress)

    def send(self, files: Sequence[tuple[str, str, Path | bytes]], progress: Progress = no_progress) -> int:
        """Copy files there in one go: (remote path, the sha256 it must have on arrival, contents)."""
        sizes = [_n_bytes(source) for _, _, source in files]
        total = sum(sizes)
        announced = [
            {"path": self.path(remote), "sha256": sha256, "n_bytes": n}
            for (remote, sha256, _), n in zip(files, sizes, strict=True)
        ]
        self.verb("receive", stdin=_told(files, total, progress), files=announced)
        return total

    def get(self, remote: str, destination: Path | None = None) -> bytes:
        """A file from there, checked; also written to `destination` if that is given."""
        done = self.transport.run(self._step("send", {"path": self.path(remote)}))
        if done.rc != 0:
            self._answer("send", done.rc, done.stdout, done.last_words)
        head, _, data = done.stdout.partition(b"\n")
        wanted = json.loads(head)
        if hashlib.sha256(data).hexdigest() != wanted["sha256"]:
            raise ShipError(f"{self.name}: {remote} arrived damaged; fetch it again")
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
        return device_command(
            self.transport,
            self.root,
            argv,
            self.executable,
            release=release,
            stdin=stdin,
            timeout_s=timeout_s,
        )

    def _step(self, name: str, arguments: dict[str, object]) -> list[str]:
        script = files("host_tools.ship").joinpath("device_steps.py").read_text()
        # -I -S: nothing that is installed or set there can change what the script does.
        return [self.executable, "-I", "-S", "-c", script, name, json.dumps(arguments)]

    def _answer(self, verb: str, rc: int, stdout: bytes, last_words: str) -> dict[str, object]:
        try:
            answer = json.loads(stdout.decode("utf-8", "replace").strip().splitlines()[-1])
        except (ValueError, IndexError) as error:
            raise ShipError(f"{self.name}: {verb} failed on the device ({last_words})") from error
        if "error" in answer:
            raise ShipError(f"{self.name}: {_advice(answer)}")
        if rc != 0:
            raise ShipError(f"{self.name}: {verb} failed on the device ({last_words})")
        return dict(answer)


def connect(target: str | Target, options: ShipOptions | None = None) -> Device:
    """Reach a target and find its Python; raises ShipError, or SettingsError for an unreadable target."""
    options = options or ShipOptions()
    target = parse_target(target) if isinstance(target, str) else target
    transport = _open(target, options)
    try:
        facts = gather(transport, target.root, str(target), brief=True)
    except BaseException:
        transport.close()
        raise
    return Device(transport, str(target), facts.executable, facts.root)


def device_command(
    transport: Transport,
    root: str,
    argv: Sequence[str],
    executable: str = "python3",
    *,
    release: str | None = None,
    stdin: Iterable[bytes] = (),
    timeout_s: float | None = None,
) -> Completed:
    """Run `python -m edge_runtime ARGV` there with the runtime that a release (None: the current) names."""
    folder = f"{root}/current" if release is None else f"{root}/releases/{release}"
    # The launcher reads release.json on the device, so that release and runtime cannot be mixed up here.
    return transport.run([executable, "-I", "-S", "-c", LAUNCHER, folder, *argv], stdin, timeout_s=timeout_s)


def launcher_text(executable: str) -> str:
    """The shell script `ROOT/bin/edge-runtime`: edge-runtime of whatever release is active when it is called."""
    return COMMAND.format(python=shlex.quote(executable), launcher=shlex.quote(LAUNCHER.strip()))


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
exec {python} -I -S -c {launcher} "$release" "$@"
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
# As -m does, but without the folder it is called in, where a file could be named like a module.
start = "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
start += "runpy.run_module(\\"edge_runtime\\", run_name=\\"__main__\\", alter_sys=True)"
os.execv(sys.executable, [sys.executable, "-s", "-c", start, *sys.argv[2:]])
"""


def _open(target: Target, options: ShipOptions) -> Transport:
    if isinstance(target, LocalTarget):
        from host_tools.ship.local import LocalTransport

        return LocalTransport()
    from host_tools.ship.ssh import SshTransport

    return SshTransport(target, options)


def _advice(answer: dict[str, object]) -> str:
    if answer.get("errno") in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({answer['error']}); free some space there"
    if answer.get("errno") == errno.EROFS:
        return f"the disk is read-only ({answer['error']}); remount it for writing, and look why it was"
    if answer.get("errno") in (errno.EACCES, errno.EPERM):
        return f"not allowed to write ({answer['error']}); choose a root folder that this user owns"
    return str(answer["error"])


def _told(files: Sequence[tuple[str, str, Path | bytes]], total: int, progress: Progress) -> Iterator[bytes]:
    """The files' bytes, with the progress told on the way."""
    sent = 0
    for remote, _, source in files:
        for chunk in _chunks(source):
            yield chunk
            sent += len(chunk)
            progress(f"sending {Path(remote).name}", sent, total)


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _sha256(source: Path | bytes) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(source):
        digest.update(chunk)
    return digest.hexdigest()


def _n_bytes(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size
