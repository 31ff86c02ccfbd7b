"""Beats at known positions as fixed-size examples: the signal around each, what the patient's beats looked like so
far, and the rhythm so far. Nothing of an example comes from later than its window, but the next RR interval, capped.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

import numpy as np

from edge_runtime.contract.rhythm import MAX_RR_S, MIN_RR_S, N_FEATURES
from edge_runtime.contract.signal import Float32Array
from host_tools.data.examples import rhythm_features

RATE_HZ = 125
BEFORE, AFTER = 44, 52  # samples of a window: 0.35 s before the R peak, 0.42 s from it on
WINDOW = BEFORE + AFTER
LOOK_AHEAD_S = 1.0  # how far the next RR interval is seen
SIGNALS = 3  # the window; its difference from the running mean; from the running mean of beats after long intervals
MEAN_RATE = 1.0 / 12.0
LONG_SHARE = 0.75  # an interval longer than this share of the recent ones is long
RECENT = 128  # intervals
QRS, P_WAVE = slice(BEFORE - 8, BEFORE + 9), slice(BEFORE - 36, BEFORE - 8)
PAST = 6  # earlier intervals that are told one by one
N_CONTEXT = N_FEATURES + PAST + 5 + 7
LIMIT = 4.0  # of a beat's height, and of a feature


def beat_windows(x: Float32Array, beats: np.ndarray) -> Float32Array:
    """Examples of all beats of one lead of one record; float32 (beats, 4, 96).

    x      float32 (n,), mV, conditioned, 125 Hz
    beats  float64 (beats,), R peaks in samples, ascending

    Channels 0 to 2 are the window, its difference from the running mean of the patient's windows, and from that of
    beats that came after long intervals (in a rhythm of premature beats those are the sinus beats), all in units of
    the beats' mean height so far. Channel 3 begins with the N_CONTEXT features of `context`, and is 0 after them.
    """
    rhythm = rhythm_features(beats / RATE_HZ, LOOK_AHEAD_S)
    padded = np.pad(x, (BEFORE, AFTER), mode="edge")
    at = np.clip(np.round(beats), 0, len(x) - 1).astype(np.int64)  # the resampler may end before the last beat
    out = np.zeros((len(beats), SIGNALS + 1, WINDOW), np.float32)
    memory, intervals = _Shapes(), _Intervals()
    for i, start in enumerate(at):
        window = padded[start : start + WINDOW].astype(np.float64)
        rr = 0.8 if i == 0 else min(max((beats[i] - beats[i - 1]) / RATE_HZ, MIN_RR_S), MAX_RR_S)
        signals, shape = memory.compare(window)
        out[i, :SIGNALS] = signals
        out[i, SIGNALS, :N_CONTEXT] = np.concatenate((rhythm[i], intervals.features(rr), shape))
        memory.learn(window, intervals.is_long(rr))
        if i > 0:
            intervals.learn(rr)
    return np.clip(out, -LIMIT, LIMIT)


class _Intervals:
    """Past RR intervals: the last ones in order, and the recent ones by length."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def learn(self, rr: float) -> None:
        self._recent.append(rr)
        insort(self._sorted, rr)
        if len(self._recent) > RECENT:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def is_long(self, rr: float) -> bool:
        return rr >= self._at(LONG_SHARE, rr)

    def features(self, rr: float) -> list[float]:
        """3 log of earlier intervals, newest first, and of RR, to the median; RR to quartiles and P90; its rank."""
        middle = self._at(0.5, rr)
        past = [3.0 * math.log(v / middle) for v in list(self._recent)[: -PAST - 1 : -1]]
        to = [3.0 * math.log(rr / self._at(share, rr)) for share in (0.25, 0.5, 0.75, 0.9)]
        rank = bisect_left(self._sorted, rr - 0.02) / max(1, len(self._sorted))
        return [*past, *[0.0] * (PAST - len(past)), *to, 2.0 * rank - 1.0]

    def _at(self, share: float, otherwise: float) -> float:
        return self._sorted[int(share * (len(self._sorted) - 1))] if self._sorted else otherwise


class _Shapes:
    """Running means over a patient's windows."""

    def __init__(self) -> None:
        self._n = self._n_long = 0
        self._mean = self._long = np.zeros(WINDOW)
        self._height = 0.0
        self._last_likeness = 1.0

    def compare(self, window: np.ndarray) -> tuple[np.ndarray, list[float]]:
        """Signals (3, 96), and how the beat is like the mean ones: whole, QRS, P wave, height, the beat before."""
        mean = self._mean if self._n else window
        long = self._long if self._n_long else mean
        height = max(self._height if self._n else float(np.ptp(window[QRS])), 0.1)
        likeness = _likeness(window, mean)
        shape = [
            2.0 * likeness,
            2.0 * _likeness(window[QRS], mean[QRS]),
            2.0 * _likeness(window[QRS], long[QRS]),
            2.0 * _likeness(window[P_WAVE], mean[P_WAVE]),
            2.0 * _likeness(window[P_WAVE], long[P_WAVE]),
            math.log(max(float(np.ptp(window[QRS])), 0.05) / height),
            2.0 * self._last_likeness,
        ]
        self._last_likeness = likeness
        return np.stack([window, window - mean, window - long]) / height, shape

    def learn(self, window: np.ndarray, is_long: bool) -> None:
        self._n += 1
        rate = max(MEAN_RATE, 1.0 / self._n)
        self._mean = self._mean + rate * (window - self._mean)
        self._height += rate * (float(np.ptp(window[QRS])) - self._height)
        if is_long:
            self._n_long += 1
            self._long = self._long + max(MEAN_RATE, 1.0 / self._n_long) * (window - self._long)


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation; 0 where one of them is flat."""
    one, other = one - one.mean(), other - other.mean()
    size = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / size if size > 1e-9 else 0.0
