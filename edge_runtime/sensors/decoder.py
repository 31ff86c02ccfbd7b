"""What every decoder of a wire protocol is: bytes in, blocks of samples out, counts beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.signal import Block, StreamSpec


@dataclass(kw_only=True)
class Counts:
    """How a stream of bytes fared.

    good     frames (or lines) whose samples were delivered, or that belong to another stream of the device
    damaged  frames (or lines) that should have been there: by counter, by time, or by the bytes skipped
    skipped  bytes that belong to no frame
    resyncs  times that a frame was found again behind skipped bytes
    """

    good: int = 0
    damaged: int = 0
    skipped: int = 0
    resyncs: int = 0


class Decoder(Protocol):
    """A stage from bytes to blocks.

    Cutting the bytes differently changes nothing; `reset` forgets; blocks own their memory; no block spans a gap.
    has_counter  the device counts its samples, so that silences need no measuring
    """

    spec: StreamSpec
    counts: Counts
    has_counter: bool

    def feed(self, chunk: bytes, t_ns: int = 0) -> Sequence[Block]:
        """Blocks of the frames that `chunk` makes certain; `t_ns` is its time of arrival."""

    def reset(self) -> None:
        """Forget the stream and its counts."""

    def found(self) -> str:
        """What was seen so far, for the message that says that nothing can be used."""
