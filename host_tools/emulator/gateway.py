"""What an emulated gateway is: its record, its state, the verbs of every kind, and the one error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from edge_runtime.contract.errors import EdgeError
from edge_runtime.contract.strict import build

SCHEMA = 1
RECORD = "gateway.json"
# progress(what is being done, done so far, all of it)
Progress = Callable[[str, int, int], None]


class EmulatorError(EdgeError):
    """An emulated gateway cannot be made, started or stopped."""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The record of one emulated gateway, kept in its folder.

    image       folder of the image it was made from
    user, port  of its sshd on `host`: an account without privileges
    wearable    socket of this machine where a simulated wearable is looked for; None: it has no USB port
    """

    schema: int = SCHEMA
    name: str
    kind: str
    image: str
    host: str
    port: int
    user: str
    wearable: str | None = None


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a user needs to reach a gateway; `state` is running or stopped."""

    name: str
    kind: str
    state: str
    target: str
    known_hosts: str
    key: str
    wearable: str | None
    folder: str

    def to_text(self) -> str:
        """Lines for people, ready to be pasted."""
        lines = [f"{self.name}: {self.kind}, {self.state}", f"  target    {self.target}"]
        lines.append(f"  options   --known-hosts {self.known_hosts} --key {self.key}")
        if self.wearable:
            lines.append(f"  wearable  {self.wearable}   (plugged in as /dev/ttyUSB0 while it runs)")
        return "\n".join(lines)


class Kind(Protocol):
    """The verbs of one kind of emulated gateway; `folder` is the gateway's own."""

    name: str

    def create(self, folder: Path, progress: Progress) -> Gateway:
        """Make what it starts from, and its keys; raises EmulatorError naming what is missing."""

    def start(self, folder: Path, *, is_fresh: bool, progress: Progress) -> Gateway:
        """Start, or go back to how it was made; returns when sshd answers."""

    def stop(self, folder: Path, *, is_cut: bool) -> None:
        """Power off in order, or cut the power."""

    def is_running(self, folder: Path) -> bool:
        """Whether it runs now."""

    def keys(self, folder: Path) -> Path:
        """Folder of `client`, the key that lets in, and of `known_hosts`."""

    def remove(self, folder: Path) -> None:
        """Free what it has outside its folder; it is stopped."""


def read_record(folder: Path) -> Gateway:
    """The record of the gateway in `folder`; raises EmulatorError for none, or one of a newer version."""
    path = folder / RECORD
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise EmulatorError(
            f"no emulated gateway {folder.name!r}; make it: vitaledge emulator create {folder.name}"
        ) from error
    except ValueError as error:
        raise EmulatorError(f"{path}: not JSON ({error}); remove the folder and create the gateway again") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise EmulatorError(f"{path}: schema is not {SCHEMA}; remove the folder and create the gateway again")
    return build(Gateway, found, str(path), EmulatorError)


def write_record(folder: Path, gateway: Gateway) -> None:
    """Replace the record."""
    new = folder / f".{RECORD}"
    new.write_text(json.dumps(asdict(gateway), indent=1) + "\n")
    new.rename(folder / RECORD)
