"""Stage: bytes of frames -> blocks of samples; places every frame on the sample counter, gaps included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.signal import Float32Array, StreamSpec
from edge_runtime.sensors.decoder import Counts
from edge_runtime.sensors.framing import ByteRows, FrameFinder, FrameFormat, Int64Array, Trust
from edge_runtime.sensors.options import chosen_columns, unit_of
from edge_runtime.sensors.sensor_block import BoolArray, SensorBlock

SILENCE_S = 0.5
SILENCE_NS = round(SILENCE_S * 1e9)
EARLY_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A column of a stream: its name and its unit (`1` for a plain number, `count` for a converter's steps)."""

    name: str
    unit: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """What some frames hold, in physical units.

    values   float32 (n, channels), owned; NaN where there is no value
    contact  bool (n,) or, where sensors are several, (n, channels); None where the format never says it is lost
    quality  float32 (n,) in 0 to 1, or None
    """

    values: Float32Array
    contact: BoolArray | None = None
    quality: Float32Array | None = None


class WireFormat(FrameFormat):
    """A frame format whose frames hold samples.

    rate_hz            samples a second
    channels           all columns that it can deliver
    samples_per_frame  rows that each frame gives
    unit_options       (unit, option that gives it)
    """

    rate_hz: float
    channels: tuple[Channel, ...]
    samples_per_frame: int = 1
    unit_options: tuple[tuple[str, str], ...] = ()

    def wanted(self, rows: ByteRows) -> BoolArray | None:
        """Which frames belong to this stream; None for all."""
        return None

    def samples(self, rows: ByteRows, is_new: bool) -> Samples:
        """The samples of consecutive frames; `is_new`: they do not follow the last ones at once."""
        raise NotImplementedError

    def steady_values(self, frames: bytes, last: int) -> Float32Array | None:
        """What whole frames hold if they go on from the counter `last` and no more is to be said of them; else None.

        A quick way to what `samples` gives, for formats with `steady`, which keep nothing from frame to frame.
        """
        if len(frames) % self.steady or not frames or not self.is_steady(frames, last):
            return None
        found = self.samples(np.frombuffer(frames, np.uint8).reshape(-1, self.steady), False)
        return found.values if found.contact is None and found.quality is None else None

    def forget(self) -> None:
        """Forget what `samples` keeps from frame to frame."""


class FramedDecoder:
    """Decoder of one wire format.

    chosen  names of the columns to deliver, in this order; all of them if empty
    finder  what looks for the frames; `is_checked`: each of them is believed by itself
    """

    def __init__(self, form: WireFormat, chosen: Sequence[str] = ()) -> None:
        self._form, self.finder = form, FrameFinder(form)
        names = [c.name for c in form.channels]
        self._columns = chosen_columns(names, chosen)
        delivered = [form.channels[i] for i in self._columns] or form.channels
        self.spec = StreamSpec(
            rate_hz=form.rate_hz,
            unit=unit_of([c.unit for c in delivered]),
            channels=tuple(c.name for c in delivered),
            unit_options=form.unit_options,
        )
        self.has_counter = form.wrap > 0
        self.is_checked = form.trust is Trust.CHECKED
        self._has_steady = form.steady > 0
        self._follows = self._has_steady and self.is_checked
        self._is_all = not self._columns or self._columns == list(range(len(names)))
        self.reset()

    def reset(self) -> None:
        """Forget the stream and its counts."""
        self.counts = Counts()
        self.finder.reset()
        self._form.forget()
        self._next = 0  # in frames
        self._last: int | None = None
        self._settled: int | None = None  # what a chunk of steady frames goes on from, if it may begin with the next
        self._last_t_ns = 0
        self._heard: list[tuple[int, int]] = []  # bytes and time of the chunks of which something waits
        self._skipped = 0  # bytes since the last frame of this stream

    def found(self) -> str:
        """What was seen so far, for the message that says that nothing can be used."""
        return f"{self.counts.good or 'no'} frames"

    def feed(self, chunk: bytes, t_ns: int = 0) -> list[SensorBlock]:
        """Blocks of the frames that `chunk` makes certain, one for each stretch without a gap.

        A block's time is when its newest frame was whole, even if it waited for what follows.
        """
        settled = self._settled
        if settled is not None:
            if t_ns - self._last_t_ns < SILENCE_NS:  # so soon a counter has not gone round unseen
                values = self._form.steady_values(chunk, settled)
                if values is not None:
                    return [self._steady(values, settled, t_ns)]
            self.finder.follow(settled)
        runs = self.finder.feed(chunk)
        blocks: list[SensorBlock] = []
        later = sum(len(run.rows) for run in runs) if len(runs) > 1 else 0
        for run in runs:
            rows = run.rows
            self._skipped += run.skipped
            self.counts.good += len(rows)
            later = max(0, later - len(rows))
            n_waited = min(run.waited // rows.shape[1], len(rows))
            if run.steady and self._is_prompt(len(rows), t_ns):
                self._place_steady(rows, t_ns, blocks)
            elif n_waited == 0:
                self._place_wanted(rows, t_ns, later, blocks)
            else:
                # These had arrived, and waited only for what follows them.
                whole_ns = self._time_of(run.waited - n_waited * rows.shape[1])
                self._place_wanted(rows[:n_waited], whole_ns, 0, blocks)
                self._place_wanted(rows[n_waited:], t_ns, later, blocks)
        self._heard.append((len(chunk), t_ns))
        waiting = self.finder.waiting_bytes
        while self._heard and sum(n for n, _ in self._heard[1:]) >= waiting:
            del self._heard[0]
        if runs and self._follows and self._last is not None:
            self.finder.follow(self._last)
        self._settled = self.finder.settled() if self._has_steady else None
        self.counts.skipped, self.counts.resyncs = self.finder.skipped, self.finder.resyncs
        return blocks

    def _steady(self, values: Float32Array, last: int, t_ns: int) -> SensorBlock:
        """The block of whole frames that go on from the last: how a wearable's bytes come when nothing is lost."""
        form, begin, n_rows = self._form, self._next, len(values)
        n = n_rows // form.samples_per_frame
        self._next = begin + n
        self._settled = self._last = (last + n * form.step) % form.wrap
        self._last_t_ns = t_ns
        self._heard.clear()
        self._skipped = 0
        self.counts.good += n
        if not self._is_all:
            values = values[:, self._columns]
        start = begin * form.samples_per_frame
        return SensorBlock(start=start, samples=values, t_ns=t_ns, contact=_all_touch(n_rows))

    def _time_of(self, behind: int) -> int:
        """When the byte came that so many bytes followed before this chunk."""
        for n, t_ns in reversed(self._heard):
            if behind < n:
                return t_ns
            behind -= n
        return self._heard[0][1] if self._heard else self._last_t_ns

    def _place_wanted(self, rows: ByteRows, t_ns: int, later: int, blocks: list[SensorBlock]) -> None:
        wanted = self._form.wanted(rows) if len(rows) else None
        if wanted is not None and not wanted.all():
            rows = rows[wanted]
        if len(rows):
            self._place(rows, t_ns, later, blocks)

    def _is_prompt(self, n: int, t_ns: int) -> bool:
        """Whether so little time passed since the last frame that the counter cannot have gone round unseen."""
        by_time = (t_ns - self._last_t_ns) * 1e-9 * self._form.rate_hz
        return by_time - n * self._form.samples_per_frame < SILENCE_S * self._form.rate_hz

    def _place_steady(self, rows: ByteRows, t_ns: int, blocks: list[SensorBlock]) -> None:
        form = self._form
        blocks.append(self._block(rows, self._next, t_ns, False))
        self._next += len(rows)
        self._last = ((self._last or 0) + len(rows) * form.step) % form.wrap
        self._last_t_ns, self._skipped = t_ns, 0

    def _place(self, rows: ByteRows, t_ns: int, later: int, blocks: list[SensorBlock]) -> None:
        form, begin = self._form, self._next
        if form.wrap:
            counters = form.counters(rows)
            ahead = self._ahead(counters, t_ns, later)
            self._last = int(counters[-1])
            if (ahead == 0).any():  # a frame said twice counts once
                self.counts.good -= int((ahead == 0).sum())
                rows, ahead = rows[ahead != 0], ahead[ahead != 0]
                if len(rows) == 0:
                    return
            jumps = np.flatnonzero(ahead != 1).tolist()
        else:
            missing = self._missing(rows.shape[1]) if self._last is not None else 0
            ahead, jumps = np.ones(len(rows), np.int64), [0] if missing else []
            ahead[0] += missing
            self._last = 0
        self._last_t_ns, self._skipped = t_ns, 0
        for first, last in zip([0, *(j for j in jumps if j)], [*(j for j in jumps if j), len(rows)], strict=True):
            missing = int(ahead[first]) - 1
            self.counts.damaged += missing
            begin += missing
            blocks.append(self._block(rows[first:last], begin, t_ns, missing > 0))
            begin += last - first
        self._next = begin

    def _missing(self, length: int) -> int:
        """Frames that the skipped bytes stand for: lines lose bytes more often than they make some up."""
        missing = (2 * self._skipped + length) // (2 * length)
        # Where frames of several kinds come, a few bytes may have been of another kind.
        return max(missing, 1) if self._skipped and self._form.head == 0 else missing

    def _ahead(self, counters: Int64Array, t_ns: int, later: int) -> Int64Array:
        """By how many frames each is ahead of the one before; arrival times tell how often a counter went round."""
        form = self._form
        before = np.empty_like(counters)
        before[0] = counters[0] - form.step if self._last is None else self._last
        before[1:] = counters[:-1]
        ahead: Int64Array = (counters - before) % form.wrap
        if form.step > 1:
            ahead = (2 * ahead + form.step) // (2 * form.step)
        if self._last is None:
            return ahead
        around = form.wrap / form.step
        # The newest frame is the one that arrived now; it may be late, never early.
        by_time = (t_ns - self._last_t_ns) * 1e-9 * form.rate_hz / form.samples_per_frame
        unexplained = by_time - int(ahead.sum()) - later
        if ahead[0] > around / 2 and around > 2**20:
            # A counter that never goes round went back: the device started again, and something is missing.
            ahead[0] = max(2, round(by_time) - len(counters) - later + 1)
        elif unexplained * form.samples_per_frame >= SILENCE_S * form.rate_hz:
            ahead[0] += round(around * math.floor(unexplained / around + EARLY_SHARE))
        return ahead

    def _block(self, rows: ByteRows, begin: int, t_ns: int, is_new: bool) -> SensorBlock:
        found = self._form.samples(rows, is_new)
        values = found.values
        contact: BoolArray | None = found.contact
        if contact is not None and contact.all():
            contact = None
        if contact is not None:
            values[~contact] = np.nan
        if not self._is_all:
            values = values[:, self._columns]
            contact = contact if contact is None or contact.ndim == 1 else contact[:, self._columns]
        if contact is None:
            contact = _all_touch(len(values))
        elif contact.ndim == 2:
            contact = np.asarray(contact.all(axis=1))
        return SensorBlock(
            start=begin * self._form.samples_per_frame,
            samples=values,
            t_ns=t_ns,
            contact=contact,
            quality=found.quality,
        )


@lru_cache(maxsize=16)
def _all_touch(n: int) -> BoolArray:
    """Contact of samples that all have it; read-only, since many blocks share it."""
    contact = np.ones(n, np.bool_)
    contact.setflags(write=False)
    return contact
