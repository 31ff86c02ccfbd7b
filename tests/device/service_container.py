"""A container gateway for tests, and releases that go wrong in a way of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import edge_runtime
from host_tools.ship.options import Limits, ShipOptions

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = PROJECT / "deploy" / "emulator" / "container.sh"
BUNDLE = PROJECT / "deploy" / "bundles" / "ecg-beats"
ROOT = "/home/pi/.local/share/vitaledge"
SOURCE = "synthetic:?heart_rate=72&seconds=max"


@dataclass(frozen=True)
class Container:
    """A running one: its address and the folder of its keys."""

    name: str
    number: int
    address: str
    state: Path

    @property
    def target(self) -> str:
        """The account that may do nothing special."""
        return f"ssh://pi@{self.address}"

    @property
    def as_root(self) -> str:
        """The same releases, by an account that may do everything."""
        return f"ssh://root@{self.address}{ROOT}"

    def options(self, **changes: object) -> ShipOptions:
        """Options with its keys."""
        keys = {"known_hosts": self.state / "known_hosts", "key_file": self.state / "client"}
        return ShipOptions(**{**keys, **changes})  # type: ignore[arg-type]

    def run(self, command: str, *, user: str = "root", check: bool = True) -> str:
        """What a shell command there says."""
        argv = ["ssh", "-q", "-o", f"UserKnownHostsFile={self.state}/known_hosts", "-i", str(self.state / "client")]
        done = subprocess.run(
            [*argv, f"{user}@{self.address}", command], capture_output=True, text=True, check=False, timeout=120
        )
        if check and done.returncode != 0:
            pytest.fail(f"{command}: {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout.strip()

    def show(self, *names: str) -> dict[str, str]:
        """What systemd there says of the service."""
        said = self.run(f"systemctl show vitaledge.service --property {','.join(names)}")
        return dict(line.split("=", 1) for line in said.splitlines())

    def cut(self) -> None:
        """Kill everything in it at once and boot it again."""
        subprocess.run([SCRIPT, "cut", self.name, str(self.number)], check=True, capture_output=True, timeout=120)


@contextlib.contextmanager
def running_container(name: str, number: int) -> Iterator[Container]:
    """A fresh container; skips where there cannot be one."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [p for p in ("systemd-nspawn", "mmdebstrap", "ip", "ssh") if shutil.which(p, path=path) is None]
    if os.getuid() != 0 or missing:
        pytest.skip(f"needs root, and: {', '.join(missing) or 'nothing else'} (systemd-container, mmdebstrap)")
    environment = {**os.environ, "PATH": path}
    argv = [str(SCRIPT), "start", name, str(number)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=900)
    try:
        if done.returncode != 0:
            pytest.skip(f"no container here: {done.stderr.strip().splitlines()[-1:]}")
        address, state = done.stdout.split()
        yield Container(name, number, address, Path(state))
    finally:
        subprocess.run([SCRIPT, "stop", name, str(number)], check=False, capture_output=True, env=environment)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for something on the other side; gives the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


def changed_runtime(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of the runtime with one passage changed."""
    package = folder / "edge_runtime"
    shutil.copytree(Path(next(iter(edge_runtime.__path__))), package, ignore=shutil.ignore_patterns("__pycache__"))
    text = (package / file).read_text()
    assert text.count(old) == 1
    (package / file).write_text(text.replace(old, new))
    return package


# In the one loop, and only where systemd listens: the checks before it pass.
LOOP = "            for block in link.blocks():\n"


def going_wrong(folder: Path, after_s: float, how: str) -> Path:
    """A runtime whose service hangs, or ends, so long after its start."""
    act = {"hang": "time.sleep(1e6)", "end": "os._exit(3)"}[how]
    wrong = f"                if clock() - started_ns > {after_s} * 1e9 and os.environ.get('NOTIFY_SOCKET'):\n"
    return changed_runtime(folder, "service.py", LOOP, f"{LOOP}{wrong}                    {act}\n")


def harmless(folder: Path, mark: str) -> Path:
    """A runtime that differs from the others by nothing but a comment."""
    return changed_runtime(folder, "service.py", LOOP, f"            # {mark}\n{LOOP}")


LIMITS = Limits(start_s=60.0, reading_s=20.0)
