"""The verbs of emulated gateways by name, whatever their kind."""

from __future__ import annotations

from pathlib import Path

from host_tools.emulator.aarch64 import Aarch64
from host_tools.emulator.container import Container
from host_tools.emulator.gateway import RECORD, EmulatorError, Gateway, Kind, Progress, Status, read_record
from host_tools.emulator.places import gateway_folder, gateways, locked, remove_tree

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Aarch64(), Container())}


def create(name: str, kind: str, progress: Progress) -> Gateway:
    """Make a gateway; raises EmulatorError if there is one of that name, or something is missing."""
    folder = gateway_folder(name)
    with locked(name, wait=False):
        if (folder / RECORD).exists():
            raise EmulatorError(f"{name}: there already; start it: vitaledge emulator start {name}")
        remove_tree(folder)  # what an interrupted creation left
        folder.mkdir(parents=True, mode=0o700)
        return KINDS[kind].create(folder, progress)


def start(name: str, *, is_fresh: bool, progress: Progress) -> Gateway:
    """Start a gateway and wait for its sshd; `is_fresh`: as it was made."""
    folder = gateway_folder(name)
    with locked(name, wait=False):
        kind = _kind(folder)
        if kind.is_running(folder):
            if not is_fresh:
                return read_record(folder)
            kind.stop(folder, is_cut=True)
        return kind.start(folder, is_fresh=is_fresh, progress=progress)


def stop(name: str, *, is_cut: bool = False) -> None:
    """Power it off, or cut its power; nothing to do where it does not run."""
    folder = gateway_folder(name)
    with locked(name, wait=False):
        kind = _kind(folder)
        if kind.is_running(folder):
            kind.stop(folder, is_cut=is_cut)


def remove(name: str) -> None:
    """Forget a gateway and free its disk; raises EmulatorError while it runs."""
    folder = gateway_folder(name)
    with locked(name, wait=False):
        kind = _kind(folder)
        if kind.is_running(folder):
            raise EmulatorError(f"{name}: running; stop it first: vitaledge emulator stop {name}")
        kind.remove(folder)
        remove_tree(folder)


def status(name: str) -> Status:
    """How a gateway is reached, and whether it runs."""
    return _status(gateway_folder(name))


def all_statuses() -> list[Status]:
    """Of every gateway."""
    return [_status(folder) for folder in gateways()]


def _kind(folder: Path) -> Kind:
    return KINDS[read_record(folder).kind]


def _status(folder: Path) -> Status:
    gateway, kind = read_record(folder), _kind(folder)
    port = "" if gateway.port == 22 else f":{gateway.port}"
    wearable = gateway.wearable
    return Status(
        name=gateway.name,
        kind=gateway.kind,
        state="running" if kind.is_running(folder) else "stopped",
        target=f"ssh://{gateway.user}@{gateway.host}{port}",
        known_hosts=str(kind.keys(folder) / "known_hosts"),
        key=str(kind.keys(folder) / "client"),
        wearable=f"edge-runtime simulate PROTOCOL --to unix:{wearable}" if wearable else None,
        folder=str(folder),
    )
