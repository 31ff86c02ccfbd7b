"""Carries out a plan on a device; cut at any step, it leaves the old or the new release whole and active."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from host_tools.ship.device import Device
from host_tools.ship.errors import LinkError, ShipError
from host_tools.ship.facts import Facts
from host_tools.ship.options import Progress
from host_tools.ship.parcels import Base, Parcel, pack
from host_tools.ship.plan import (
    Authenticate,
    Check,
    File,
    Launch,
    MakeRoot,
    Prune,
    PushRelease,
    PushRuntime,
    Remember,
    Step,
    Switch,
    There,
    Tidy,
    UnpackRuntime,
    Verify,
)
from host_tools.ship.shipped import Shipped
from host_tools.ship.signing import require_authentic

# Where a deployment keeps what is not finished; the root's lock sees to it that there is only one.
STAGING = "incoming/deploy"


@dataclass
class Apply:
    """One run of a plan.

    contents  sha256 -> bytes, or the file that holds them, for everything the plan sends
    facts     what the plan was made from
    shipped   contents that differences can be made against
    active    the current release; a message says which one it is after a failure
    authenticate  has the device decide whether it trusts the release
    """

    device: Device
    contents: dict[str, Path | bytes]
    facts: Facts
    shipped: Shipped
    progress: Progress
    authenticate: Callable[[], None]
    check_timeout_s: float = 300.0
    bytes_sent: int = 0
    check_output: str = ""

    def __post_init__(self) -> None:
        """Nothing is switched yet."""
        self.active = self.facts.current

    def run(self, steps: list[Step]) -> None:
        """Take all steps; raises ShipError at the first that fails."""
        for number, step in enumerate(steps):
            self.progress(str(step), number, len(steps))
            try:
                self._take(step)
            except ShipError as error:
                # A switch that fails says itself what is active then.
                if isinstance(step, Switch):
                    raise
                raise type(error)(f"{error}; {self.active or 'no release'} is active there") from error
        self.progress("done", len(steps), len(steps))

    def _take(self, step: Step) -> None:
        root, verb = self.device.root, self.device.verb
        staging = self.device.path(STAGING)
        match step:
            case Authenticate():
                self.authenticate()
            case MakeRoot():
                verb("make_root", root=root)
            case Tidy(names=names):
                verb("tidy", root=root, names=list(names))
            case PushRuntime(files=files):
                self._send([(f"{STAGING}/{file.name}", self._pack(file)) for file in files])
            case UnpackRuntime(runtime=runtime, sent=sent, reused=reused):
                archives = {file.sha256: file.name for file in sent}
                others = [file.sha256 for file in reused]
                verb("unpack", root=root, staging=staging, runtime=runtime, sent=archives, reused=others)
            case PushRelease(release=release, runtime=runtime, files=files):
                bases = {base.name: base for base in step.bases}
                self._send([(f"{STAGING}/release/{f.name}", self._pack(f, bases.get(f.name))) for f in files])
                note = {"schema": 1, "release": release, "runtime": runtime}
                links = {there.name: there.path for there in step.reused}
                verb("place", root=root, staging=staging, release=release, note=note, reused=links)
            case Verify(release=release, files=files):
                hashes = {file.name: file.sha256 for file in files}
                verb("verify", root=root, release=release, files=hashes)
            case Check(release=release):
                self.check_output = check(self.device, release, self.check_timeout_s)
            case Launch(text=text):
                verb("launch", root=root, text=text)
            case Switch(release=release, previous=previous):
                self.check_output = switch(self.device, release, previous, self.check_timeout_s)
                self.active = release
            case Remember(releases=releases):
                verb("remember", root=root, releases=list(releases))
            case Prune(releases=releases, runtimes=runtimes):
                verb("prune", root=root, releases=list(releases), runtimes=list(runtimes))

    def _pack(self, file: File, there: There | None = None) -> Parcel:
        old = self.shipped.read(there.sha256) if there else None
        base = Base(path=there.path, sha256=there.sha256, contents=old) if there and old is not None else None
        return pack(file.sha256, self.contents[file.sha256], self.facts.codecs, base)

    def _send(self, parcels: list[tuple[str, Parcel]]) -> None:
        if parcels:
            self.bytes_sent += self.device.send(parcels, self.facts.parts, self.progress)


def check(device: Device, release: str, timeout_s: float) -> str:
    """The release's signatures and its own check on the device; gives what the check printed, or raises ShipError."""
    require_authentic(device, release)
    return _checked(device, release, f"{device.root}/releases/{release}", timeout_s)


def switch(device: Device, release: str, previous: str | None, timeout_s: float) -> str:
    """Make `release` the current one and check it there; if that fails, `previous` is current again."""
    try:
        device.verb("point", root=device.root, release=release)
        return _checked(device, None, f"{device.root}/current", timeout_s)
    except LinkError as error:
        # The new one has passed its check before the switch: both are whole.
        raise LinkError(f"{error}; {previous or 'no release'} or {release} is active there") from error
    except ShipError as error:
        try:
            device.verb("point", root=device.root, release=previous)
        except ShipError as second:
            raise ShipError(f"{error}; {release} could not be switched back: {second}") from error
        raise ShipError(f"{error}; {previous or 'no release'} is active there") from error


def _checked(device: Device, release: str | None, folder: str, timeout_s: float) -> str:
    done = device.edge_runtime(["check", folder, "--json"], release=release, timeout_s=timeout_s)
    if done.rc != 0:
        state = "after the switch" if release is None else "before the switch, so nothing was switched"
        raise ShipError(
            f"{device.name}: {Path(folder).name} failed its check {state} (exit {done.rc}): {done.last_words}"
        )
    return done.stdout.decode("utf-8", "replace").strip()
