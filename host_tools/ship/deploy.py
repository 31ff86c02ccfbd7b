"""The verbs of shipping: deploy a bundle, roll back, say what a device has."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.bundle import MANIFEST, Bundle, file_sha256, open_bundle
from host_tools.ship.apply import Apply
from host_tools.ship.archives import Archive, package_archive, runtime_id
from host_tools.ship.device import Device, connect, launcher_text
from host_tools.ship.device_facts import KEPT
from host_tools.ship.device_trust import NOT_SIGNED
from host_tools.ship.errors import ShipError
from host_tools.ship.facts import Facts
from host_tools.ship.health import check, switch
from host_tools.ship.options import Progress, ShipOptions, no_progress
from host_tools.ship.plan import File, Step, Wish, plan, require_space
from host_tools.ship.shipped import Shipped
from host_tools.ship.signing import SIGNATURE, authenticate, signatures
from host_tools.ship.wheels import cache_folder, platform_of, wheels_for


@dataclass(frozen=True, kw_only=True)
class DeployResult:
    """What a deployment did.

    check    what the device's check printed, empty if nothing was to do
    signers  the device's file of allowed signers; empty if it takes what nobody signed
    first_reading, memory_bytes  of its service, where one runs the new release
    """

    release: str
    previous: str | None
    steps: tuple[str, ...]
    bytes_sent: int
    seconds: float
    check: str
    signers: str
    first_reading: str
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class RollbackResult:
    """The release that is active now, and the one that was."""

    release: str
    previous: str
    check: str


def deploy(
    bundle_dir: Path,
    target: str,
    *,
    options: ShipOptions | None = None,
    progress: Progress = no_progress,
) -> DeployResult:
    """Ship a bundle and the runtime it needs, check both on the device, and make them current.

    Raises BundleError for a damaged bundle, SettingsError for a target that cannot be read, and ShipError for
    everything else; the release that was active before is active then.
    """
    options = options or ShipOptions()
    bundle = open_bundle(bundle_dir)
    with connect(target, options, progress) as device:
        return deploy_on(device, bundle, options, progress)


def deploy_on(device: Device, bundle: Bundle, options: ShipOptions, progress: Progress = no_progress) -> DeployResult:
    """`deploy` on a device that is connected."""
    started = time.monotonic()
    with device.locked():
        progress("looking at the device", 0, 1)
        facts = device.facts()
        progress("choosing wheels", 0, 1)
        archives = _archives(facts, device.name, options)
        shipped = _shipped()
        wish, contents = _wish(bundle, archives, facts, options, shipped)
        steps = plan(facts, wish)
        require_space(facts, steps, device.name)
        # Before anything else: a key that cannot sign is told even where there is nothing to do.
        signed = signatures(bundle, archives, options.sign_key)

        def ask_trust() -> None:
            manifest = bundle.file(MANIFEST).read_bytes()
            authenticate(device, wish.release, manifest, signed, options.allow_downgrade)

        work = Apply(device, contents, facts, shipped, progress, ask_trust)
        work.run(steps)
    _keep(bundle, archives, shipped)
    return DeployResult(
        release=wish.release,
        previous=facts.current,
        steps=tuple(map(str, steps)),
        bytes_sent=work.bytes_sent,
        seconds=time.monotonic() - started,
        check=work.check_output,
        signers=facts.signers,
        first_reading=work.proof.first_reading if work.proof else "",
        memory_bytes=work.proof.memory_bytes if work.proof else 0,
    )


def steps_for(bundle_dir: Path, target: str, *, options: ShipOptions | None = None) -> list[Step]:
    """What `deploy` would do; changes nothing on the device.

    Raises what `deploy` would for want of room or of signatures; whether signatures hold, only the device can tell.
    """
    options = options or ShipOptions()
    bundle = open_bundle(bundle_dir)
    with connect(target, options) as device:
        return steps_on(device, bundle, options)


def steps_on(device: Device, bundle: Bundle, options: ShipOptions) -> list[Step]:
    """`steps_for` on a device that is connected."""
    facts = device.facts()
    wish, _ = _wish(bundle, _archives(facts, device.name, options), facts, options, _shipped())
    steps = plan(facts, wish)
    require_space(facts, steps, device.name)
    # What it was signed with stays there; a key signs whatever is not signed.
    if facts.signers and wish.release not in facts.signed and options.sign_key is None:
        what = "the runtime" if bundle.file(SIGNATURE).is_file() else "the bundle"
        raise ShipError(f"{device.name}: {what}{NOT_SIGNED}; {facts.current or 'no release'} is active there")
    return steps


def rollback(target: str, *, to: str | None = None, options: ShipOptions | None = None) -> RollbackResult:
    """Make the release that was active before (or `to`) current again, after its check on the device."""
    options = options or ShipOptions()
    with connect(target, options) as device:
        return rollback_on(device, to, options)


def rollback_on(device: Device, to: str | None, options: ShipOptions) -> RollbackResult:
    """`rollback` on a device that is connected."""
    with device.locked():
        facts = device.facts(brief=True)
        before, active = facts.activations[:-1], facts.current
        if active is None:
            raise ShipError(f"{device.name}: no release is active there; deploy one first")
        wanted = to or (before[-1] if before else None)
        if wanted not in before:
            names = ", ".join(before) or "none"
            raise ShipError(f"{device.name}: cannot go back to {to or 'an older release'}; there are: {names}")
        check(device, wanted, options.limits)
        # What came after it leaves the history: the next roll-back goes further back. Written first, since a
        # current release is always counted as the last of the history.
        device.verb("remember", root=device.root, releases=list(before[: before.index(wanted) + 1]))
        proof = switch(device, wanted, active, options.limits)
    return RollbackResult(release=wanted, previous=active, check=proof.check)


def status(target: str, *, options: ShipOptions | None = None) -> Facts:
    """What a device has: releases, runtimes, the current release, room."""
    with connect(target, options) as device:
        return device.facts()


def _archives(facts: Facts, where: str, options: ShipOptions) -> list[Archive]:
    package = package_archive(options.runtime_package)
    if not options.requirements:
        return [package]
    wheels = wheels_for(platform_of(facts, where), options.requirements, source=options.wheels)
    return [package, *wheels]


def _shipped() -> Shipped:
    return Shipped(cache_folder() / "shipped")


def _keep(bundle: Bundle, archives: list[Archive], shipped: Shipped) -> None:
    """What was shipped now is what the next version differs from."""
    for archive in archives:
        if archive.name.endswith(KEPT):
            shipped.keep(archive.data, archive.sha256)
    for name, sha256 in {MANIFEST: file_sha256(bundle.file(MANIFEST)), **bundle.manifest.files}.items():
        shipped.keep(bundle.file(name), sha256)
    shipped.tidy()


def _wish(
    bundle: Bundle, archives: list[Archive], facts: Facts, options: ShipOptions, shipped: Shipped
) -> tuple[Wish, dict[str, Path | bytes]]:
    """The wish, and the contents of every file it names."""
    runtime = runtime_id(archives)
    names = {MANIFEST: file_sha256(bundle.file(MANIFEST)), **bundle.manifest.files}
    contents: dict[str, Path | bytes] = {archive.sha256: archive.data for archive in archives}
    contents |= {sha256: bundle.file(name) for name, sha256 in names.items()}
    wish = Wish(
        # A release is a bundle with a runtime: the same bundle with another runtime can be rolled back.
        release=f"{bundle.id}-{runtime[:8]}",
        files=tuple(_files(bundle, names.items())),
        runtime=runtime,
        archives=tuple(
            File(name=a.name, sha256=a.sha256, n_bytes=a.n_bytes, unpacked_bytes=a.unpacked_bytes) for a in archives
        ),
        launcher=launcher_text(facts.executable),
        keep=options.keep,
        limits=options.limits.with_budget(bundle.manifest.budget),
        known=shipped.known(
            [
                *(sha256 for release in facts.releases.values() for sha256 in release.files.values()),
                *(sha256 for there in facts.runtimes.values() for sha256 in there.kept.values()),
            ]
        ),
    )
    return wish, contents


def _files(bundle: Bundle, names: Iterable[tuple[str, str]]) -> Iterable[File]:
    for name, sha256 in names:
        yield File(name=name, sha256=sha256, n_bytes=bundle.file(name).stat().st_size)
