"""The kind `container`: a Debian with real systemd and sshd, there in a second; its disk is memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

from host_tools.emulator.gateway import EmulatorError, Gateway, Progress, read_record, write_record
from host_tools.emulator.needs import CONTAINER, require
from host_tools.emulator.places import cache_folder, gateways, scripts

KIND, SCRIPT, USER = "container", "container.sh", "pi"
NUMBERS = range(1, 200)  # of addresses 10.78.NUMBER.2; tests take higher ones


class Container:
    """The verbs; see `Kind`. A container that was stopped has lost everything."""

    name = KIND

    def create(self, folder: Path, progress: Progress) -> Gateway:
        """Make the files that all containers share, if they are not there yet, and choose an address."""
        require(CONTAINER)
        progress("Debian's packages", 0, 1)
        self._run("create")
        taken = {record.host for record in map(read_record, gateways())}
        free = next((f"10.78.{n}.2" for n in NUMBERS if f"10.78.{n}.2" not in taken), None)
        if free is None:
            raise EmulatorError(f"{len(NUMBERS)} containers are there; remove one")
        gateway = Gateway(name=folder.name, kind=KIND, image="", host=free, port=22, user=USER)
        write_record(folder, gateway)
        return gateway

    def start(self, folder: Path, *, is_fresh: bool, progress: Progress) -> Gateway:
        """Boot it; always fresh."""
        require(CONTAINER)
        gateway = read_record(folder)
        if self._state(folder).exists():
            self._run("stop", folder.name, _number(gateway))  # what a crash of this machine left
        progress("booting", 0, 1)
        self._run("start", folder.name, _number(gateway))
        return gateway

    def stop(self, folder: Path, *, is_cut: bool) -> None:
        """End it; a container has no power to cut, so there is one way."""
        self._run("stop", folder.name, _number(read_record(folder)))

    def is_running(self, folder: Path) -> bool:
        """Whether its first process runs."""
        try:
            pid = int((self._state(folder) / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return False
        return f"--directory={self._state(folder)}/".encode() in command

    def keys(self, folder: Path) -> Path:
        """They are made at each start."""
        return self._state(folder)

    def remove(self, folder: Path) -> None:
        """All it has outside its folder ended when it was stopped, or ends now if that was interrupted."""
        if self._state(folder).exists():
            self._run("stop", folder.name, _number(read_record(folder)))

    def _state(self, folder: Path) -> Path:
        return cache_folder() / "run" / folder.name

    def _run(self, *arguments: str) -> None:
        # Its container outlives it and keeps what it inherits: files, not pipes.
        log = cache_folder() / "container.log"
        cache_folder().mkdir(parents=True, exist_ok=True)
        with log.open("w+") as said:
            argv = [str(scripts() / SCRIPT), *arguments]
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            said.seek(0)
            words = [line for line in said.read().splitlines() if line.strip()] or ["no reason given"]
        if done.returncode != 0:
            raise EmulatorError(f"container {arguments[0]}: {words[-1].strip()} (all of it: {log})")


def _number(gateway: Gateway) -> str:
    return gateway.host.split(".")[2]
