"""Readings as lines for people."""

from __future__ import annotations

from edge_runtime.contract.signal import Ledger, Reading
from edge_runtime.sinks.jsonlines import JsonLines


class TextLines(JsonLines):
    """One aligned line a reading; a reader that goes away ends it quietly."""

    def line(self, said: Reading | Ledger) -> str:
        """A reading as time, value, confidence and quality; the ledger as one sentence."""
        mark = "  (simulated)" if self.is_simulated else ""
        if isinstance(said, Ledger):
            counts = f"{said.scored} scored, {said.dropped} dropped, {said.gap} missing"
            return f"{said.received} samples received: {counts}{mark}"
        confidence = "" if said.confidence is None else f"  confidence {said.confidence:.2f}"
        quality = "" if said.quality is None else f"  quality {said.quality:.2f}"
        value = "-" if said.value is None else f"{said.value:.4g}" if isinstance(said.value, float) else said.value
        return f"{said.t_s:10.3f} s  {said.name} {value}{confidence}{quality}{mark}"
