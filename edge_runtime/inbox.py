"""What one stream brought and nobody has taken yet: bounded, and honest about what did not fit."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeAlias

from edge_runtime.contract.signal import Block, Ledger


@dataclass(frozen=True, slots=True)
class Lost:
    """Positions start ... stop of the source's counter of which `n` arrived and cannot be scored.

    is_missing  they came as no numbers; otherwise there was no room for them
    """

    start: int
    stop: int
    n: int
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The stream is over; `error` says why, if it broke."""

    error: Exception | None = None


Item: TypeAlias = "Block | Lost | End"


class Inbox:
    """A queue of blocks of at most `bound` samples; one thread offers, another takes.

    dropped  samples for which there was no room
    """

    __slots__ = ("_bound", "_is_ended", "_items", "_lock", "dropped", "queued")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._lock = threading.Lock()
        self._items: list[Item] = []  # short, and a deque takes ten times its room
        self._is_ended = False
        self.queued = self.dropped = 0

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)

    def offer(self, block: Block) -> bool:
        """Take in a block, or only remember that it was there; whether it was taken in."""
        n = len(block.samples)
        with self._lock:
            if self._is_ended:
                return False
            if self.queued + n <= self._bound:
                self._items.append(block)
                self.queued += n
                return True
            self.dropped += n
            last = self._items[-1] if self._items else None
            if isinstance(last, Lost) and not last.is_missing and last.stop <= block.start:
                self._items[-1] = Lost(last.start, block.stop, last.n + n)
            else:
                self._items.append(Lost(block.start, block.stop, n))
            return False

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; what waits is still taken."""
        with self._lock:
            if not self._is_ended:
                self._is_ended = True
                self._items.append(End(error))

    def first(self) -> Item | None:
        """The oldest item, left in its place."""
        return self._items[0] if self._items else None

    def take(self) -> Item:
        """Remove the oldest item."""
        with self._lock:
            item = self._items.pop(0)
            if isinstance(item, Block):
                self.queued -= len(item.samples)
            return item

    def put_back(self, items: list[Item]) -> None:
        """Put these where the oldest item was, in order."""
        with self._lock:
            self._items[:0] = items
            self.queued += sum(len(i.samples) for i in items if isinstance(i, Block))

    def empty(self, error: Exception) -> list[Item]:
        """Everything that waits; from now on nothing is taken in, and the stream is over."""
        with self._lock:
            items = list(self._items)
            self._items.clear()
            self._items.append(End(error))
            self._is_ended, self.queued = True, 0
            return items


class Inlet:
    """Where one wearable's blocks come into a gateway: offer them from any one thread, the gateway's does the rest.

    Its ledger balances when it `is_over`; `error` says why it broke, if it did.

    brought  of the gateway: who offered something
    """

    __slots__ = ("_brought", "error", "inbox", "is_over", "ledger", "name", "rate_hz")

    def __init__(self, name: str, rate_hz: float, bound: int, brought: deque[Any]) -> None:
        self.name, self.rate_hz = name, rate_hz
        self.inbox, self.ledger = Inbox(bound), Ledger()
        self._brought = brought
        self.is_over = False
        self.error: Exception | None = None

    def offer(self, block: Block) -> bool:
        """Queue a block; False if there was no room for it, which the ledger will tell."""
        is_taken = self.inbox.offer(block)
        self._brought.append(self)
        return is_taken

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; what is queued is still scored."""
        self.inbox.end(error)
        self._brought.append(self)
