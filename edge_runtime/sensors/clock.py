"""A device's clock or sample counter on the gateway's monotonic clock: drift fitted, wraps resolved.

Bytes arrive late, by a delay that is never negative and varies: buses poll, radios repeat, the system is busy. So
the earliest arrivals tell the device's clock, and averages do not. The fit is the line below all arrivals
that lies nearest to them: Moon, Skelly and Towsley, "Estimation and removal of clock skew from network delay
measurements", IEEE INFOCOM 1999, section IV (the linear program, whose solution is one edge of the lower convex
hull). The least delay itself cannot be seen from one side; times are those of arrival over an idle link.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np

from edge_runtime.contract.signal import Float64Array

BIN_S = 1.0  # of device time, from which one pair is kept
N_BINS = 120
MIN_BINS = 5  # before that the declared rate is better than a measured one
MAX_BIN_PAIRS = 512
STEP_NS, STEP_AFTER_NS = 200e6, 5e9

Jitter = Literal["late", "both"]


def unwrap(count: int, last: int, ahead: float, wrap: int) -> int:
    """The position behind `last` that a counter which wraps means by `count`.

    last   position of the sample before, wraps included
    ahead  how many positions the time of arrival says have passed since
    wrap   the counter's modulus: 256 for a byte (Cyton: 1.02 s), 2**24 for Shimmer's clock (512 s)
    Right as long as `ahead` is wrong by less than half of `wrap`.
    """
    first = (count - last - 1) % wrap + 1
    return last + first + wrap * max(0, round((ahead - first) / wrap))


def line_below(x: Float64Array, y: Float64Array) -> tuple[float, float]:
    """Slope and intercept of the line under all points with the least sum of distances; x ascending, 2 or more."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1 and _turns_right(x, y, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    right = min(max(1, int(np.searchsorted(x[hull], np.mean(x)))), len(hull) - 1)
    a, b = hull[right - 1], hull[right]
    slope = float((y[b] - y[a]) / (x[b] - x[a]))
    return slope, float(y[a] - slope * x[a])


def line_through(x: Float64Array, y: Float64Array) -> tuple[float, float]:
    """Theil and Sen's line: the median of all pairs' slopes (Sen, J Am Stat Assoc 63, 1968), then of the rests."""
    i, j = np.triu_indices(len(x), 1)
    slope = float(np.median((y[j] - y[i]) / (x[j] - x[i])))
    return slope, float(np.median(y - slope * x))


def _turns_right(x: Float64Array, y: Float64Array, a: int, b: int, c: int) -> bool:
    return bool((y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a]))


class DeviceClock:
    """Pairs of (device ticks, monotonic arrival) -> the monotonic time of any tick.

    nominal_hz  ticks a second that the device promises; a sample counter's is the sampling rate
    jitter      `late` where arrivals cannot be early (any cable or radio); `both` where the device's own time
                stamps jitter too: then the middle is fitted and not the lower edge
    Memory and time per pair are bounded: one pair a second is kept, for two minutes. A device that starts again
    (ticks go back), or whose ticks stand still or leap, gets a new offset and keeps its drift. Wall-clock time
    takes no part.
    """

    def __init__(self, nominal_hz: float, *, jitter: Jitter = "late") -> None:
        self._nominal_hz, self._jitter = nominal_hz, jitter
        self._tick_ns = 1e9 / nominal_hz
        self.reset()

    def reset(self) -> None:
        """Forget the device."""
        self._slope = 0.0  # ns of arrival per ns of the device, less 1
        self.n_restarts = 0
        self._last_stamp: int | None = None
        self._origin: tuple[int, int] | None = None
        self._last_ticks = 0

    @property
    def rate_hz(self) -> float:
        """Ticks a second of the monotonic clock, as fitted."""
        return self._nominal_hz / (1.0 + self._slope)

    @property
    def drift_ppm(self) -> float:
        """How much faster the device's clock runs than it promises, in parts per million."""
        return (self.rate_hz / self._nominal_hz - 1.0) * 1e6

    def observe(self, ticks: int, arrival_ns: int) -> int:
        """Learn that `ticks` arrived, and return its time: never below an earlier answer; `late`: never after arrival.

        Call it once a chunk, with its newest sample.
        """
        if self._origin is None or ticks < self._last_ticks:
            self._begin(ticks, arrival_ns)
        x, y = self._placed(ticks, arrival_ns)
        late_ns = y - self._line(x)
        if late_ns < -STEP_NS or self._is_late_for_long(late_ns, arrival_ns):
            self._begin(ticks, arrival_ns)
            x, y = self._placed(ticks, arrival_ns)
        self._last_ticks = ticks
        self._keep(x, y)
        stamp = self.time_ns(ticks)
        if self._jitter == "late":
            stamp = min(stamp, arrival_ns)
        self._last_stamp = stamp if self._last_stamp is None else max(stamp, self._last_stamp)
        return self._last_stamp

    def time_ns(self, ticks: int) -> int:
        """Monotonic time of any tick by the present fit; raises ValueError before the first pair."""
        if self._origin is None:
            raise ValueError("no pair was observed yet")
        x = (ticks - self._origin[0]) * self._tick_ns
        return self._origin[1] + round(x + self._line(x))

    def _begin(self, ticks: int, arrival_ns: int) -> None:
        """A new offset; the drift stays until it is measured anew."""
        if self._origin is not None:
            self.n_restarts += 1
        self._origin, self._last_ticks = (ticks, arrival_ns), ticks
        self._offset = 0.0
        self._late_from_ns: int | None = None
        self._bins: deque[tuple[float, float]] = deque(maxlen=N_BINS)
        self._open: list[tuple[float, float]] = []
        self._open_until = BIN_S * 1e9

    def _placed(self, ticks: int, arrival_ns: int) -> tuple[float, float]:
        """Device time since the origin, and how much later than by its nominal rate the tick arrived; ns."""
        first, first_ns = self._origin or (ticks, arrival_ns)
        x = (ticks - first) * self._tick_ns
        return x, (arrival_ns - first_ns) - x

    def _line(self, x: float) -> float:
        return self._offset + self._slope * x

    def _is_late_for_long(self, late_ns: float, arrival_ns: int) -> bool:
        """Whether all has been late for seconds: a stall's backlog comes at once, ticks that stood still stay late."""
        if late_ns <= STEP_NS:
            self._late_from_ns = None
            return False
        if self._late_from_ns is None:
            self._late_from_ns = arrival_ns
        return arrival_ns - self._late_from_ns > STEP_AFTER_NS

    def _keep(self, x: float, y: float) -> None:
        if x >= self._open_until or len(self._open) == MAX_BIN_PAIRS:
            self._bins.append(self._kept())
            self._open, self._open_until = [], x + BIN_S * 1e9
            self._fit()
        if self._jitter == "late":
            self._open = [min([*self._open, (x, y)], key=lambda pair: pair[1] - self._slope * pair[0])]
            self._offset = min(self._offset, y - self._slope * x)
        else:
            self._open.append((x, y))
            if len(self._bins) < MIN_BINS:
                self._offset = float(np.median([b - self._slope * a for a, b in [*self._bins, *self._open]]))

    def _kept(self) -> tuple[float, float]:
        """The pair that stands for a second."""
        if self._jitter == "late":
            return self._open[0]
        x, y = np.median(np.array(self._open), axis=0)
        return float(x), float(y)

    def _fit(self) -> None:
        x, y = np.array(self._bins).T
        if len(x) >= MIN_BINS:
            fit = line_below if self._jitter == "late" else line_through
            self._slope, self._offset = fit(x, y)
        elif self._jitter == "late":
            self._offset = float(np.min(y - self._slope * x))
