"""From what a device has to what it should have: a pure function, and the steps it answers with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from host_tools.ship.errors import ShipError
from host_tools.ship.facts import Facts
from host_tools.ship.options import USUAL_LIMITS, Limits

MIB = 1 << 20
# Where the device keeps what has arrived in part, below `incoming`.
PARTS = "parts"
# Room that stays free for the device's own logs.
RESERVE_BYTES = 8 * MIB
# What a device compiles of a runtime with its wheels takes 4 MiB.
BYTECODE_BYTES = 6 * MIB


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that should be on the device; `unpacked_bytes` is what it takes there besides itself."""

    name: str
    sha256: str
    n_bytes: int
    unpacked_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a device should have.

    release, files      name of the release folder and what is in it
    runtime, archives   name of the runtime folder and what is unpacked in it
    launcher            the text of bin/edge-runtime
    keep                how many releases that were active before stay
    limits              what the release must hold there
    known               sha256 of contents that the host holds: it can send differences to them
    """

    release: str
    files: tuple[File, ...]
    runtime: str
    archives: tuple[File, ...]
    launcher: str
    keep: int = 3
    limits: Limits = USUAL_LIMITS
    known: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class There:
    """A file on the device that spares bytes: the file `name` itself, or what only the difference to is sent.

    path  below the root
    """

    name: str
    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Authenticate:
    """Have the device decide whether it trusts the release, before anything of it is sent."""

    release: str

    def __str__(self) -> str:
        return f"ask the device whether it trusts {self.release}"


@dataclass(frozen=True, kw_only=True)
class MakeRoot:
    """Make the root folder and those below it."""

    def __str__(self) -> str:
        return "make the root folder"


@dataclass(frozen=True, kw_only=True)
class Tidy:
    """Remove what an interrupted deployment left."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"remove {len(self.names)} leftovers of an interrupted deployment"


@dataclass(frozen=True, kw_only=True)
class PushRuntime:
    """Send the archives that the device has in no runtime.

    bases  for some of them, an older one there: the difference is sent
    """

    files: tuple[File, ...]
    bases: tuple[There, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(f.name.split("-")[0] for f in self.files)
        differences = f", {len(self.bases)} as a difference" if self.bases else ""
        return f"send the runtime: {names} ({_size(self.files)}{differences})"


@dataclass(frozen=True, kw_only=True)
class UnpackRuntime:
    """Unpack what was sent, and take the rest from other runtimes of the device."""

    runtime: str
    sent: tuple[File, ...]
    reused: tuple[File, ...]

    def __str__(self) -> str:
        return f"unpack runtime {self.runtime} ({len(self.reused)} of its archives are on the device)"


@dataclass(frozen=True, kw_only=True)
class PushRelease:
    """Send the release's files that the device lacks; write its note, and put all in place.

    bases   for some of `files`, an older file there: the difference is sent
    reused  files that are sent not at all, since another release has them
    """

    release: str
    runtime: str
    files: tuple[File, ...]
    bases: tuple[There, ...] = ()
    reused: tuple[There, ...] = ()

    def __str__(self) -> str:
        differences = f", {len(self.bases)} as differences" if self.bases else ""
        there = f"; {len(self.reused)} are on the device" if self.reused else ""
        return f"send release {self.release}: {len(self.files)} files ({_size(self.files)}{differences}){there}"


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Hash the release on the device."""

    release: str
    files: tuple[File, ...]

    def __str__(self) -> str:
        return f"hash {len(self.files)} files of {self.release} on the device"


@dataclass(frozen=True, kw_only=True)
class Check:
    """Run the device's own check: the golden vectors must be answered, within the budgets."""

    release: str
    limits: Limits = USUAL_LIMITS

    def __str__(self) -> str:
        budget = self.limits.budget_text
        return f"check {self.release} on the device" + (f"; its budget: {budget}" if budget else "")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Write the command that runs the active release's runtime."""

    text: str

    def __str__(self) -> str:
        return "write the command bin/edge-runtime"


@dataclass(frozen=True, kw_only=True)
class Switch:
    """Make the release the current one, check it there, and go back to `previous` if it fails."""

    release: str
    previous: str | None
    limits: Limits = USUAL_LIMITS

    def __str__(self) -> str:
        return f"switch from {self.previous or 'nothing'} to {self.release}"


@dataclass(frozen=True, kw_only=True)
class Remember:
    """Write which releases were active, oldest first."""

    releases: tuple[str, ...]

    def __str__(self) -> str:
        return f"note {self.releases[-1]} as active"


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Remove releases and runtimes that are kept for nothing."""

    releases: tuple[str, ...]
    runtimes: tuple[str, ...]

    def __str__(self) -> str:
        return f"remove {len(self.releases)} old releases, {len(self.runtimes)} old runtimes"


Step = (
    Authenticate
    | MakeRoot
    | Tidy
    | PushRuntime
    | UnpackRuntime
    | PushRelease
    | Verify
    | Check
    | Launch
    | Switch
    | Remember
    | Prune
)


def plan(facts: Facts, wish: Wish) -> list[Step]:
    """Steps from `facts` to `wish`, in order; none if there is nothing to do."""
    steps: list[Step] = []
    runtime = _runtime_steps(facts, wish)
    release = _release_steps(facts, wish)
    is_unsigned = bool(facts.signers) and wish.release not in facts.signed
    is_switched = facts.current == wish.release and not facts.is_unproved
    if runtime or release or not is_switched or is_unsigned:
        steps.append(Authenticate(release=wish.release))
    if not facts.has_root:
        steps.append(MakeRoot())
    # What has arrived in part is not sent again, if anything is sent.
    is_sending = any(isinstance(step, PushRuntime | PushRelease) for step in runtime + release)
    leftovers = tuple(name for name in facts.incoming if name != PARTS or not is_sending)
    if leftovers:
        steps.append(Tidy(names=leftovers))
    steps += runtime + release
    if runtime or release or not is_switched:
        steps.append(Check(release=wish.release, limits=wish.limits))
    # Before the switch: where a release is active, there is a command that runs it.
    if facts.launcher != hashlib.sha256(wish.launcher.encode()).hexdigest():
        steps.append(Launch(text=wish.launcher))
    if not is_switched:
        before = [name for name in facts.activations if name != wish.release]
        previous = facts.current if facts.current != wish.release else (before[-1] if before else None)
        steps.append(Switch(release=wish.release, previous=previous, limits=wish.limits))
    history = tuple(name for name in facts.activations if name != wish.release)
    history = (*history[max(0, len(history) - wish.keep) :], wish.release)
    if history != facts.history:
        steps.append(Remember(releases=history))
    return steps + _prune_steps(facts, wish, history)


def _runtime_steps(facts: Facts, wish: Wish) -> list[Step]:
    there = facts.runtimes.get(wish.runtime)
    if there and there.is_clean and there.archives == {archive.sha256: True for archive in wish.archives}:
        return []
    on_device = {sha256 for r in facts.runtimes.values() for sha256, whole in r.archives.items() if whole}
    lacking = tuple(archive for archive in wish.archives if archive.sha256 not in on_device)
    reused = tuple(archive for archive in wish.archives if archive.sha256 in on_device)
    unpack = UnpackRuntime(runtime=wish.runtime, sent=lacking, reused=reused)
    bases = tuple(one for archive in lacking if (one := _older(facts, wish, archive)))
    return [PushRuntime(files=lacking, bases=bases), unpack] if lacking else [unpack]


def _older(facts: Facts, wish: Wish, archive: File) -> There | None:
    """An archive of that name which the device kept and the host knows, too; the active release's first."""
    active = facts.releases[facts.current].runtime if facts.current else ""
    for runtime in sorted(facts.runtimes, key=lambda name: (name != active, name)):
        sha256 = facts.runtimes[runtime].kept.get(archive.name, "")
        if sha256 in wish.known:
            return There(name=archive.name, path=f"runtime/{runtime}/{archive.name}", sha256=sha256)
    return None


def _release_steps(facts: Facts, wish: Wish) -> list[Step]:
    release = facts.releases.get(wish.release)
    there = release.files if release else {}
    lacking = tuple(file for file in wish.files if there.get(file.name) != file.sha256)
    if release and not lacking and release.runtime == wish.runtime:
        return []
    found = {file.name: _elsewhere(facts, wish, file) for file in lacking}
    reused = tuple(one for file in lacking if (one := found[file.name]) and one.sha256 == file.sha256)
    sent = tuple(file for file in lacking if file.name not in {one.name for one in reused})
    bases = tuple(one for file in sent if (one := found[file.name]))
    push = PushRelease(release=wish.release, runtime=wish.runtime, files=sent, bases=bases, reused=reused)
    return [push, Verify(release=wish.release, files=wish.files)]


def _elsewhere(facts: Facts, wish: Wish, file: File) -> There | None:
    """The same contents in another release, else the newest older file of that name that the host knows, too."""
    # A release by itself may hold the file damaged, so it counts as any other: by its hash.
    names = [*reversed(facts.activations), *sorted(set(facts.releases) - set(facts.activations))]
    older = None
    for release in names:
        for name, sha256 in facts.releases[release].files.items():
            there = There(name=file.name, path=f"releases/{release}/{name}", sha256=sha256)
            if sha256 == file.sha256:
                return there
            if older is None and name == file.name and sha256 in wish.known:
                older = there
    return older


def _prune_steps(facts: Facts, wish: Wish, kept: tuple[str, ...]) -> list[Step]:
    releases = tuple(sorted(set(facts.releases) - set(kept)))
    needed = {facts.releases[name].runtime for name in kept if name in facts.releases} | {wish.runtime}
    runtimes = tuple(sorted(set(facts.runtimes) - needed))
    return [Prune(releases=releases, runtimes=runtimes)] if releases or runtimes else []


def needed_bytes(steps: list[Step]) -> int:
    """What the steps write at most at one time: what is sent, and what it becomes."""
    n = 0
    for step in steps:
        if isinstance(step, PushRuntime):
            n += sum(file.n_bytes for file in step.files)
        elif isinstance(step, PushRelease):
            # A payload and what it is unpacked to; reused files are links on nearly every file system, not on all.
            n += sum(2 * file.n_bytes for file in step.files)
        elif isinstance(step, UnpackRuntime):
            # Reused archives are hard links on nearly every file system, but not on all.
            n += sum(file.unpacked_bytes for file in step.sent) + BYTECODE_BYTES
    return n


def require_space(facts: Facts, steps: list[Step], where: str) -> None:
    """Raises ShipError if the steps need more room than the device has."""
    needed = needed_bytes(steps)
    if needed and needed + RESERVE_BYTES > facts.free_bytes:
        raise ShipError(
            f"{where}: {facts.free_bytes / MIB:.1f} MiB free at {facts.root}; "
            f"{(needed + RESERVE_BYTES) / MIB:.1f} MiB wanted; free some space there, or choose another root"
        )


def _size(files: tuple[File, ...]) -> str:
    n = sum(file.n_bytes for file in files)
    return f"{n / MIB:.1f} MiB" if n >= MIB else f"{n / 1024:.1f} KiB"
