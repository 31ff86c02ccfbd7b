"""Talk to a running QEMU: its machine protocol (QMP) over a socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from host_tools.emulator.gateway import EmulatorError


class Qmp:
    """One conversation; use it in a `with`. Raises EmulatorError for what QEMU refuses."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)

    def __enter__(self) -> Qmp:
        try:
            self._socket.connect(str(self._path))
        except OSError as error:
            self._socket.close()
            raise EmulatorError(f"{self._path}: QEMU does not answer ({error.strerror})") from error
        self._lines = self._socket.makefile("rw")
        self._answer()  # the greeting
        self.command("qmp_capabilities")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def command(self, name: str, **arguments: object) -> object:
        """Execute one command and return its answer."""
        self._lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._lines.flush()
        answer = self._answer()
        if "error" in answer:
            raise EmulatorError(f"QEMU refuses {name}: {answer['error'].get('desc', answer['error'])}")
        return answer.get("return")

    def monitor(self, line: str) -> None:
        """Execute a line of the human monitor, which says nothing when all is well."""
        said = str(self.command("human-monitor-command", **{"command-line": line})).strip()
        if said:
            raise EmulatorError(f"QEMU refuses {line!r}: {said.splitlines()[-1]}")

    def _answer(self) -> dict[str, Any]:
        """The next message that is no event."""
        while True:
            try:
                line = self._lines.readline()
            except TimeoutError as error:
                raise EmulatorError(f"{self._path}: QEMU did not answer in time") from error
            if not line:
                raise EmulatorError(f"{self._path}: QEMU ended")
            message: dict[str, Any] = json.loads(line)
            if "event" not in message:
                return message
