"""Which programs an emulated gateway needs on this machine, and the Debian packages they come in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from host_tools.emulator.gateway import EmulatorError

# A program, or a file with a path, and its Debian package.
RUN_AARCH64: dict[str, str] = {
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
MAKE_AARCH64: dict[str, str] = RUN_AARCH64 | {
    "mmdebstrap": "mmdebstrap",
    "arch-test": "arch-test",
    "/usr/lib/binfmt.d/qemu-aarch64.conf": "qemu-user-static",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "cpio": "cpio",
}

CONTAINER: dict[str, str] = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh-keygen": "openssh-client",
}


def _is_there(name: str) -> bool:
    # Administrators' programs are not on every user's path.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return Path(name).exists() if name.startswith("/") else shutil.which(name, path=path) is not None


def require(needs: Mapping[str, str], is_there: Callable[[str], bool] = _is_there) -> None:
    """Raise EmulatorError that names the Debian packages that are missing, if some are."""
    missing = sorted({package for name, package in needs.items() if not is_there(name)})
    if missing:
        raise EmulatorError(
            f"missing here: {', '.join(missing)}; on Debian: "
            f"sudo apt-get install --no-install-recommends {' '.join(missing)}"
        )


def require_root(what: str, uid: int | None = None) -> None:
    """Raise EmulatorError for anybody but root."""
    if (os.geteuid() if uid is None else uid) != 0:
        raise EmulatorError(f"{what} needs root; run it with sudo")
