"""What a user may choose about shipping; every default fits a gateway on the same network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edge_runtime.contract.budget import Budget, budget_text
from edge_runtime.contract.errors import SettingsError

# progress(what is being done, done so far, all of it); bytes in uploads, steps otherwise
Progress = Callable[[str, int, int], None]

# How the command line names limits that have an option.
OPTION_OF = {"reading_s": "--reading-within", "max_block_ms": "--max-hop-ms", "max_memory_mib": "--max-memory"}


def no_progress(text: str, done: int, total: int) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a release must hold on its device; raises SettingsError for what cannot be held.

    check_s         for the golden vectors
    start_s         for the service to be ready
    reading_s       for its first reading after that; 0: none is waited for
    max_block_ms    p99 of the time that a hop takes; None: any
    max_memory_mib  of the check, and of the service when it gives its first reading; None: any
    exact           golden vectors to the last bit, not to the tolerance that the bundle allows other processors
    """

    check_s: float = 300.0
    start_s: float = 60.0
    reading_s: float = 60.0
    max_block_ms: float | None = None
    max_memory_mib: float | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        """Refuse what no release can hold."""
        for name, value in asdict(self).items():
            # Not a number is neither.
            if value is not None and not (value > 0 or (value == 0 and name in ("reading_s", "exact"))):
                raise SettingsError(f"{OPTION_OF.get(name, name)} is {value:g}; a positive number wanted")

    def with_budget(self, budget: Budget | None) -> Limits:
        """These limits, and a bundle's own where nothing else was asked for."""
        if budget is None:
            return self
        return replace(
            self,
            max_block_ms=budget.max_hop_ms if self.max_block_ms is None else self.max_block_ms,
            max_memory_mib=budget.max_memory_mib if self.max_memory_mib is None else self.max_memory_mib,
        )

    @property
    def budget_text(self) -> str:
        """The budgets, for people; empty if there are none."""
        return budget_text(self.max_block_ms, self.max_memory_mib)

    @property
    def options(self) -> list[str]:
        """What `edge-runtime check` is asked; releases of before it could time know no such option."""
        return ["--timing"] if self.max_block_ms is not None or self.max_memory_mib is not None else []


USUAL_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class ShipOptions:
    """Options of `deploy`, `rollback` and `status`; raises SettingsError for a path that is not there.

    known_hosts      file of trusted host keys; None: those named by ~/.ssh/config, else ~/.ssh/known_hosts
    key_file         private key; None: the agent's keys and those named by ~/.ssh/config
    wheels           folder of wheels for hosts without a network; None: pip's package index
    runtime_package  the `edge_runtime` folder to ship; None: the one that is imported here
    python_archive   standalone CPython for devices without one that is new enough
    requirements     what the device needs besides it
    keep             how many old releases stay on the device
    accept_new       take the host key of a host that no file of known hosts names, and note it there
    sign_key         SSH key that signs what the device wants signed; None: only the bundle's own signature
    allow_downgrade  let an older bundle replace a newer one of the same name
    limits           what a release must hold on the device
    """

    known_hosts: Path | None = None
    key_file: Path | None = None
    connect_timeout_s: float = 10.0
    keepalive_s: float = 5.0
    wheels: Path | None = None
    runtime_package: Path | None = None
    python_archive: Path | None = None
    requirements: tuple[str, ...] = ("numpy", "psutil", "pyserial", "onnxruntime")
    keep: int = 3
    accept_new: bool = False
    sign_key: Path | None = None
    allow_downgrade: bool = False
    limits: Limits = USUAL_LIMITS

    def __post_init__(self) -> None:
        """Refuse what is not there now, and not after hours of training or only for some targets."""
        for name, path, kind in (
            ("--known-hosts", self.known_hosts, "file of trusted host keys"),
            ("--key", self.key_file, "private key"),
            ("--sign", self.sign_key, "key made by ssh-keygen"),
            ("--wheels", self.wheels, "folder of wheels"),
            ("--python-archive", self.python_archive, "standalone CPython (.tar.gz)"),
        ):
            if path is None:
                continue
            if not path.exists():
                raise SettingsError(f"{name} {path}: no such file or folder; a {kind} wanted")
            if path.is_dir() != (name == "--wheels"):
                raise SettingsError(f"{name} {path}: is {'a' if path.is_dir() else 'no'} folder; a {kind} wanted")
