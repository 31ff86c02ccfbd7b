"""A release against the one before it, measured on their device: their checks in turn."""

from __future__ import annotations

import json
from collections.abc import Sequence

from host_tools.fleet.waves import Figures
from host_tools.ship.device import Device

# A check is timed this often, the old release and the new one in turn; the quickest counts.
ROUNDS = 2
CHECK_S = 300.0


def bundle_of(release: str) -> str:
    """The name of the bundle in a release: it is named NAME-MANIFEST-RUNTIME."""
    return release.rsplit("-", 2)[0]


def why_not(before: str | None, after: str) -> str:
    """Why two releases cannot be compared; empty if they can. Another bundle is another task, with other costs."""
    if before is None:
        return "no release was there before"
    if bundle_of(before) != bundle_of(after):
        return f"{bundle_of(before)} was there before"
    return ""


def compared(device: Device, before: str, after: str) -> tuple[Figures, Figures]:
    """What the checks of two releases of a device say, taken in turn."""
    found: dict[str, list[Figures]] = {before: [], after: []}
    for _ in range(ROUNDS):
        for release in (before, after):
            found[release].append(_figures(device, release))
    return _best(found[before]), _best(found[after])


def _figures(device: Device, release: str) -> Figures:
    argv = ["check", device.path(f"releases/{release}"), "--timing", "--json"]
    done = device.edge_runtime(argv, release=release, timeout_s=CHECK_S)
    try:
        said = json.loads(done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    except (ValueError, IndexError):
        # A runtime from before checks could be timed: nothing is known of it.
        return Figures()
    known = {name: said[name] for name in Figures.__dataclass_fields__ if isinstance(said.get(name), int | float)}
    return Figures(**known) if done.rc == 0 else Figures()


def _best(rounds: Sequence[Figures]) -> Figures:
    """The quickest of some rounds; what they answered is the same in all."""
    return min(rounds, key=lambda one: one.block_p50_ns or float("inf"))
