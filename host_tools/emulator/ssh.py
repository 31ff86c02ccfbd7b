"""Reach an emulated gateway's sshd: wait for it, run a line there; the host's key is always checked."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from host_tools.emulator.gateway import EmulatorError, Progress

BANNER_TIMEOUT_S = 5.0


def make_key(path: Path, comment: str) -> None:
    """Make an ed25519 key without a passphrase, if it is not there yet."""
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)


def write_known_hosts(path: Path, host: str, port: int, public_key: Path) -> None:
    """A file that knows one host, by one key."""
    kind, key = public_key.read_text().split()[:2]
    name = host if port == 22 else f"[{host}]:{port}"
    path.write_text(f"{name} {kind} {key}\n")


def wait_for_sshd(
    host: str, port: int, *, is_alive: Callable[[], bool], timeout_s: float, progress: Progress, what: str
) -> None:
    """Return when an SSH server greets; raises EmulatorError when the machine ends or the time is over."""
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < timeout_s:
        progress(what, round(passed), round(timeout_s))
        if _greets(host, port):
            return
        if not is_alive():
            raise EmulatorError(f"{what}: the machine ended")
        time.sleep(0.1)
    raise EmulatorError(f"{what}: no SSH server answered within {timeout_s:g} s")


def _greets(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), BANNER_TIMEOUT_S) as connection:
            connection.settimeout(BANNER_TIMEOUT_S)
            return connection.recv(8).startswith(b"SSH-2")
    except OSError:
        return False


def run_as_root(host: str, port: int, *, key: Path, known_hosts: Path, line: str, stdin: bytes = b"") -> str:
    """Run a line of shell as root and return what it printed; raises EmulatorError with its last words."""
    argv = ["ssh", "-F", "none", "-p", str(port), "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    argv += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known_hosts}", "-o", "ConnectTimeout=60"]
    argv += ["-o", "GlobalKnownHostsFile=none", f"root@{host}", line]
    done = subprocess.run(argv, input=stdin, capture_output=True)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise EmulatorError(f"{host}:{port}: {words[-1]}")
    return done.stdout.decode()
