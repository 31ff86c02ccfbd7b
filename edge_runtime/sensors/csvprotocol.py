"""Protocol `csv` as a decoder like the others: lines of numbers, their options checked."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.signal import Block, StreamSpec
from edge_runtime.sensors.csvlines import CsvLines
from edge_runtime.sensors.decoder import Counts
from edge_runtime.sensors.options import DECLARED_UNIT, in_range


@dataclass(frozen=True, kw_only=True)
class CsvOptions:
    """Sample = (number - offset) * scale, in `unit`.

    column, counter  as in CsvLines
    channel          a name for messages
    """

    rate_hz: float
    column: int = 0
    scale: float = 1.0
    offset: float = 0.0
    counter: int | None = None
    counter_wrap: int | None = None
    channel: str = "ECG"
    unit: str = "mV"

    def __post_init__(self) -> None:
        """Refuse what no sensor sends."""
        in_range("rate_hz", self.rate_hz, 1.0, 1e5)
        in_range("column", self.column, 0, 63)
        in_range("scale", self.scale, -1e9, 1e9)
        in_range("offset", self.offset, -1e12, 1e12)
        if self.counter is not None:
            in_range("counter", self.counter, 0, 63)
        if self.counter_wrap is not None:
            in_range("counter_wrap", self.counter_wrap, 2, 2**64)


class CsvDecoder:
    """CsvLines with a description of its stream."""

    def __init__(self, options: CsvOptions) -> None:
        self.spec = StreamSpec(
            rate_hz=options.rate_hz,
            unit=options.unit,
            channels=(options.channel,),
            unit_options=DECLARED_UNIT,
        )
        self.has_counter = options.counter is not None
        self._lines = CsvLines(
            options.rate_hz,
            column=options.column,
            scale=options.scale,
            offset=options.offset,
            counter=options.counter,
            counter_wrap=options.counter_wrap,
        )
        self.counts = Counts()

    def feed(self, chunk: bytes, t_ns: int = 0) -> Sequence[Block]:
        """Blocks of the lines that `chunk` completes."""
        blocks = self._lines.feed(chunk, t_ns)
        self.counts.good, self.counts.damaged = self._lines.good, self._lines.damaged
        return blocks

    def reset(self) -> None:
        """Forget the stream and its counts."""
        self._lines.reset()
        self.counts = Counts()

    def found(self) -> str:
        """What was seen so far."""
        return "no line" if self._lines.columns is None else f"lines of {self._lines.columns} numbers"
