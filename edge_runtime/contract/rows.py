"""Which of many streams an operation is about: slots as numpy likes them best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Distinct slots, in the order of the rows of what belongs to them.

    at  the same as an index; slots that are neighbours are a slice, of which numpy makes no copy
    """

    slots: Slots
    at: slice | Slots

    def __len__(self) -> int:
        """How many."""
        return len(self.slots)

    def is_same(self, other: Rows) -> bool:
        """Whether they are the same slots in the same order."""
        if self is other:
            return True
        if isinstance(self.at, slice) or isinstance(other.at, slice):
            return isinstance(self.at, slice) and isinstance(other.at, slice) and self.at == other.at
        return len(self) == len(other) and bool((self.slots == other.slots).all())


def rows_of(slots: Slots | Sequence[int]) -> Rows:
    """Rows of distinct slots (n,); of those that were asked for lately the same ones again."""
    return _rows(np.asarray(slots, np.intp).tobytes())


@lru_cache(maxsize=64)
def _rows(key: bytes) -> Rows:
    slots = np.frombuffer(key, np.intp)
    n = len(slots)
    if n and slots[-1] - slots[0] == n - 1 and (np.diff(slots) == 1).all():
        return Rows(slots, slice(int(slots[0]), int(slots[-1]) + 1))
    return Rows(slots, slots)
