"""The seam between shipping and a machine: run a program there, or keep one running.

Files travel through a program's standard input and output, so a device needs no SFTP server and both
transports move files by the same code (`device.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

# What a shell answers when a program does not exist.
NOT_FOUND = 127


@dataclass(frozen=True)
class Completed:
    """How a program ended: exit status and everything it wrote."""

    rc: int
    stdout: bytes
    stderr: bytes

    @property
    def last_words(self) -> str:
        """Last line of stderr, else of stdout: what a message quotes."""
        for stream in (self.stderr, self.stdout):
            lines = stream.decode("utf-8", "replace").strip().splitlines()
            if lines:
                return lines[-1].strip()[:300]
        return "it said nothing"


class Transport(Protocol):
    """One connection to one machine; not to be shared between threads."""

    # Seconds without a sign of life after which a held program ends by itself; 0: the system tells it.
    lease_s: float

    def run(self, argv: Sequence[str], stdin: Iterable[bytes] = (), *, timeout_s: float | None = None) -> Completed:
        """Run a program in the home folder, feed it, wait for it.

        A missing program is rc 127. Raises LinkError if the link is cut, ShipError after `timeout_s`.
        """

    def hold(self, argv: Sequence[str]) -> contextlib.AbstractContextManager[bytes]:
        """Start a program, give its first line of output, and end its input when the context ends."""

    def close(self) -> None:
        """Give the connection back."""
