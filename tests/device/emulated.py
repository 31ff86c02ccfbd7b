"""Emulated gateways for tests, made by the verbs that users have, and wearables that plug into them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from edge_runtime.cli import main as edge_runtime
from host_tools.emulator import gateways, needs, qemu
from host_tools.emulator.gateway import Progress
from host_tools.ship.options import Limits, ShipOptions

PROJECT = Path(__file__).resolve().parents[2]
BUNDLE = PROJECT / "deploy" / "bundles" / "ecg-beats"
# What is tried: container, aarch64, or both between commas.
KINDS = os.environ.get("VITALEDGE_DEVICE_KINDS", "container,aarch64").split(",")
NEEDS = {"aarch64": needs.MAKE_AARCH64, "container": needs.CONTAINER}
# A machine whose processor is computed is slow, and the more so the busier this one is.
PATIENT = Limits(check_s=900.0, start_s=600.0, reading_s=600.0)


def silent(text: str, done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True)
class Emulated:
    """One that runs."""

    name: str
    kind: str
    links: Path  # of SSH connections that stay open

    @property
    def status(self) -> gateways.Status:
        """How it is reached now."""
        return gateways.status(self.name)

    @property
    def target(self) -> str:
        """The account without privileges."""
        return self.status.target

    @property
    def root(self) -> str:
        """Where its releases lie."""
        return f"/home/{self.target.split('//')[1].split('@')[0]}/.local/share/vitaledge"

    def options(self, **changes: object) -> ShipOptions:
        """Its keys, and patience."""
        status = self.status
        usual = {
            "known_hosts": Path(status.known_hosts),
            "key_file": Path(status.key),
            "connect_timeout_s": 120.0,
            "keepalive_s": 60.0,
            "limits": PATIENT,
        }
        return ShipOptions(**{**usual, **changes})  # type: ignore[arg-type]

    def argv(self, line: str, user: str | None = None) -> list[str]:
        """The command that runs a line of shell there."""
        status = self.status
        account, address = status.target.removeprefix("ssh://").split("@")
        host, _, port = address.partition(":")
        argv = ["ssh", "-F", "none", "-q", "-p", port or "22", "-i", status.key, "-o", "BatchMode=yes"]
        argv += ["-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]
        argv += ["-o", f"UserKnownHostsFile={status.known_hosts}"]
        # One log-in for many lines: each would cost seconds of a computed processor.
        argv += ["-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", f"ControlPath={self.links}/%r"]
        argv += [f"{user or account}@{host}", line]
        return argv

    def run(self, line: str, *, user: str | None = None, timeout_s: float = 300.0, check: bool = True) -> str:
        """What a line of shell there prints."""
        done = subprocess.run(
            self.argv(line, user), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
        if check and done.returncode != 0:
            pytest.fail(f"{line}: {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout.strip()

    def show(self, name: str) -> str:
        """A property of its service."""
        return self.run(f"systemctl show vitaledge.service --value --property {name}")

    def cut(self) -> None:
        """Pull its plug: QEMU is killed."""
        gateways.stop(self.name, is_cut=True)
        self.hang_up()

    def hang_up(self) -> None:
        """End connections that stay open."""
        for user in [link.name for link in self.links.iterdir()]:
            argv = ["ssh", "-q", "-F", "none", "-o", f"ControlPath={self.links}/{user}", "-O", "exit", "gateway"]
            subprocess.run(argv, capture_output=True)

    def boot(self) -> None:
        """Start it with the disk as it is."""
        gateways.start(self.name, is_fresh=False, progress=silent)

    @property
    def processor_s(self) -> float:
        """Seconds of this machine's processors that the emulation has taken; nothing else's work counts."""
        pid = qemu.running_pid(Path(self.status.folder))
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def wearable(self) -> Iterator[str]:
        """A wearable that plays a patient through USB, or where there is no USB to a TCP port; gives the source."""
        socket = Path(self.status.folder) / "wearable"
        if self.kind == "aarch64":
            wait_until(lambda: self.run("ls /dev/ttyUSB*", check=False) == "", 120.0, "the one before is unplugged")
        to = f"unix:{socket}" if self.kind == "aarch64" else f"tcp:{self._gate()}:0"
        with playing(to) as said:
            if self.kind == "aarch64":
                wait_until(lambda: self.run("ls /dev/ttyUSB0", check=False) != "", 120.0, "the adapter is plugged in")
                said = said.replace(f"unix:{socket}", "serial:///dev/ttyUSB0")
            yield f"{said}&channel=ECG"

    def _gate(self) -> str:
        """This machine's address on the container's network."""
        return re.sub(r"\.\d+$", ".1", self.target.split("@")[1])


@contextlib.contextmanager
def playing(to: str) -> Iterator[str]:
    """Play the patient to a place; gives what a runtime opens there."""
    argv = [sys.executable, "-m", "edge_runtime", "simulate", "edge", "--to", to, "--source", patient()]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as work:
        assert work.stdout is not None
        try:
            yield work.stdout.readline().strip()
        finally:
            work.terminate()


def patient() -> str:
    """A recorded one where there is one, with many ventricular beats."""
    record = Path(os.environ.get("VITALEDGE_DATA", "/nonexistent")) / "mitdb" / "208"
    if record.with_suffix(".dat").exists():
        return f"wfdb:{record}?channel=MLII"
    return "synthetic:?seconds=max&heart_rate=80&pvc=0.2"


@contextlib.contextmanager
def running(kind: str, purpose: str = "") -> Iterator[Emulated]:
    """A fresh gateway of a kind, removed afterwards; skips where this machine cannot have one."""
    reason = needs.missing(NEEDS[kind])
    if reason:
        pytest.skip(reason)
    found = Emulated(
        f"test-{kind}{purpose and '-'}{purpose}-{os.getpid()}", kind, Path(tempfile.mkdtemp(prefix="links-"))
    )
    try:
        try:
            gateways.create(found.name, kind, told())
            gateways.start(found.name, is_fresh=True, progress=silent)
        except gateways.EmulatorError as error:
            pytest.skip(f"no {kind} here: {error}")
        yield found
    finally:
        found.hang_up()
        shutil.rmtree(found.links)
        with contextlib.suppress(gateways.EmulatorError):
            gateways.stop(found.name, is_cut=True)
            gateways.remove(found.name)


def told() -> Progress:
    """Say each step of what takes minutes once, with the seconds since the first."""
    begun, last = time.monotonic(), [""]

    def progress(text: str, done: int, total: int) -> None:
        if text != last[0]:
            last[0] = text
            sys.stderr.write(f"{time.monotonic() - begun:6.0f} s  {text}\n")

    return progress


def wait_until(condition, seconds: float, what: str) -> None:
    """Wait for something to become true there."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.5)


def readings(lines: str) -> list[dict[str, object]]:
    """Readings among lines of JSON."""
    found = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    return [line for line in found if line.get("name") == "beat"]


def replayed(capture: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What this machine reads from the same bytes."""
    capsys.readouterr()
    assert edge_runtime(["replay", str(BUNDLE), f"replay:{capture}", "--json"]) == 0
    return readings(capsys.readouterr().out)


def newer(folder: Path, day: int) -> Path:
    """The same model, packed on a later day: another release."""
    shutil.copytree(BUNDLE, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["created"] = f"{date(2030, 1, 1) + timedelta(day)}T00:00:00Z"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def note(name: str, figures: dict[str, object]) -> None:
    """Keep what was measured, for whoever asks for it."""
    if "VITALEDGE_FIGURES" in os.environ:
        with Path(os.environ["VITALEDGE_FIGURES"], name).open("a") as out:
            out.write(json.dumps(figures) + "\n")
