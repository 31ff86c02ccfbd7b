"""Which programs an emulated gateway needs on this machine, and the Debian packages they come in."""

from __future__ import annotations

import os
import shutil
import subprocess
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


def _may_mount() -> bool:
    """Whether this root is one: in many containers it is not."""
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


def missing(
    needs: Mapping[str, str],
    *,
    is_there: Callable[[str], bool] = _is_there,
    uid: int | None = None,
    may_mount: Callable[[], bool] = _may_mount,
) -> str:
    """Why this machine cannot make such a gateway: packages, root, its privileges; empty if it can."""
    packages = sorted({package for name, package in needs.items() if not is_there(name)})
    if packages:
        listed = ", ".join(packages)
        return f"missing here: {listed}; on Debian: sudo apt-get install --no-install-recommends {' '.join(packages)}"
    if needs is RUN_AARCH64:
        return ""
    if (os.geteuid() if uid is None else uid) != 0:
        return "making a Debian for a gateway needs root; run it with sudo"
    if not may_mount():
        return "making a Debian for a gateway needs a root that may mount; this one is kept from it"
    return ""


def require(needs: Mapping[str, str]) -> None:
    """Raise EmulatorError with what is missing, if something is."""
    if reason := missing(needs):
        raise EmulatorError(reason)
