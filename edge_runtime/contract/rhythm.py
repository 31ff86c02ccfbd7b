"""Causal rhythm context of a beat: RR-interval features, the same code in training and on the device."""

from __future__ import annotations

import math

N_FEATURES = 8
MIN_RR_S, MAX_RR_S = 0.15, 3.0
FAST, SLOW = 1.0 / 8.0, 1.0 / 64.0


class RhythmContext:
    """Running statistics over past RR intervals; one `features` call per beat, in order of time.

    Features (dimensionless, about unit scale), with RR the interval that ends at this beat and next the
    interval that follows it, seen only up to `look_ahead_s`:
    3 log of RR/fast mean, of next/fast mean, of RR/slow mean, of RR/previous RR, log of next/RR (clipped),
    2 (RR - 0.8 s), irregularity, whether no beat followed within the look-ahead.
    The means hold only intervals before RR, so a beat is compared with its past.
    """

    def __init__(self, look_ahead_s: float) -> None:
        self.look_ahead_s = look_ahead_s
        self.reset()

    def reset(self) -> None:
        """Forget all beats."""
        self._last_s: float | None = None
        self._previous_rr = self._fast = self._slow = 0.8
        self._irregularity = 0.0
        self._n = 0

    def interrupt(self) -> None:
        """Forget the last beat's time, not the patient: the next beat's interval is unknown."""
        self._last_s = None

    def features(self, t_s: float, next_s: float | None) -> list[float]:
        """Features of the beat at `t_s`; `next_s` is the following beat's time if it is already known."""
        fast, last_s = self._fast, self._last_s
        rr = fast if last_s is None else _within(t_s - last_s, MIN_RR_S, MAX_RR_S)
        seen = self.look_ahead_s if next_s is None else _within(next_s - t_s, MIN_RR_S, self.look_ahead_s)
        log = math.log
        row = [
            3.0 * log(rr / fast),
            3.0 * log(seen / fast),
            3.0 * log(rr / self._slow),
            3.0 * log(rr / self._previous_rr),
            _within(log(seen / rr), -1.0, 1.0),
            2.0 * (rr - 0.8),
            5.0 * self._irregularity,
            1.0 if seen >= self.look_ahead_s else 0.0,
        ]
        self._update(t_s, rr)
        return row

    def _update(self, t_s: float, rr: float) -> None:
        if self._last_s is not None:
            self._n += 1
            # The first intervals weigh more, so that the means start at the patient's own rate.
            fast, slow = max(FAST, 1.0 / self._n), max(SLOW, 1.0 / self._n)
            if self._n > 1:
                change = abs(rr - self._previous_rr) / self._fast
                self._irregularity += fast * ((change if change < 1.0 else 1.0) - self._irregularity)
            self._fast += fast * (rr - self._fast)
            self._slow += slow * (rr - self._slow)
            self._previous_rr = rr
        self._last_s = t_s


def _within(value: float, low: float, high: float) -> float:
    """The value, or the bound that it passed; cheaper than min and max, and called for every beat."""
    return low if value < low else high if value > high else value
