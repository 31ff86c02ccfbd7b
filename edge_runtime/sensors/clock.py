"""A device's clock or sample counter on the gateway's monotonic clock: drift fitted, wraps resolved.

Most links make bytes late, by a delay that is never negative and sometimes long: buses poll, radios repeat, the system
is busy. There the earliest arrivals tell the device's clock, and averages do not: the fit is the line below all
arrivals that lies nearest to them (Moon, Skelly and Towsley, "Estimation and removal of clock skew from network delay
measurements", IEEE INFOCOM 1999, section IV: the linear program, whose solution is one edge of the lower convex
hull). Where arrivals spread alike to both sides, because the device's own time jitters, it is the middle that tells:
Theil and Sen's line. Which of the two a stream needs is seen from the skew of what the middle leaves over.

An even spread over some milliseconds looks the same either way; there the middle is taken, which is wrong by half its
width at most. What all arrivals have in common, the least delay of the link, cannot be seen by anyone.
"""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np

from edge_runtime.contract.signal import Float64Array

Pair = tuple[float, float]  # device time, and how much later than by its nominal rate it arrived; ns

BIN_S = 1.0  # of device time, from which a few pairs are kept
N_BINS = 120
MIN_BINS = 5  # before that the declared rate is better than a measured one
MAX_BIN_PAIRS = 512
KEPT_PER_BIN = 8
STEP_NS, STEP_AFTER_NS = 200e6, 5e9
LATE_SKEW = 0.15  # 0 for what is even; a half-normal delay has 0.28, an exponential one 0.46


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
    slope = float(middle((y[j] - y[i]) / (x[j] - x[i])))
    return slope, float(middle(y - slope * x))


def middle(values: Float64Array) -> Float64Array:
    """The median along the first axis; without NaN. numpy's own first loads its masked arrays, 3 MB of memory."""
    ordered, n = np.sort(values, axis=0), len(values)
    found: Float64Array = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])
    return found


def skew(values: Float64Array) -> float:
    """Bowley's skewness between the outer tenths, -1 to 1: Hinkley, "On power transformations to symmetry",
    Biometrika 62, 1975; 0 where nothing spreads."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
    return float((high + low - 2.0 * middle) / (high - low)) if high > low else 0.0


def _turns_right(x: Float64Array, y: Float64Array, a: int, b: int, c: int) -> bool:
    return bool((y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a]))


class DeviceClock:
    """Pairs of (device ticks, monotonic arrival) -> the monotonic time of any tick.

    nominal_hz  ticks a second that the device promises; a sample counter's is the sampling rate
    is_late     whether delays have a long tail: then times lie on their lower edge, else in their middle
    Memory and time per pair are bounded: eight pairs a second are kept, for two minutes. A device that starts again
    (ticks go back), or whose ticks stand still or leap, gets a new offset and keeps its drift. Wall-clock time
    takes no part.
    """

    def __init__(self, nominal_hz: float) -> None:
        self._nominal_hz = nominal_hz
        self._tick_ns = 1e9 / nominal_hz
        self.reset()

    def reset(self) -> None:
        """Forget the device."""
        self._slope = 0.0  # ns of arrival per ns of the device, less 1
        self.n_restarts, self.is_late = 0, False
        self._last_stamp: int | None = None
        self._late_from_ns: int | None = None
        self._origin: tuple[int, int] | None = None
        self._last_ticks = 0
        self._offset = self._open_until = 0.0

    @property
    def rate_hz(self) -> float:
        """Ticks a second of the monotonic clock, as fitted."""
        return self._nominal_hz / (1.0 + self._slope)

    @property
    def drift_ppm(self) -> float:
        """How much faster the device's clock runs than it promises, in parts per million."""
        return (self.rate_hz / self._nominal_hz - 1.0) * 1e6

    def observe(self, ticks: int, arrival_ns: int) -> int:
        """Learn that `ticks` arrived, and return its time: never below an earlier answer.

        Call it once a chunk, with its newest sample.
        """
        if self._origin is None or ticks < self._last_ticks:
            self._begin(ticks, arrival_ns)
        first, first_ns = self._origin or (ticks, arrival_ns)
        x = (ticks - first) * self._tick_ns  # device time since the origin
        y = (arrival_ns - first_ns) - x  # how much later than by its nominal rate the tick arrived
        late_ns = y - self._offset - self._slope * x
        if late_ns < -STEP_NS or (late_ns > STEP_NS and self._is_late_for_long(arrival_ns)):
            self._begin(ticks, arrival_ns)
            first_ns, x, y = arrival_ns, 0.0, 0.0
        elif late_ns <= STEP_NS:
            self._late_from_ns = None
        self._last_ticks = ticks
        if x >= self._open_until or len(self._open) == MAX_BIN_PAIRS:
            self._close_bin(x)
        self._open.append((x, y))
        if self.is_late:
            self._offset = min(self._offset, y - self._slope * x)
        elif len(self._bins) < MIN_BINS:
            pairs = np.array([*itertools.chain(*self._bins), *self._open])
            self._offset = float(middle(pairs[:, 1] - self._slope * pairs[:, 0]))
        stamp = first_ns + round(x + self._offset + self._slope * x)
        if self._last_stamp is None or stamp > self._last_stamp:
            self._last_stamp = stamp
        return self._last_stamp

    def time_ns(self, ticks: int) -> int:
        """Monotonic time of any tick by the present fit; raises ValueError before the first pair."""
        if self._origin is None:
            raise ValueError("no pair was observed yet")
        x = (ticks - self._origin[0]) * self._tick_ns
        return self._origin[1] + round(x + self._offset + self._slope * x)

    def _begin(self, ticks: int, arrival_ns: int) -> None:
        """A new offset; the drift stays until it is measured anew."""
        if self._origin is not None:
            self.n_restarts += 1
        self._origin, self._last_ticks = (ticks, arrival_ns), ticks
        self._offset = 0.0
        self._late_from_ns = None
        self._bins: deque[list[Pair]] = deque(maxlen=N_BINS)
        self._middles: deque[Pair] = deque(maxlen=N_BINS)  # of the bins
        self._open: list[Pair] = []
        self._open_until = BIN_S * 1e9
        self._n_new = 0  # bins that the fit does not know

    def _is_late_for_long(self, arrival_ns: int) -> bool:
        """Whether all has been late for seconds: a stall's backlog comes at once, ticks that stood still stay late."""
        if self._late_from_ns is None:
            self._late_from_ns = arrival_ns
        return arrival_ns - self._late_from_ns > STEP_AFTER_NS

    def _close_bin(self, x: float) -> None:
        """A second of device time is over: keep some of its pairs; `x` begins the next."""
        kept = _some(self._open, self._slope)
        self._bins.append(kept)
        self._middles.append((_middle([x for x, _ in kept]), _middle([y for _, y in kept])))
        self._open, self._open_until = [], x + BIN_S * 1e9
        self._n_new += 1
        # Drift changes slowly: what a twentieth more seconds would change need not be known before.
        if len(self._bins) >= MIN_BINS and 20 * self._n_new >= len(self._bins):
            self._fit()

    def _fit(self) -> None:
        """The line through the middles of the seconds; below their earliest arrivals where it leaves a long tail."""
        x, y = np.array(self._middles).T
        slope, offset = line_through(x, y)
        pairs = np.array([*itertools.chain(*self._bins)])
        rest = pairs[:, 1] - slope * pairs[:, 0] - offset
        # A skew's standard error is about 1 / sqrt(n); the middle is the choice that is never far off.
        self.is_late = skew(rest) > LATE_SKEW + (0.0 if self.is_late else 2.0 * len(rest) ** -0.5)
        if self.is_late:
            x, y = np.array([kept[0] for kept in self._bins]).T
            slope, offset = line_below(x, y)
        self._slope, self._offset, self._n_new = slope, offset, 0


def _middle(values: list[float]) -> float:
    """The median of a few; arrays take longer."""
    ordered, n = sorted(values), len(values)
    return 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])


def _some(pairs: list[Pair], slope: float) -> list[Pair]:
    """The pairs of a second, from the earliest arrival to the latest, evenly thinned."""
    ordered = sorted(pairs, key=lambda pair: pair[1] - slope * pair[0])
    last = len(ordered) - 1
    if last >= KEPT_PER_BIN:
        ordered = [ordered[round(i * last / (KEPT_PER_BIN - 1))] for i in range(KEPT_PER_BIN)]
    return ordered
