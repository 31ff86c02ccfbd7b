"""Time that stands still unless it is slept away."""

from __future__ import annotations


class FakeTime:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
