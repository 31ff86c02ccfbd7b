"""Readings of many streams on one text stream: each line says whose it is."""

from __future__ import annotations

import json
from typing import TextIO

from edge_runtime.contract.signal import Ledger, Reading
from edge_runtime.sinks.jsonlines import JsonLines
from edge_runtime.sinks.text import TextLines


class NamedJsonLines(JsonLines):
    """One JSON object a line, with the stream's name first."""

    def __init__(self, stream: TextIO, name: str) -> None:
        super().__init__(stream)
        self._name = name

    def line(self, said: Reading | Ledger) -> str:
        """One JSON object."""
        marks = {"simulated": True} if self.is_simulated else {}
        return json.dumps({"stream": self._name} | said.to_json() | marks, allow_nan=False)


class NamedTextLines(TextLines):
    """One aligned line a reading, with the stream's name first."""

    def __init__(self, stream: TextIO, name: str) -> None:
        super().__init__(stream)
        self._name = name

    def line(self, said: Reading | Ledger) -> str:
        """The stream's name and the reading; the ledger as one sentence."""
        return f"{self._name}: {super().line(said)}"
