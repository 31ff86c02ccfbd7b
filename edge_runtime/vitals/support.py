"""Whether a signal supports the beats found in it: hearts repeat themselves, noise and stuck converters do not."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from edge_runtime.contract.signal import Float32Array

HALF_S = 0.12  # of a complex, on each side of its R peak
SHIFTS = 2  # samples that two complexes may be apart
N_EARLIER, N_JUDGED, LEAST_JUDGED = 8, 6, 4
LEAST_RESEMBLANCE = 0.75
STUCK_MV, STUCK_S = 0.002, 0.4
TINY = np.float32(math.ulp(1.0))

# First counter, counter one past the last -> conditioned samples float32 (n,); None where some are not known.
Signal = Callable[[int, int], "Float32Array | None"]


class BeatSupport:
    """Stage of one patient: `holds` says of each beat, in order, whether the signal supports it.

    A beat resembles the ones before it by its best correlation with one of eight, of the slope, which holds little of
    what breathing and electrodes add. The median of the last six must reach 0.75, so that a single beat of another
    form is no noise; while fewer than four are known, nothing is doubted. Chosen on ten minutes of each record of DS1
    of MIT-BIH and on the recorded noise of NSTDB, see docs/sensors.md.

    A leap behind which the sensor's value does not move for 0.4 s is a converter at its rail or a lead that came off.

    keep  what the high-pass leaves of a change from one sample to the next: turns its output back into changes
    """

    def __init__(self, rate_hz: float, keep: float) -> None:
        self._half, self._stuck, self._keep = round(HALF_S * rate_hz), round(STUCK_S * rate_hz), keep
        # By index: a sliding window of numpy's is slower for so few, and its memory is not all given back.
        self._shifted = np.arange(2 * SHIFTS + 1)[:, None] + np.arange(2 * self._half + 1)
        self.reset()

    def reset(self) -> None:
        """Forget the patient."""
        self._earlier = np.zeros((N_EARLIER, 2 * self._half + 1), np.float32)  # a ring
        self._n_earlier = 0
        self._own: deque[float] = deque(maxlen=N_JUDGED)

    def holds(self, position: float, seen: int, signal: Signal) -> bool:
        """Whether a beat is supported by its own signal, by the beats before it, and by what follows up to `seen`."""
        middle = round(position)
        forms = self._forms(middle, signal)
        if forms is not None:
            if self._n_earlier:
                self._own.append(float((self._earlier[: self._n_earlier] @ forms.T).max()))
            self._earlier[self._n_earlier % N_EARLIER] = forms[SHIFTS]
            self._n_earlier += 1
        if len(self._own) >= LEAST_JUDGED and _middle(self._own) < LEAST_RESEMBLANCE:
            return False
        return not self._is_stuck(middle, seen, signal)

    def _is_stuck(self, middle: int, seen: int, signal: Signal) -> bool:
        """Whether the sensor's value stops moving with this beat."""
        x = signal(middle - 1, min(seen, middle + self._half + self._stuck))
        if x is None or len(x) <= self._stuck:
            return False
        moves = np.abs(x[1:] / self._keep - x[:-1]) >= STUCK_MV
        return bytes(self._stuck) in moves.tobytes()

    def _forms(self, middle: int, signal: Signal) -> Float32Array | None:
        """A complex's slope at five shifts, each of mean 0 and norm 1, float32 (5, n); None where some is not known."""
        reach = self._half + SHIFTS + 1
        x = signal(middle - reach, middle + reach + 1)
        if x is None:
            return None
        forms = (x[2:] - x[:-2])[self._shifted]
        # `reduce` is what `mean` and `sum` come to, behind several calls.
        forms = forms - np.add.reduce(forms, axis=1, keepdims=True) / np.float32(forms.shape[1])
        norms = np.sqrt(np.add.reduce(forms * forms, axis=1, keepdims=True))
        found: Float32Array = forms / np.maximum(norms, TINY)
        return found


def _middle(values: Iterable[float]) -> float:
    """The median; numpy's own first loads its masked arrays, which nothing here needs."""
    ordered = sorted(values)
    return 0.5 * (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2])
