"""Readings and the ledger as JSON lines on a text stream; each line leaves at once."""

from __future__ import annotations

import json
import os
from typing import Protocol, TextIO

from edge_runtime.contract.signal import Ledger, Reading, StreamSpec

ENCODER = json.JSONEncoder(allow_nan=False)  # `dumps` would make one for each line


class Sink(Protocol):
    """Where readings go; `is_open` turns false when nobody takes them any more."""

    is_open: bool

    def begin(self, spec: StreamSpec) -> None:
        """Learn which stream the readings will come from."""

    def write(self, said: Reading | Ledger) -> None:
        """Take one reading, or at the end the ledger; ignored when the sink is no longer open."""

    def close(self) -> None:
        """Hand over what is still held."""


class JsonLines:
    """One JSON object a line, flushed line by line; a reader that goes away (`| head`) ends it quietly.

    What a simulated stream gave says so in every line.
    """

    def __init__(self, stream: TextIO) -> None:
        self.is_open = True
        self.is_simulated = False
        self._stream = stream

    def begin(self, spec: StreamSpec) -> None:
        """Learn whether the stream is simulated."""
        self.is_simulated = spec.simulated

    def write(self, said: Reading | Ledger) -> None:
        """Write one line."""
        if not self.is_open:
            return
        try:
            self._stream.write(self.line(said) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self.is_open = False
            self._let_go()

    def line(self, said: Reading | Ledger) -> str:
        """One JSON object."""
        line = said.to_json()
        if self.is_simulated:
            line["simulated"] = True
        return ENCODER.encode(line)

    def _let_go(self) -> None:
        """Point the stream nowhere: the interpreter flushes what it still holds at exit, and must not fail then."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def close(self) -> None:
        """Stop writing; the stream stays with whoever opened it."""
        self.is_open = False
