"""Stage: bytes of a wearable that prints lines of numbers -> blocks of samples.

A line is numbers between commas, semicolons, tabs or blanks, with an optional `*XX` at its end: the XOR of
the bytes before the star, hexadecimal. `!` or `nan` is a sample without a value (AD8232 sketches print `!`
when a lead is off). What comes before the first line of numbers is chatter, and so are lines that start
with `#`.
"""

from __future__ import annotations

import functools
import math
import operator
import re

import numpy as np

from edge_runtime.contract.signal import Block

MAX_LINE_BYTES = 1024
NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
NO_VALUE = (b"!", b"nan")
SEPARATOR = re.compile(rb"\s*[,;\t ]\s*")
CHECKSUM = re.compile(rb"(.*)\*([0-9A-Fa-f]{2})", re.DOTALL)
FLOAT32_MAX = float.fromhex("0x1.fffffep+127")
NEW_LAYOUT_LINES = 3


class CsvLines:
    """Lines of numbers -> float32 (n, 1), mV = (number - offset) * scale.

    column        which number of a line is the signal
    counter       which number of a line counts samples; its jumps are gaps
    counter_wrap  the counter's modulus; how often it went round during a silence is told by arrival time
    Without a counter, each damaged line is one missing sample. The first line is always left out: it may be
    the end of a longer one. `good`, `damaged` and `chatter` count lines, `columns` is their layout.
    """

    def __init__(
        self,
        rate_hz: float,
        *,
        column: int = 0,
        scale: float = 1.0,
        offset: float = 0.0,
        counter: int | None = None,
        counter_wrap: int | None = None,
    ) -> None:
        self._rate_hz, self._column, self._scale, self._offset = rate_hz, column, scale, offset
        self._counter, self._wrap = counter, counter_wrap
        self.reset()

    def reset(self) -> None:
        """Forget the stream and its counts."""
        self.good = self.damaged = self.chatter = 0
        self.columns: int | None = None
        self._buffer = b""
        self._is_first_line, self._is_overlong, self._has_checksum = True, False, False
        self._other_columns = (0, 0)  # a layout that is not `columns`, lines of it in a row
        self._next = 0
        self._last_count: int | None = None
        self._last_t_ns = 0
        self._held: tuple[int, float, int] | None = None  # a line whose counter nothing confirms yet
        self._n_since_held = 0  # damaged lines behind it

    def feed(self, chunk: bytes, t_ns: int = 0) -> list[Block]:
        """Blocks of the lines that `chunk` completes; `t_ns` is its time of arrival."""
        *lines, rest = (self._buffer + bytes(chunk)).split(b"\n")
        samples: list[tuple[int, float]] = []
        for line in lines:
            if self._is_overlong or len(line) > MAX_LINE_BYTES:
                line, self._is_overlong = b"?", False
            self._take_line(line.strip(), t_ns, samples)
        if len(rest) > MAX_LINE_BYTES:
            rest, self._is_overlong = b"", True
        self._buffer = b"" if self._is_overlong else rest
        return _blocks(samples, t_ns)

    def _take_line(self, line: bytes, t_ns: int, samples: list[tuple[int, float]]) -> None:
        if self._is_first_line:
            self._is_first_line = False
        elif not line:
            pass
        elif line.startswith(b"#"):
            self.chatter += 1
        elif line == b"!" and self._counter is None and not self._has_checksum:
            self._emit(math.nan, samples)
        else:
            fields = self._fields(line)
            value = None if fields is None else self._value(fields)
            if fields is None or value is None:
                self._count_damaged()
            elif self._counter is None:
                self._emit(value, samples)
            else:
                self._take_counted(int(fields[self._counter]), value, t_ns, samples)

    def _fields(self, line: bytes) -> list[bytes] | None:
        """The numbers of an intact line of the usual layout, else None."""
        match = CHECKSUM.fullmatch(line)
        if match:
            line = match[1]
            if functools.reduce(operator.xor, line, 0) != int(match[2], 16):
                return None
        elif self._has_checksum:
            return None
        fields = SEPARATOR.split(line.strip().rstrip(b",;"))
        if not all(NUMBER.fullmatch(f) or f.lower() in NO_VALUE for f in fields):
            return None
        self._has_checksum = self._has_checksum or match is not None
        if len(fields) != self.columns and not self._is_layout(len(fields)):
            return None
        self._other_columns = (0, 0)
        return fields

    def _is_layout(self, columns: int) -> bool:
        """Whether a line of so many numbers is to be believed: the first, or the third such in a row."""
        seen = self._other_columns[1] + 1 if self._other_columns[0] == columns else 1
        self._other_columns = (columns, seen)
        if self.columns is None or seen >= NEW_LAYOUT_LINES:
            self.columns = columns
        return self.columns == columns

    def _value(self, fields: list[bytes]) -> float | None:
        """The signal of a line: NaN where it says so, None where the line does not hold."""
        if max(self._column, self._counter or 0) >= len(fields):
            return None
        if self._counter is not None and not fields[self._counter].isdigit():
            return None
        field = fields[self._column]
        if field.lower() in NO_VALUE:
            return math.nan
        value = (float(field) - self._offset) * self._scale
        return value if abs(value) <= FLOAT32_MAX else None

    def _count_damaged(self) -> None:
        if self.good == 0:
            self.chatter += 1
            return
        self.damaged += 1
        self._n_since_held += 1
        if self._counter is None:
            self._next += 1

    def _emit(self, value: float, samples: list[tuple[int, float]]) -> None:
        self.good += 1
        samples.append((self._next, value))
        self._next += 1

    def _take_counted(self, count: int, value: float, t_ns: int, samples: list[tuple[int, float]]) -> None:
        """Believe a counter that goes on, or whose line has a checksum, or that the next line confirms."""
        if self._last_count is not None and count == self._last_count:
            self.damaged += 1
        elif self._has_checksum or (self._last_count is not None and self._ahead(count, self._last_count) == 1):
            self._drop_held()
            self._emit_counted(count, value, t_ns, samples)
        elif self._held is not None and 0 < self._ahead(count, self._held[0]) <= 1 + 2 * self._n_since_held:
            # As far as the lines between say: a lost line end makes one line of two.
            held, self._held = self._held, None
            self._emit_counted(*held, samples)
            self._take_counted(count, value, t_ns, samples)
        else:
            self._drop_held()
            self._held, self._n_since_held = (count, value, t_ns), 0

    def _ahead(self, count: int, of: int) -> int:
        return (count - of) % self._wrap if self._wrap else count - of

    def _drop_held(self) -> None:
        if self._held is not None:
            self._held = None
            self.damaged += 1

    def _emit_counted(self, count: int, value: float, t_ns: int, samples: list[tuple[int, float]]) -> None:
        if self._last_count is not None:
            by_time = (t_ns - self._last_t_ns) * 1e-9 * self._rate_hz
            ahead = self._ahead(count, self._last_count)
            if self._wrap:
                ahead += self._wrap * max(0, round((by_time - ahead) / self._wrap))
            elif ahead < 0:  # the device started again; at least one sample is missing
                ahead = max(2, round(by_time))
            self._next += ahead - 1
        self._last_count, self._last_t_ns = count, t_ns
        self._emit(value, samples)


def _blocks(samples: list[tuple[int, float]], t_ns: int) -> list[Block]:
    """One block for each run of consecutive positions."""
    if not samples:
        return []
    positions = np.array([p for p, _ in samples])
    values = np.array([v for _, v in samples], np.float32).reshape(-1, 1)
    edges = (np.flatnonzero(np.diff(positions) != 1) + 1).tolist()
    return [
        Block(start=int(positions[a]), samples=values[a:b].copy(), t_ns=t_ns)
        for a, b in zip([0, *edges], [*edges, len(values)], strict=True)
    ]
