"""Conditioning of one lead, shared by training and device: any rate -> 125 Hz -> causal high-pass."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from edge_runtime.contract.dataclass import dataclass
from edge_runtime.contract.errors import NotNumbers, SettingsError
from edge_runtime.contract.sha256 import sha256_hex
from edge_runtime.contract.signal import Block, Float32Array, Float64Array

# Changes whenever the arithmetic below changes, so that the hash in a bundle does too.
ALGORITHM = "kaiser-sinc-resampler+first-order-highpass/1"
MIN_RATE_HZ, MAX_RATE_HZ = 50.0, 4096.0
KAISER_BETA = 3.4  # about 40 dB of stop band (Kaiser and Schafer, 1980)


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Parameters of the conditioning; travels in the manifest.

    rate_hz       rate the model runs at
    highpass_hz   corner of the first-order high-pass that removes baseline wander
    half_width_s  half the length of the resampler's kernel, which is its look-ahead
    """

    rate_hz: int = 125
    highpass_hz: float = 0.5
    half_width_s: float = 0.032

    def sha256(self) -> str:
        """Hash of algorithm and parameters, hexadecimal."""
        text = json.dumps({"algorithm": ALGORITHM, **asdict(self)}, sort_keys=True)
        return sha256_hex(text.encode())


class Conditioner:
    """Stage: blocks of one channel at the source's rate in, conditioned blocks at `rate_hz` out.

    Output sample k lies at source time k * source_rate / rate_hz, on one grid for the whole stream: a gap in
    the source's counter is a gap in the output's counter, and all filters start afresh behind it. Before the
    first sample of a segment the signal is taken to be constant.
    """

    def __init__(self, conditioning: Conditioning, source_rate_hz: float) -> None:
        if not MIN_RATE_HZ <= source_rate_hz <= MAX_RATE_HZ:
            raise SettingsError(f"stream rate is {source_rate_hz:g} Hz; {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz wanted")
        self._up, self._down = _ratio(conditioning.rate_hz, source_rate_hz)
        self._half = 0 if self._up == self._down else math.ceil(conditioning.half_width_s * source_rate_hz)
        self._bank = _kernel_bank(self._up, self._down, self._half)
        self._taps = np.arange(2 * self._half)
        self.source_rate_hz = source_rate_hz
        self._rate_hz = conditioning.rate_hz
        self._alpha = 1.0 - math.exp(-2.0 * math.pi * conditioning.highpass_hz / conditioning.rate_hz)
        self.reset()

    @property
    def delay_source_samples(self) -> int:
        """Source samples needed beyond an output sample's own time."""
        return self._half

    @property
    def ratio(self) -> tuple[int, int]:
        """Output samples, and the source samples in the same time; without a common divisor."""
        return self._up, self._down

    @property
    def bank(self) -> Float64Array:
        """The resampler's taps for every phase, float64 (up, 2 * delay_source_samples or 1)."""
        return self._bank

    @property
    def alpha(self) -> float:
        """Share of a sample that goes into the high-pass's baseline."""
        return self._alpha

    def reset(self) -> None:
        """Forget the stream."""
        self._next_source: int | None = None
        self._next_out = 0
        self._tail: Float64Array = np.zeros(0)
        self._tail_start = 0
        self._last = math.nan
        self._baseline = math.nan

    def source_position(self, out_sample: float) -> int:
        """Source counter nearest to a (fractional) output sample."""
        return math.floor(out_sample * self._down / self._up + 0.5)

    def source_sample_at(self, out_sample: int) -> int:
        """Newest source counter at or before an output sample."""
        return out_sample * self._down // self._up

    def source_samples_before(self, out_sample: int) -> int:
        """Source counter below which all samples lie before output sample `out_sample`."""
        return -(-out_sample * self._down // self._up)

    def feed(self, block: Block) -> list[Block]:
        """Condition one block, shape (n, 1); raises NotNumbers, and takes nothing, if a sample is not finite."""
        n, start = len(block.samples), block.start
        if n == 0:
            return []
        if self._half == 0:  # nothing waits for look-ahead, every sample comes out at once
            values = block.samples.ravel().tolist()
            passed = self._highpass(values, self._baseline if start == self._next_source else math.nan)
            self._next_source, self._last = start + n, values[-1]
            return [Block(start=start, samples=passed, t_ns=block.t_ns)]
        x = block.samples[:, 0].astype(np.float64)
        check_finite(x)
        if start != self._next_source:
            self._start_segment(start, float(x[0]))
        self._next_source, self._last = start + n, float(x[-1])
        self._tail = np.concatenate((self._tail, x))
        return list(self._emit(block.t_ns))

    def finish(self, seconds: float) -> list[Block]:
        """Go on with the last value for `seconds`, so that what waits for look-ahead comes out."""
        if self._next_source is None:
            return []
        n = self._half + math.ceil(seconds * self._rate_hz * self._down / self._up)
        last = np.full((n, 1), self._last, np.float32)
        return self.feed(Block(start=self._next_source, samples=last))

    def _start_segment(self, start: int, first: float) -> None:
        self._tail = np.full(self._half, first)
        self._tail_start = start - self._half
        self._next_out = -(-start * self._up // self._down)
        self._baseline = math.nan

    def _emit(self, t_ns: int) -> Iterator[Block]:
        # Output k needs source samples up to floor(k * down / up) + half.
        end = self._tail_start + len(self._tail)
        stop = -(-(end - self._half) * self._up // self._down)
        if stop <= self._next_out:
            return
        k = np.arange(self._next_out, stop, dtype=np.int64)
        whole, phase = np.divmod(k * self._down, self._up)
        first = whole - (self._half - 1 + self._tail_start)
        y = (self._tail[first[:, None] + self._taps] * self._bank[phase]).sum(axis=1)
        start, self._next_out = self._next_out, stop
        keep_from = stop * self._down // self._up - self._half + 1
        self._tail = self._tail[max(0, keep_from - self._tail_start) :].copy()
        self._tail_start = max(self._tail_start, keep_from)
        yield Block(start=start, samples=self._highpass(y.tolist(), self._baseline), t_ns=t_ns)

    def _highpass(self, y: list[float], baseline: float) -> Float32Array:
        # A loop, for each value rests on the one before it, and a result must not depend on how the input was cut.
        alpha, out = self._alpha, []
        if baseline != baseline:  # none yet
            baseline = y[0]
        for value in y:
            baseline += alpha * (value - baseline)
            out.append(value - baseline)
        if not math.isfinite(baseline):  # which any value before would have made so
            raise NotNumbers
        self._baseline = baseline
        return np.array(out, np.float32).reshape(-1, 1)


def check_finite(samples: Float32Array | Float64Array) -> None:
    """Raise NotNumbers unless all are finite; a look at their sum of squares, which is one call, and then at each."""
    flat = samples.ravel()
    if not math.isfinite(flat.dot(flat)) and not np.isfinite(flat).all():
        raise NotNumbers


def _ratio(rate_hz: float, source_rate_hz: float) -> tuple[int, int]:
    """The rates as small whole numbers without a common divisor."""
    if rate_hz == source_rate_hz:
        return 1, 1
    from fractions import Fraction  # with its decimals it takes time to load, and equal rates do not need it

    ratio = (Fraction(rate_hz) / Fraction(source_rate_hz)).limit_denominator(4096)
    return ratio.numerator, ratio.denominator


def _kernel_bank(up: int, down: int, half: int) -> Float64Array:
    """Kaiser-windowed sinc for every phase, each normalized to unit gain; float64 (up, 2 * half).

    Row p serves outputs that lie p / up behind source sample i; its taps weigh samples i - half + 1 ... i + half.
    """
    if half == 0:
        return np.ones((1, 1))
    cutoff = min(1.0, up / down)  # in units of the source's Nyquist frequency
    distance = np.arange(-half + 1, half + 1)[None, :] - np.arange(up)[:, None] / up
    inside = np.clip(1.0 - (distance / half) ** 2, 0.0, None)
    taps = np.sinc(cutoff * distance) * np.i0(KAISER_BETA * np.sqrt(inside))
    return np.asarray(taps / taps.sum(axis=1, keepdims=True))
