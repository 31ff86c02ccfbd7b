"""One sample counter over however many connections it takes; the time between two of them is a gap."""

from __future__ import annotations

from dataclasses import replace

from edge_runtime.contract.signal import Block


class Timeline:
    """Moves each connection's blocks, which count from their own 0, onto one counter.

    The length of a gap is told by times of arrival of the monotonic clock; the wall clock takes no part. Before
    the first sample there is nothing to count from, so no gap.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._next = self._shift = 0
        self._last_ns: int | None = None
        self._is_new = False

    def interrupt(self) -> None:
        """The connection is lost: the next block is of a new one."""
        self._is_new = self._last_ns is not None

    def place(self, block: Block, now_ns: int) -> Block:
        """The block on the one counter; `now_ns` counts where the block has no time of its own."""
        t_ns = block.t_ns or now_ns
        if self._is_new and self._last_ns is not None:
            self._is_new = False
            away_s = (t_ns - self._last_ns) * 1e-9 - len(block.samples) / self._rate_hz
            # At least one position is missing, so that the pipeline knows of the interruption.
            self._shift = self._next + max(1, round(away_s * self._rate_hz)) - block.start
        placed = replace(block, start=block.start + self._shift) if self._shift else block
        self._next = placed.start + len(placed.samples)
        self._last_ns = t_ns
        return placed
