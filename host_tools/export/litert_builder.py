"""A flatbuffer in which equal vectors (shapes, scales, lists of operands) are stored once."""

from __future__ import annotations

import flatbuffers


class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Takes back a vector that ends equal to one before, and lets its readers look at that one.

    Vectors of tables are left alone: they hold distances from where they lie, so equal bytes mean other tables.
    """

    head: int  # of the base: where the newest byte lies in `Bytes`, which is written from its end

    def __init__(self) -> None:
        super().__init__(1024)
        self._known: dict[tuple[int, int, bytes], int] = {}
        self._begin = self._size = self._alignment = 0
        self._is_plain = False

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        """Of `numElems` elements of `elemSize` bytes each."""
        self._begin, self._size, self._alignment = self.Offset(), elemSize * numElems, alignment
        self._is_plain = True
        return int(super().StartVector(elemSize, numElems, alignment))

    def PrependUOffsetTRelative(self, off: int) -> None:
        """An element that is a distance."""
        self._is_plain = False
        super().PrependUOffsetTRelative(off)

    def EndVector(self, numElems: int | None = None) -> int:
        """Where the vector lies."""
        made = int(super().EndVector(numElems))
        if not self._is_plain:
            return made
        self._is_plain = False
        content = bytes(self.Bytes[self.head : self.head + 4 + self._size])
        known = self._known.setdefault((self._size, self._alignment, content), made)
        if known != made:
            self.head = len(self.Bytes) - self._begin
        return known
