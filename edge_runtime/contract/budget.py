"""What a bundle may cost on the devices that it is made for."""

from __future__ import annotations

import math
from dataclasses import asdict

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a deployment lets it cost; None: that does not matter.

    max_hop_ms      p99 of the time that a hop takes, over the golden signal
    max_memory_mib  of the check, and of the service when it gives its first reading
    Raises BundleError for a budget that nothing can hold, and for one that says nothing.
    """

    max_hop_ms: float | None = None
    max_memory_mib: float | None = None

    def __post_init__(self) -> None:
        """Refuse it."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not given:
            raise BundleError("a budget without a number; max_hop_ms or max_memory_mib wanted")
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0.0):
                raise BundleError(f"{name} is {value:g}; a positive number wanted")

    def to_text(self) -> str:
        """For people."""
        return budget_text(self.max_hop_ms, self.max_memory_mib)


def budget_text(max_hop_ms: float | None, max_memory_mib: float | None) -> str:
    """For people; empty if neither is given."""
    hop = "" if max_hop_ms is None else f"a hop in {max_hop_ms:g} ms (p99)"
    memory = "" if max_memory_mib is None else f"{max_memory_mib:g} MiB of memory"
    return ", ".join(text for text in (hop, memory) if text)
