"""What a user may choose about shipping; every default fits a gateway on the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.errors import SettingsError

# progress(what is being done, done so far, all of it); bytes in uploads, steps otherwise
Progress = Callable[[str, int, int], None]


def no_progress(text: str, done: int, total: int) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class ShipOptions:
    """Options of `deploy`, `rollback` and `status`; raises SettingsError for a path that is not there.

    known_hosts      file of trusted host keys; None: those named by ~/.ssh/config, else ~/.ssh/known_hosts
    key_file         private key; None: the agent's keys and those named by ~/.ssh/config
    wheels           folder of wheels for hosts without a network; None: pip's package index
    runtime_package  the `edge_runtime` folder to ship; None: the one that is imported here
    requirements     what the device needs besides it
    keep             how many old releases stay on the device
    accept_new       take the host key of a host that no file of known hosts names, and note it there
    sign_key         SSH key that signs what the device wants signed; None: only the bundle's own signature
    allow_downgrade  let an older bundle replace a newer one of the same name
    """

    known_hosts: Path | None = None
    key_file: Path | None = None
    connect_timeout_s: float = 10.0
    keepalive_s: float = 5.0
    wheels: Path | None = None
    runtime_package: Path | None = None
    requirements: tuple[str, ...] = ("numpy", "psutil", "pyserial", "onnxruntime")
    keep: int = 3
    accept_new: bool = False
    sign_key: Path | None = None
    allow_downgrade: bool = False
    check_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        """Refuse what is not there now, and not after hours of training or only for some targets."""
        for name, path, kind in (
            ("--known-hosts", self.known_hosts, "file of trusted host keys"),
            ("--key", self.key_file, "private key"),
            ("--sign", self.sign_key, "key made by ssh-keygen"),
            ("--wheels", self.wheels, "folder of wheels"),
        ):
            if path is None:
                continue
            if not path.exists():
                raise SettingsError(f"{name} {path}: no such file or folder; a {kind} wanted")
            if path.is_dir() != (name == "--wheels"):
                raise SettingsError(f"{name} {path}: is {'a' if path.is_dir() else 'no'} folder; a {kind} wanted")
