"""The seam between shipping and a machine: run a program there, or talk with one that keeps running.

Files travel through a program's standard input and output, so a device needs no SFTP server and both
transports move files by the same code (`helper.py`).
"""

from __future__ import annotations

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


class Talk(Protocol):
    """A program that keeps running, reads frames and answers in lines."""

    def exchange(self, frames: Iterable[bytes]) -> bytes:
        """Write frames until all are written or an answer comes, the first in any case; gives the answer's line with
        its end, or nothing if the program has ended.

        Raises LinkError if the link is cut, and whatever `frames` raises, before which it writes nothing more.
        """

    def read(self, n_bytes: int) -> bytes:
        """The next bytes of its output; fewer at its end."""

    def close(self) -> Completed:
        """End its input and wait for it."""


class Transport(Protocol):
    """One connection to one machine; not to be shared between threads."""

    # Seconds without a sign of life after which a held lock is let go; 0: the system tells of a death.
    lease_s: float

    def run(self, argv: Sequence[str], stdin: Iterable[bytes] = (), *, timeout_s: float | None = None) -> Completed:
        """Run a program in the home folder, feed it, wait for it.

        A missing program is rc 127. Raises LinkError if the link is cut, ShipError after `timeout_s`.
        """

    def talk(self, argv: Sequence[str], sign_of_life: bytes) -> Talk:
        """Start a program and keep it; over a network it is sent `sign_of_life` every few seconds."""

    def close(self) -> None:
        """Give the connection back."""
