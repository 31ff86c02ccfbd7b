"""Carries out a plan on a device; cut at any step, it leaves the old or the new release whole and active."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from host_tools.ship.device import Device
from host_tools.ship.errors import ShipError
from host_tools.ship.facts import Facts
from host_tools.ship.health import Proof, check, switch
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
    bytes_sent: int = 0
    check_output: str = ""
    proof: Proof | None = None

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
                bases = {base.name: base for base in step.bases}
                self._send([(f"{STAGING}/{f.name}", self._pack(f, bases.get(f.name))) for f in files])
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
            case Check(release=release, limits=limits):
                self.check_output = check(self.device, release, limits)
            case Launch(text=text):
                verb("launch", root=root, text=text)
            case Switch(release=release, previous=previous, limits=limits):
                self.proof = switch(self.device, release, previous, limits)
                self.check_output, self.active = self.proof.check, release
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
