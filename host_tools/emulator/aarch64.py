"""The kind `aarch64`: a Debian machine in QEMU with kernel, systemd, sshd, a disk of its own and a USB-serial port."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from host_tools.emulator import qemu
from host_tools.emulator.gateway import EmulatorError, Gateway, Progress, read_record, write_record
from host_tools.emulator.image import KIND, ready_image, snapshot
from host_tools.emulator.needs import RUN_AARCH64, require
from host_tools.emulator.qmp import Qmp
from host_tools.emulator.ssh import make_key, run_as_root, wait_for_sshd, write_known_hosts

HOST, USER = "127.0.0.1", "pi"
BOOT_S, WAKE_S, POWER_OFF_S = 600.0, 120.0, 180.0
# A machine of its own: other keys than the image's, another name. sshd reads its key when it starts.
MAKE_IT_ITS_OWN = """set -e
cat > /etc/ssh/new_key; chmod 600 /etc/ssh/new_key; mv /etc/ssh/new_key /etc/ssh/ssh_host_ed25519_key
for home in /root /home/pi; do echo '{client}' > $home/.ssh/authorized_keys; done
hostnamectl set-hostname {name}; sed -i 's/gateway/{name}/' /etc/hosts
date -s @{now} >/dev/null; sync; systemctl restart ssh"""


class Aarch64:
    """The verbs; see `Kind`."""

    name = KIND

    def create(self, folder: Path, progress: Progress) -> Gateway:
        """Make the machine: a copy of the image's booted disk with keys and a name of its own."""
        require(RUN_AARCH64)
        image = ready_image(progress)
        progress("its own disk and keys", 9, 10)
        for name in ("client", "host"):
            make_key(folder / name, f"{folder.name}-{name}")
        _copy(snapshot(image), folder / "disk.qcow2")
        gateway = Gateway(
            name=folder.name,
            kind=KIND,
            image=str(image),
            host=HOST,
            user=USER,
            port=qemu.free_port(),
            wearable=str(folder / "wearable"),
        )
        self._own(folder, gateway, image)
        write_record(folder, gateway)
        return gateway

    def start(self, folder: Path, *, is_fresh: bool, progress: Progress) -> Gateway:
        """Boot its disk; `is_fresh`, or the first time: go on from the snapshot, in seconds."""
        require(RUN_AARCH64)
        gateway, image = read_record(folder), Path(read_record(folder).image)
        if not (image / "disk.raw").exists():
            raise EmulatorError(f"{image}: its image is gone; remove {folder.name} and create it again")
        gateway = _with_a_free_port(folder, gateway)
        used = folder / "used"
        is_fresh = is_fresh or not used.exists()
        if is_fresh and snapshot_of(folder) != snapshot(image).name:
            raise EmulatorError(f"{folder.name}: made with another QEMU; remove it and create it again")
        used.touch()
        begun = time.monotonic()
        qemu.launch(folder, image, gateway.port, snapshot=qemu.SNAPSHOT if is_fresh else None)
        try:
            wait_for_sshd(
                HOST,
                gateway.port,
                is_alive=lambda: self.is_running(folder),
                timeout_s=WAKE_S if is_fresh else BOOT_S,
                progress=progress,
                what="waking" if is_fresh else "booting",
            )
            if gateway.wearable:
                qemu.add_usb_port(folder, gateway.wearable)
            # Like a board without a clock chip, it has the time of its snapshot.
            _root(folder, gateway, f"date -s @{time.time():.3f} >/dev/null")
        except EmulatorError as error:
            qemu.kill(folder)
            raise EmulatorError(f"{error} after {time.monotonic() - begun:.0f} s (see {folder}/console.log)") from error
        return gateway

    def stop(self, folder: Path, *, is_cut: bool) -> None:
        """Press the power button and wait; `is_cut`: pull the plug."""
        if is_cut:
            qemu.kill(folder)
            return
        pid = qemu.running_pid(folder)
        if pid is None:
            return
        with Qmp(folder / "qmp.sock") as qmp:
            qmp.command("system_powerdown")
        qemu.wait_for_end(folder, pid, POWER_OFF_S)

    def is_running(self, folder: Path) -> bool:
        """Whether its QEMU runs."""
        return qemu.running_pid(folder) is not None

    def keys(self, folder: Path) -> Path:
        """Its own folder."""
        return folder

    def remove(self, folder: Path) -> None:
        """All it has lies in its folder."""

    def _own(self, folder: Path, gateway: Gateway, image: Path) -> None:
        """Wake the copy, give it keys and a name, and make that its snapshot."""
        write_known_hosts(folder / "known_hosts", HOST, gateway.port, image / "host.pub")
        qemu.launch(folder, image, gateway.port, snapshot=qemu.SNAPSHOT)
        try:
            wait_for_sshd(
                HOST,
                gateway.port,
                is_alive=lambda: self.is_running(folder),
                timeout_s=WAKE_S,
                progress=lambda text, done, total: None,
                what="waking",
            )
            client = (folder / "client.pub").read_text().strip()
            run_as_root(
                HOST,
                gateway.port,
                key=image / "client",
                known_hosts=folder / "known_hosts",
                line=MAKE_IT_ITS_OWN.format(client=client, name=folder.name, now=time.time()),
                stdin=(folder / "host").read_bytes(),
            )
            write_known_hosts(folder / "known_hosts", HOST, gateway.port, folder / "host.pub")
            _root(folder, gateway, "sync")
            with Qmp(folder / "qmp.sock") as qmp:
                qmp.monitor(f"savevm {qemu.SNAPSHOT}")
        finally:
            qemu.kill(folder)
        (folder / "snapshot").write_text(snapshot(image).name)


def snapshot_of(folder: Path) -> str:
    """Which image's snapshot a machine goes on from."""
    return (folder / "snapshot").read_text() if (folder / "snapshot").exists() else ""


def _root(folder: Path, gateway: Gateway, line: str) -> str:
    return run_as_root(HOST, gateway.port, key=folder / "client", known_hosts=folder / "known_hosts", line=line)


def _with_a_free_port(folder: Path, gateway: Gateway) -> Gateway:
    """The same gateway, its sshd on another port where somebody else took the old one meanwhile."""
    port = qemu.free_port(gateway.port)
    if port != gateway.port:
        gateway = Gateway(**{**vars(gateway), "port": port})
        write_known_hosts(folder / "known_hosts", HOST, port, folder / "host.pub")
        write_record(folder, gateway)
    return gateway


def _copy(source: Path, to: Path) -> None:
    """Copy a disk with its holes; shares blocks where the file system can."""
    if shutil.which("cp"):
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(to)], check=True)
    else:
        shutil.copyfile(source, to)
