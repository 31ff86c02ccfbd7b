"""A real sshd on loopback with keys of its own; run as root, it serves another, unprivileged user."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil
import pytest
from shipping_fakes import fake_options, free_port, make_key

from host_tools.ship.options import ShipOptions
from host_tools.ship.wheels import cache_folder

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin no
MaxStartups 100
LogLevel ERROR
"""


@dataclass
class Gateway:
    """A machine behind sshd: where it listens, who may log in, and a home whose files tests may look at."""

    folder: Path
    port: int
    user: str
    home: Path

    def __post_init__(self) -> None:
        self._roots = count()

    def url(self, *, port: int | None = None, root: Path | None = None) -> str:
        """A target with a root folder of its own, or with `root`."""
        root = root or self.home / f"root{next(self._roots)}"
        return f"ssh://{self.user}@127.0.0.1:{port or self.port}{root}"

    def known_hosts(self, path: Path, *ports: int) -> Path:
        """A file that trusts this gateway at its own port, or at those of proxies."""
        algorithm, key, *_ = (self.folder / "host.pub").read_text().split()
        path.write_text("".join(f"[127.0.0.1]:{p} {algorithm} {key}\n" for p in ports or (self.port,)))
        return path

    def options(self, **changes: object) -> ShipOptions:
        """Options with the right key and known hosts, the fake runtime and no wheels."""
        known = self.known_hosts(self.folder / "known_hosts")
        return fake_options(**{"known_hosts": known, "key_file": self.folder / "client", "keepalive_s": 0.5, **changes})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """What tests ship is not remembered among what the user ships; wheels that were downloaded are used."""
    cache = tmp_path_factory.mktemp("cache")
    wheels = cache_folder() / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (cache / "wheels").symlink_to(wheels)
    monkeypatch.setenv("VITALEDGE_CACHE", str(cache))


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A running sshd; skipped without one."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs sshd: apt-get install openssh-server")
    # Not below pytest's own folder: another user could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="gateway-"))
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        user = stack.enter_context(_unprivileged_user(folder))
        for name in ("host", "client"):
            make_key(folder / name)
        shutil.copy(folder / "client.pub", folder / "authorized_keys")
        (folder / "authorized_keys").chmod(0o644)
        port = free_port()
        (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder))
        stack.enter_context(_running(folder, port))
        yield Gateway(folder, port, user, folder / "home")


@contextlib.contextmanager
def _unprivileged_user(folder: Path) -> Iterator[str]:
    home = folder / "home"
    if os.getuid() != 0:
        home.mkdir()
        yield getpass.getuser()
        return
    user = f"gateway{os.getpid()}"
    # A password of '*' matches nothing and, unlike '!', leaves the account open to keys.
    subprocess.run(
        ["useradd", "--system", "--shell", "/bin/sh", "--password", "*", "--home-dir", home, user], check=True
    )
    try:
        home.mkdir()
        shutil.chown(home, user)
        yield user
    finally:
        # A program may outlive its session, and a user with programs cannot be removed.
        for _ in range(100):
            for process in psutil.process_iter(["username"]):
                if process.info["username"] == user:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            if subprocess.run(["userdel", user], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"user {user} could not be removed")


@contextlib.contextmanager
def _running(folder: Path, port: int) -> Iterator[None]:
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    argv = [str(SSHD), "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "sshd.log")]
    with subprocess.Popen(argv) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.02)
            else:
                pytest.fail("sshd did not start: " + (folder / "sshd.log").read_text())
            yield
        finally:
            process.terminate()
