"""The health gate: a release must prove itself on the device, or the one before it is active again."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from host_tools.ship.device import Device, device_command
from host_tools.ship.device_gate import over_budget
from host_tools.ship.errors import LinkError, ShipError
from host_tools.ship.options import Limits
from host_tools.ship.signing import require_authentic


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How a release proved itself: the check's answer; of its service, where there is one, first reading and memory."""

    check: str
    first_reading: str
    memory_bytes: int


def check(device: Device, release: str, limits: Limits) -> str:
    """The release's signatures and its own check on the device; gives what the check printed, or raises ShipError."""
    require_authentic(device, release)
    folder = f"{device.root}/releases/{release}"
    argv = ["check", folder, "--json", *limits.options]
    done = device.edge_runtime(argv, release=release, timeout_s=limits.check_s)
    failed = f"{device.name}: {release} failed its check before the switch, so nothing was switched"
    if done.rc != 0:
        raise ShipError(f"{failed} (exit {done.rc}): {done.last_words}")
    if why := over_budget(done.stdout, asdict(limits)):
        raise ShipError(f"{failed}: {why}")
    return done.stdout.decode("utf-8", "replace").strip()


def switch(device: Device, release: str, previous: str | None, limits: Limits) -> Proof:
    """Make `release` active, restart its service, and prove it there; if that fails, `previous` is active again."""
    folder = f"{device.root}/current"
    argv = device_command(device.root, ["check", folder, "--json", *limits.options], device.executable)
    try:
        answer = device.verb(
            "gate",
            root=device.root,
            release=release,
            previous=previous,
            argv=argv,
            limits=asdict(limits),
        )
    except LinkError as error:
        # The new one has passed its check before the switch: both are whole, and the device goes on by itself.
        raise LinkError(f"{error}; {previous or 'no release'} or {release} is active there") from error
    except ShipError as error:
        raise ShipError(f"{error}; {previous or 'no release'} is active there") from error
    if not answer["failed"]:
        return Proof(
            check=str(answer["check"]),
            first_reading=str(answer["first_reading"]),
            memory_bytes=int(str(answer["memory_bytes"])),
        )
    back = f"{previous or 'no release'} is active there, after {float(str(answer['back_s'])):.1f} s"
    if answer["problem"]:
        back += f", but {answer['problem']}"
    raise ShipError(f"{device.name}: {release} failed after the switch: {answer['failed']}; {back}")
