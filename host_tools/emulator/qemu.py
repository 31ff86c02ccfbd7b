"""The QEMU process of an aarch64 gateway: its machine, starting it, ending it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from pathlib import Path

from host_tools.emulator.gateway import EmulatorError
from host_tools.emulator.qmp import Qmp

SNAPSHOT = "ready"
# What the guest sees; a snapshot fits only the machine it was made on.
# On a busy machine a boot takes minutes: then systemd's usual 90 s are no sign of a fault.
KERNEL = (
    "root=/dev/vda rw console=ttyAMA0 quiet net.ifnames=0 systemd.getty_auto=no "
    "systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900"
)
MACHINE = (
    *("-machine", "virt,gic-version=3", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024"),
    *("-accel", "tcg,thread=multi", "-nodefaults", "-display", "none"),
    *("-append", KERNEL),
    *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-net-pci,netdev=net,romfile="),
    *("-device", "virtio-rng-pci", "-device", "qemu-xhci,id=usb"),
)
END_TIMEOUT_S = 60.0
LONGEST_SOCKET = 107  # bytes of a path in a Unix socket's address


def version() -> str:
    """The first line of what QEMU says of itself."""
    said = subprocess.run(["qemu-system-aarch64", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.splitlines()[0]


def free_port(wanted: int | None = None) -> int:
    """`wanted`, if nobody listens there, else some port of this machine that is free now."""
    for port in (wanted or 0, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as listener:
                return int(listener.getsockname()[1])
        except OSError:
            continue
    raise EmulatorError("no port of 127.0.0.1 is free")


def launch(folder: Path, image: Path, port: int, *, snapshot: str | None) -> None:
    """Start QEMU in the background on `folder`/disk.qcow2; its sshd is on `port` of this machine.

    `restrict=on`: the guest reaches no network. A guest's flush reaches this machine's disk; what it did not flush
    is lost when QEMU is killed, as on a board that loses power.
    """
    if len(f"{folder}/qmp.sock") > LONGEST_SOCKET:
        raise EmulatorError(f"{folder}: path too long for a socket; set VITALEDGE_DEVICES to a shorter one")
    argv = ["qemu-system-aarch64", *MACHINE, "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.gz")]
    argv += ["-drive", f"if=none,id=disk,file={folder}/disk.qcow2,format=qcow2,cache=writeback"]
    argv += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
    argv += ["-chardev", f"file,id=console,path={folder}/console.log", "-serial", "chardev:console"]
    argv += ["-qmp", f"unix:{folder}/qmp.sock,server=on,wait=off", "-pidfile", f"{folder}/pid", "-daemonize"]
    argv += ["-loadvm", snapshot] if snapshot else []
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise EmulatorError(f"QEMU did not start: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")


def running_pid(folder: Path) -> int | None:
    """Process id of this folder's QEMU, if it runs."""
    try:
        pid = int((folder / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # The number may be another program's by now.
    return pid if f"{folder}/pid".encode() in command else None


def kill(folder: Path) -> None:
    """End QEMU at once: for the guest, the power is cut."""
    pid = running_pid(folder)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        wait_for_end(folder, pid, END_TIMEOUT_S)


def wait_for_end(folder: Path, pid: int, timeout_s: float) -> None:
    """Wait until QEMU is gone and has let go of its disk; raises EmulatorError if it stays."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # A process that ends has no command line any more, but still its files, and their locks.
        if not select.select([process], [], [], timeout_s)[0]:
            raise EmulatorError(f"{folder.name}: still running after {timeout_s:g} s; `--cut` cuts its power")
    finally:
        os.close(process)


def add_usb_port(folder: Path, wearable: str) -> None:
    """Give the guest a USB-serial adapter that is plugged in while something listens at the socket `wearable`.

    An FTDI FT232, which Linux calls /dev/ttyUSB0. QEMU looks for the listener once a second. Such a device cannot be
    part of a snapshot, so it is added to the running machine.
    """
    address = {"type": "unix", "data": {"path": wearable}}
    with Qmp(folder / "qmp.sock") as qmp:
        qmp.command(
            "chardev-add",
            id="wearable",
            backend={"type": "socket", "data": {"addr": address, "server": False, "reconnect": 1}},
        )
        qmp.command("device_add", driver="usb-serial", id="adapter", chardev="wearable")
