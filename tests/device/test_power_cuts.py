"""Power that fails at random moments of an update: the disk as it is then holds one release, whole; some are booted.

VITALEDGE_POWER_CUTS (default 3) makes a long run of it, VITALEDGE_POWER_SEED another one. Every update begins at the
same snapshot, so that only the moment differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from emulated import BUNDLE, KINDS, Emulated, newer, note, running, silent, wait_until

from host_tools.emulator import qemu
from host_tools.emulator.gateway import read_record
from host_tools.emulator.qmp import Qmp
from host_tools.emulator.ssh import wait_for_sshd
from host_tools.ship import service
from host_tools.ship.deploy import deploy
from host_tools.ship.errors import ShipError

pytestmark = pytest.mark.device
N_CUTS = int(os.environ.get("VITALEDGE_POWER_CUTS", "3"))
SEED = int(os.environ.get("VITALEDGE_POWER_SEED", "0"))
BOOT_EVERY = 10
SNAPSHOT = "deployed"
BOOT_S = 600.0


@dataclass(frozen=True)
class Updated:
    """A machine whose service runs a release, its snapshot, and the release that it is updated to."""

    gateway: Emulated
    new: Path
    took_s: float  # from the first step that writes to the end

    @property
    def folder(self) -> Path:
        """Of the machine."""
        return Path(self.gateway.status.folder)

    def launch(self, snapshot: str | None) -> None:
        """Go on from a snapshot, or boot the disk as it is."""
        record = read_record(self.folder)
        qemu.launch(self.folder, Path(record.image), record.port, snapshot=snapshot)
        wait_for_sshd(
            record.host,
            record.port,
            is_alive=lambda: qemu.running_pid(self.folder) is not None,
            timeout_s=BOOT_S,
            progress=silent,
            what="starting",
        )

    def serves(self) -> bool:
        """Whether its service has given a reading."""
        return self.gateway.show("StatusText").startswith("serving")

    def update(self, cut_s: float | None) -> tuple[str, str]:
        """Update it and cut its power so long after the first step that writes; gives (step, `done` or what failed)."""
        step, ended, is_cut = "", "done", False

        def pull() -> None:
            nonlocal is_cut
            is_cut = True
            self.gateway.cut()

        power = threading.Timer(cut_s or 0.0, pull)

        def progress(text: str, done: int, total: int) -> None:
            nonlocal step
            if text.startswith("send release") and cut_s is not None:
                power.start()
            step = step if is_cut else text

        try:
            deploy(self.new, self.gateway.target, options=self.gateway.options(), progress=progress)
        except ShipError as error:
            if not is_cut:
                power.cancel()
                raise
            ended = str(error)
        if cut_s is None:
            self.gateway.cut()
        else:
            power.join()
        return step, ended


@pytest.fixture(scope="module")
def updated(tmp_path_factory) -> Iterator[Updated]:
    """Deployed, serving a synthetic heart, and kept as a snapshot; the first update is not cut."""
    if "aarch64" not in KINDS:
        pytest.skip("VITALEDGE_DEVICE_KINDS names no aarch64; only that kind has a plug to pull")
    with running("aarch64", "cuts") as gateway:
        made = Updated(gateway, newer(tmp_path_factory.mktemp("cuts") / "new", 1), 0.0)
        deploy(BUNDLE, gateway.target, options=gateway.options())
        source = "synthetic:?heart_rate=72&seconds=max"
        service.install(gateway.target, source, scope="system", watchdog_s=120, options=gateway.options())
        gateway.run("sync")
        gateway.cut()
        # Booted without the USB port, which no snapshot can hold.
        made.launch(None)
        wait_until(made.serves, BOOT_S, "the service serves")
        gateway.hang_up()
        with Qmp(made.folder / "qmp.sock", timeout_s=300.0) as qmp:
            qmp.monitor(f"savevm {SNAPSHOT}")
        begun = time.monotonic()
        assert made.update(None) == ("done", "done")
        yield Updated(gateway, made.new, time.monotonic() - begun)


def test_the_power_may_fail_at_any_moment_of_an_update(updated, tmp_path):
    chance, ends = random.Random(SEED), []
    for number in range(N_CUTS):
        cut_s = chance.uniform(0.0, updated.took_s)
        updated.launch(SNAPSHOT)
        step, ended = updated.update(cut_s)
        found = whole_release(updated, tmp_path / str(number))
        if ended == "done":
            assert found == "new", "it said that it was done, and had not written it"
        is_booted = number % BOOT_EVERY == 0
        if is_booted:
            updated.launch(None)
            root = updated.gateway.root
            said = json.loads(updated.gateway.run(f"{root}/bin/edge-runtime check {root}/current --json"))
            assert said["is_passed"]
            wait_until(updated.serves, BOOT_S, "the service serves")
            updated.gateway.cut()
        ends.append(found)
        note("power-cuts.jsonl", {"cut_s": cut_s, "step": step, "ended": ended, "found": found, "booted": is_booted})
    # Cuts that hit nothing would show nothing.
    assert N_CUTS < 20 or set(ends) == {"old", "new"}


def whole_release(updated: Updated, out: Path) -> str:
    """Which release the disk of a machine without power holds as the current one, byte for byte: old or new."""
    out.mkdir()
    disk, root = out / "disk.raw", updated.gateway.root
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(updated.folder / "disk.qcow2"), str(disk)], check=True)
    # The journal is played back as at a boot; what -p does not mend by itself would be a damaged file system.
    checked = subprocess.run(["e2fsck", "-f", "-p", str(disk)], capture_output=True, text=True)
    assert checked.returncode in (0, 1), checked.stdout
    subprocess.run(["debugfs", "-R", f"rdump {root} {out}", str(disk)], check=True, capture_output=True)
    disk.unlink()
    place = out / Path(root).name
    release = place / os.readlink(place / "current")
    found = [how for how, bundle in (("old", BUNDLE), ("new", updated.new)) if holds(release, bundle)]
    assert len(found) == 1, f"{release.name} is neither the old nor the new release"
    runtime = place / "runtime" / json.loads((release / "release.json").read_text())["runtime"]
    for files in json.loads((runtime / "runtime.json").read_text())["archives"].values():
        for name, wanted in files.items():
            assert hashlib.sha256((runtime / "site" / name).read_bytes()).hexdigest() == wanted, name
    assert json.loads((place / "service" / "service.json").read_text())["unit"] == "vitaledge.service"
    assert "exec" in (place / "bin" / "edge-runtime").read_text()
    subprocess.run(["rm", "-r", str(out)], check=True)
    return found[0]


def holds(release: Path, bundle: Path) -> bool:
    """Whether a release has every file of a bundle as it is; model cards stay here."""
    files = [file.name for file in bundle.iterdir() if file.suffix != ".md"]
    return all((release / f).is_file() and (release / f).read_bytes() == (bundle / f).read_bytes() for f in files)
