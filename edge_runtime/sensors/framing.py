"""Find frames in a stream of bytes: a clean stretch with a few array operations, damage byte by byte.

The search looks at one offset at a time and goes on by ONE byte wherever no frame is accepted. A frame must
hold (header, length, tail, checksum: what its format has), and must be believed, by the format's `trust`:

CHECKED  what holds is believed: a CRC of 16 bits, or eight fixed bytes
TAIL     its counter goes on from the last frame as far as the bytes between say, or the next frame goes on from it
SYNC     it follows the last frame at once, or the next frame holds
NEXT     a frame that loses a byte of its payload may still hold, because nothing marks its end: the next frame goes
         on from it; or, where the next one is damaged, nothing looks like a frame behind it that comes early

Every decision depends on the bytes alone, never on how they were cut, and on a bounded number of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_runtime.sensors.sensor_block import BoolArray

ByteRows = NDArray[np.uint8]
Int64Array = NDArray[np.int64]

RUN_FRAMES = 128
LINK_FRAMES = 8
WINDOW_FRAMES = 10
WINDOW_BYTES = 256
WIDEST_WINDOW_BYTES = 8192


class Trust(enum.Enum):
    """What makes a frame that holds a frame that is believed; see the top of this file."""

    CHECKED = enum.auto()
    TAIL = enum.auto()
    SYNC = enum.auto()
    NEXT = enum.auto()


class FrameFormat:
    """How frames of one protocol look.

    length      bytes of a frame, of the longest one where they vary (only with CHECKED)
    head        bytes that tell a frame's length, where it varies; 0 otherwise
    wrap        the counter's modulus, 0 without a counter
    steady      length of the frames that `is_steady` judges; 0 where it judges none
    step, slack how far the counter goes on from frame to frame, and by how much it may be off
    reach       with NEXT: in how many frames from its begin on rivals are looked for; 2 where a frame that lost a byte
                always holds
    chain       with NEXT: how many frames must go on from one that does not go on from the last; above 1 for frames
                that often hold by chance: a rival must be followed by a frame, and so must a frame behind damage
    """

    length: int
    trust: Trust
    head: int = 0
    wrap: int = 0
    steady: int = 0
    step: int = 1
    slack: int = 0
    reach: int = 1
    chain: int = 1

    def holds(self, rows: ByteRows) -> BoolArray:
        """Which of the rows (n, length) are frames by themselves; rows may overlap in memory and are not owned."""
        raise NotImplementedError

    def is_steady(self, frames: bytes, last: int) -> bool:
        """A cheap check of whole frames in a row that go on from the counter `last`.

        True only if all of them hold and go on; False says nothing. With TAIL and CHECKED only.
        """
        return False

    def lengths(self, heads: ByteRows) -> Int64Array:
        """The length of the frame that would begin with each row (n, head); 0 where none does."""
        return np.full(len(heads), self.length, np.int64)

    def counters(self, rows: ByteRows) -> Int64Array:
        """The counter of each row that holds, in [0, wrap)."""
        return np.zeros(len(rows), np.int64)

    def goes_on(self, later: int, earlier: int, frames: int) -> bool:
        """Whether `later` is the counter `frames` behind `earlier`; always true without a counter."""
        if not self.wrap:
            return True
        off = (later - earlier - frames * self.step + self.slack) % self.wrap
        return off <= 2 * self.slack


@dataclass(frozen=True)
class Run:
    """Frames side by side.

    rows     uint8 (n, length); a view of the bytes, valid until the next feed
    skipped  bytes between the frame before and the first of these
    waited   bytes of this run that were there before this feed
    steady   counters are known to go on, each by one step, from the frame before
    """

    rows: ByteRows
    skipped: int
    waited: int
    steady: bool = False


class FrameFinder:
    """Bytes -> runs of frames; keeps at most a few frames of bytes.

    skipped, resyncs  bytes in no frame; times that a frame followed such bytes
    """

    def __init__(self, form: FrameFormat) -> None:
        self._form = form
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.skipped = self.resyncs = 0
        self._rest = b""
        self._known = 0  # bytes of the present search that were there before
        self._gap = 0  # bytes since the last frame
        self._doubt = -1  # no frame is believed up to so many bytes behind the last
        self._last: int | None = None  # the last frame's counter
        self._width = 0  # of the next search, grows while nothing is found

    @property
    def waiting_bytes(self) -> int:
        """Bytes kept because what follows decides about them."""
        return len(self._rest)

    def settled(self) -> int | None:
        """The newest frame's counter if nothing came behind that frame; None if something did, or if none is known."""
        return None if self._rest or self._gap else self._last

    def feed(self, chunk: bytes) -> list[Run]:
        """Runs of frames that are certain now."""
        form = self._form
        whole = self._rest + chunk if self._rest else chunk
        data, self._known = np.frombuffer(whole, np.uint8), len(self._rest)
        runs: list[Run] = []
        at = self._take_steady(whole, data, runs)
        if at == len(whole):
            self._rest = b""
            return runs
        while True:
            at += self._take_run(data, at, runs)
            if len(data) - at < (form.head or form.length):
                break
            moved = self._search(data, at, runs)
            if moved == 0:
                break
            at += moved
        self._rest = whole[at:]
        return runs

    def _take_steady(self, whole: bytes, data: ByteRows, runs: list[Run]) -> int:
        """Accept all whole frames if a cheap check says so; returns their bytes."""
        form, length = self._form, self._form.steady
        if not length or self._gap or self._last is None:
            return 0
        n = len(whole) // length
        size = n * length
        if not n:
            return 0
        if not form.is_steady(whole if size == len(whole) else whole[:size], self._last):
            return 0
        runs.append(Run(data[:size].reshape(n, length), 0, self._known, True))
        self._last = (self._last + n * form.step) % form.wrap
        return size

    def _take_run(self, data: ByteRows, at: int, runs: list[Run]) -> int:
        """Accept a clean stretch that begins at `at`; returns its bytes."""
        form, taken = self._form, 0
        while True:
            length = self._length_at(data, at)
            n = min((len(data) - at) // length, RUN_FRAMES) if length else 0
            if n == 0:
                return taken
            rows = data[at : at + n * length].reshape(n, length)
            good = self._clean(rows)
            if good == 0:
                return taken
            self._accept(rows[:good], 0, at, runs)
            taken += good * length
            at += good * length
            if good < n and form.head == 0:
                return taken

    def _length_at(self, data: ByteRows, at: int) -> int:
        form = self._form
        if form.head == 0:
            return form.length
        if len(data) - at < form.head:
            return 0
        return int(form.lengths(data[None, at : at + form.head])[0])

    def _clean(self, rows: ByteRows) -> int:
        """How many of the rows, from the first on, are accepted without a look at what lies between them."""
        form = self._form
        if form.trust is not Trust.CHECKED and (self._gap or self._last is None):
            return 0
        good = _n_leading(form.holds(rows))
        if good and form.wrap and form.trust is not Trust.CHECKED and self._last is not None:
            counters = form.counters(rows[:good])
            off = np.empty(good, np.int64)
            off[0] = counters[0] - self._last
            np.subtract(counters[1:], counters[:-1], out=off[1:])
            off -= form.step - form.slack
            off %= form.wrap
            good = _n_leading(off <= 2 * form.slack)
        return max(0, good - 1) if form.trust is Trust.NEXT else good

    def _accept(self, rows: ByteRows, skipped: int, at: int, runs: list[Run]) -> None:
        form = self._form
        self.skipped += skipped
        self._gap += skipped
        self.resyncs += self._gap > 0
        runs.append(Run(rows, self._gap, max(0, self._known - at)))
        self._gap = self._width = 0
        self._doubt = -1
        # With CHECKED frames of several kinds may come: which counter goes on is `follow`'s to say.
        self._last = None if form.trust is Trust.CHECKED else 0
        if form.wrap and form.trust is not Trust.CHECKED:
            self._last = int(form.counters(rows[-1:])[0])

    def follow(self, counter: int) -> None:
        """The newest frame has this counter, and is of the kind that `is_steady` judges."""
        self._last = counter

    def _search(self, data: ByteRows, at: int, runs: list[Run]) -> int:
        """Look for one frame from `at` on; returns the bytes that are done with, 0 to wait for more."""
        form = self._form
        if self._width == 0:
            self._width = max(WINDOW_FRAMES * form.length, WINDOW_BYTES)
        window = _Window(form, data[at : at + self._width])
        is_cut = at + self._width < len(data)
        done = window.known
        for offset in window.candidates:
            if offset >= window.known:
                break
            verdict = self._verdict(window, offset)
            if verdict is None:
                done = offset
                break
            if verdict:
                self._accept(window.row(offset), offset, at + offset, runs)
                return offset + int(window.lengths[offset])
        self.skipped += done
        self._gap += done
        if done and is_cut:
            self._width = min(2 * self._width, max(WIDEST_WINDOW_BYTES, WINDOW_FRAMES * form.length))
        return done

    def _verdict(self, window: _Window, at: int) -> bool | None:
        """Whether the frame that holds at `at` is believed; None where more bytes are needed to say."""
        form, length = self._form, self._form.length
        if form.trust is Trust.CHECKED:
            return True
        gap = self._gap + at
        if gap <= self._doubt:
            return False
        if form.trust is Trust.SYNC and self._last is not None and gap == 0:
            return True
        is_linked = (
            self._last is not None
            and gap <= LINK_FRAMES * length
            and form.goes_on(window.counter(at), self._last, 1 + (2 * gap + length) // (2 * length))
        )
        if form.trust is Trust.TAIL and is_linked:
            return True
        if form.trust is not Trust.NEXT:
            return window.is_followed(at)
        if form.wrap and not is_linked:
            return window.is_chain(at, form.chain)
        followed = window.is_followed(at)
        if followed is not False:
            return followed
        if self._last is None or (gap and form.chain > 1):
            return False
        rival = window.rival(at)
        if rival is not None and rival > at and form.reach == 1:
            # One of the two holds by chance, and which cannot be told: a lost byte of either looks the same.
            self._doubt = self._gap + rival
        return None if rival is None else rival == at


class _Window:
    """Which offsets of some bytes begin a frame that holds.

    lengths     int64, one per offset: 0 where none begins
    known       offsets below this are certain: all their bytes are there
    candidates  offsets with a frame, in order
    """

    def __init__(self, form: FrameFormat, data: ByteRows) -> None:
        self._form, self._data = form, data
        if form.head:
            self.lengths, self.known = _varying(form, data)
        else:
            self.known = max(0, len(data) - form.length + 1)
            self.lengths = form.holds(_windows(data, form.length)) * np.int64(form.length)
        self.candidates: list[int] = np.flatnonzero(self.lengths).tolist()
        self._counters: dict[int, int] = {}
        if form.wrap and form.trust is not Trust.CHECKED and self.candidates:
            found = form.counters(_windows(data, form.length)[self.candidates])
            self._counters = dict(zip(self.candidates, found.tolist(), strict=True))

    def row(self, at: int) -> ByteRows:
        length = int(self.lengths[at])
        return self._data[at : at + length].reshape(1, length)

    def counter(self, at: int) -> int:
        return self._counters.get(at, 0)

    def is_followed(self, at: int) -> bool | None:
        """Whether a frame that goes on from the one at `at` begins where it ends."""
        then = at + self._form.length
        if then >= self.known:
            return None
        return bool(self.lengths[then]) and self._form.goes_on(self.counter(then), self.counter(at), 1)

    def is_chain(self, at: int, n: int) -> bool | None:
        """Whether `n` frames follow, each going on from the one before."""
        for i in range(n):
            followed = self.is_followed(at + i * self._form.length)
            if not followed:
                return followed
        return True

    def rival(self, at: int) -> int | None:
        """The frame that would go on from the one at `at`, too early for it to be whole; `at` itself if none does."""
        length = self._form.length
        last = at + self._form.reach * (length - 1)
        if last + (length if self._form.chain > 1 else 0) >= self.known:
            return None
        for rival in self.candidates:
            if rival <= at or rival == at + length or rival > last:
                continue
            frames = -(-(rival - at) // length)
            if self._form.goes_on(self.counter(rival), self.counter(at), frames) and (
                self._form.chain == 1 or self.is_followed(rival)
            ):
                return rival
        return at


def _varying(form: FrameFormat, data: ByteRows) -> tuple[Int64Array, int]:
    heads = _windows(data, form.head)
    claimed = form.lengths(heads)
    lengths = np.zeros(len(heads), np.int64)
    offsets = np.arange(len(heads))
    for length in np.unique(claimed[claimed > 0]).tolist():
        at = offsets[(claimed == length) & (offsets + length <= len(data))]
        if len(at):
            lengths[at] = form.holds(_windows(data, length)[at]) * length
    is_open = offsets + claimed > len(data)
    return lengths, int(np.argmax(is_open)) if is_open.any() else len(heads)


def _windows(data: ByteRows, length: int) -> ByteRows:
    """All stretches of `length` bytes, (n, length), as a view."""
    n = max(0, len(data) - length + 1)
    return as_strided(data, (n, length), (1, 1), writeable=False)


def _n_leading(flags: BoolArray) -> int:
    """How many flags are set before the first that is not."""
    first = int(flags.argmin())
    return len(flags) if flags[first] else first
