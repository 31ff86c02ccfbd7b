"""The image that aarch64 gateways start from: made once, booted once, kept under a hash of what it depends on."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from host_tools.emulator import qemu
from host_tools.emulator.gateway import EmulatorError, Progress
from host_tools.emulator.needs import MAKE_AARCH64, require
from host_tools.emulator.places import cache_folder, forget_old_images, locked, remove_tree, scripts
from host_tools.emulator.qmp import Qmp
from host_tools.emulator.ssh import run_as_root, wait_for_sshd, write_known_hosts

KIND = "aarch64"
SCRIPTS = ("make_aarch64_image.sh", "set_up_aarch64.sh", "sources.sh")
STEP = re.compile(r"step (\d+)/(\d+) (.*)")
FIRST_BOOT_S = 900.0


def ready_image(progress: Progress) -> Path:
    """Folder of the image: vmlinuz, initrd.gz, disk.raw, the keys `client` and `host`, and ready.qcow2.

    Made if it is not there, which takes minutes, root and Debian's packages. Raises EmulatorError.
    """
    with locked("images"):
        image = cache_folder() / "images" / f"{KIND}-{_hash(*[(scripts() / name).read_bytes() for name in SCRIPTS])}"
        if not image.exists():
            _make(image, progress)
        if not snapshot(image).exists():
            _boot_once(image, progress)
        forget_old_images(KIND, image)
        return image


def snapshot(image: Path) -> Path:
    """The booted disk of an image; one for each QEMU and machine, since no other can go on from it."""
    return image / f"ready-{_hash(qemu.version().encode(), repr(qemu.MACHINE).encode())}.qcow2"


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _make(image: Path, progress: Progress) -> None:
    """Run the script that makes the files; they appear under their name when all are there."""
    require(MAKE_AARCH64)
    new = image.with_name(f".new-{image.name}")
    remove_tree(new)
    new.mkdir(parents=True)
    log = cache_folder() / "make_aarch64_image.log"
    with log.open("w") as errors:
        # What it mounts below `new` (/proc, this machine's /dev/shm) ends with it, however it ends.
        argv = ["unshare", "--mount", str(scripts() / SCRIPTS[0]), str(new)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True) as work:
            for line in work.stdout or ():
                if step := STEP.match(line):
                    progress(step[3], int(step[1]) - 1, int(step[2]) + 1)
    if work.returncode != 0:
        words = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["no reason given"]
        raise EmulatorError(f"the image could not be made: {words[-1].strip()} (all of it: {log})")
    new.rename(image)


def _boot_once(image: Path, progress: Progress) -> None:
    """Boot the image and keep the running machine as a snapshot: later starts go on from there."""
    require(MAKE_AARCH64)
    folder = image / "first-boot"
    remove_tree(folder)
    folder.mkdir()
    disk = folder / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image / "disk.raw"), str(disk)], check=True
    )
    port = qemu.free_port()
    write_known_hosts(folder / "known_hosts", "127.0.0.1", port, image / "host.pub")
    qemu.launch(folder, image, port, snapshot=None)
    try:
        wait_for_sshd(
            "127.0.0.1",
            port,
            is_alive=lambda: qemu.running_pid(folder) is not None,
            timeout_s=FIRST_BOOT_S,
            progress=progress,
            what="first boot",
        )
        said = run_as_root(
            "127.0.0.1",
            port,
            key=image / "client",
            known_hosts=folder / "known_hosts",
            # With the adapter's driver in the snapshot, a wearable is there sooner.
            line="systemctl is-system-running --wait; modprobe ftdi_sio && sync",
        )
        if said.strip() != "running":
            raise EmulatorError(f"first boot: systemd says {said.strip()!r}; 'running' wanted")
        with Qmp(folder / "qmp.sock", timeout_s=300.0) as qmp:
            qmp.monitor(f"savevm {qemu.SNAPSHOT}")
    finally:
        qemu.kill(folder)
    for old in image.glob("ready-*.qcow2"):
        old.unlink()
    disk.rename(snapshot(image))
    remove_tree(folder)
