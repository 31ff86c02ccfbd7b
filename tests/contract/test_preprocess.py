"""The conditioner against scipy, Kaiser's formulas and pulses whose time is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_models
from scipy.signal import lfilter

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.preprocess import KAISER_BETA, Conditioner, Conditioning
from edge_runtime.contract.signal import Block

CONDITIONING = tiny_models.CONDITIONING
RATES_HZ = (360.0, 250.0, 125.0, 130.0, 100.0, 500.0, 128.0, 1000.0, 62.5)


def conditioned(x: np.ndarray, rate_hz: float, conditioning: Conditioning = CONDITIONING) -> np.ndarray:
    stage = Conditioner(conditioning, rate_hz)
    blocks = stage.feed(Block(start=0, samples=x.astype(np.float32).reshape(-1, 1)))
    return np.concatenate([b.samples[:, 0] for b in blocks]).astype(np.float64)


def resampled_by_sum(x: np.ndarray, rate_hz: float) -> np.ndarray:
    """One windowed-sinc sum after the other over the whole record, constant before its first sample."""
    half = math.ceil(CONDITIONING.half_width_s * rate_hz)
    cutoff = min(1.0, CONDITIONING.rate_hz / rate_hz)
    out, k = [], 0
    while math.floor(k * rate_hz / CONDITIONING.rate_hz) + half < len(x):
        at = k * rate_hz / CONDITIONING.rate_hz
        i = np.arange(math.floor(at) - half + 1, math.floor(at) + half + 1)
        u = (i - at) / half
        taps = np.sinc(cutoff * (i - at)) * np.i0(KAISER_BETA * np.sqrt(np.maximum(0.0, 1.0 - u * u)))
        out.append(x[np.maximum(i, 0)] @ (taps / taps.sum()))
        k += 1
    return np.array(out)


def highpassed(y: np.ndarray) -> np.ndarray:
    """y minus its exponential mean, by scipy, from a mean that is the first value."""
    alpha = 1.0 - math.exp(-2.0 * math.pi * CONDITIONING.highpass_hz / CONDITIONING.rate_hz)
    mean, _ = lfilter([alpha], [1.0, alpha - 1.0], y, zi=[(1.0 - alpha) * y[0]])
    return y - mean


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_stream_is_a_windowed_sinc_sum_and_a_first_order_high_pass(rate_hz: float) -> None:
    x = np.random.default_rng(0).standard_normal(int(6 * rate_hz)).astype(np.float32).astype(np.float64)
    y = x if rate_hz == CONDITIONING.rate_hz else resampled_by_sum(x, rate_hz)
    np.testing.assert_allclose(conditioned(x, rate_hz), highpassed(y), atol=1e-6)


@pytest.mark.parametrize("rate_hz", [360.0, 250.0, 500.0])
def test_what_an_ecg_holds_passes_and_what_would_alias_does_not(rate_hz: float) -> None:
    """Kaiser and Schafer 1980: beta 3.4 stops 40 dB; the transition is (40 - 7.95) / (14.36 * length) wide."""
    t = np.arange(int(8 * rate_hz)) / rate_hz
    no_highpass = Conditioning(highpass_hz=1e-9)
    transition_hz = (40.0 - 7.95) / 14.36 / (2 * CONDITIONING.half_width_s)
    stopped_hz = CONDITIONING.rate_hz / 2 + transition_hz / 2
    for f, low_db, high_db in ((5.0, -0.1, 0.1), (20.0, -0.2, 0.2), (stopped_hz + 2, -300.0, -36.0)):
        y = conditioned(np.sin(2 * np.pi * f * t), rate_hz, no_highpass)[125:-125]
        gain_db = 20 * np.log10(np.sqrt(2.0 * np.mean((y - y.mean()) ** 2)))
        assert low_db <= gain_db <= high_db, f"{f:g} Hz: {gain_db:.2f} dB"


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("start", [0, 1, 77])
def test_a_pulse_stays_at_its_time(rate_hz: float, start: int) -> None:
    t = (np.arange(int(8 * rate_hz)) + start) / rate_hz
    for at_s in (2.0 + start / rate_hz, 3.0031, 5.555):
        x = np.exp(-0.5 * ((t - at_s) / 0.015) ** 2)
        stage = Conditioner(CONDITIONING, rate_hz)
        blocks = stage.feed(Block(start=start, samples=x.astype(np.float32).reshape(-1, 1)))
        y = np.concatenate([b.samples[:, 0] for b in blocks])
        i = int(y.argmax())
        offset = 0.5 * (y[i - 1] - y[i + 1]) / (y[i - 1] - 2 * y[i] + y[i + 1])
        out = blocks[0].start + i + offset
        assert abs(out / CONDITIONING.rate_hz - at_s) < 0.004
        assert abs(stage.source_position(out) / rate_hz - at_s) < 0.004 + 0.5 / rate_hz


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_what_comes_out_needs_no_more_than_the_declared_look_ahead(rate_hz: float) -> None:
    stage = Conditioner(CONDITIONING, rate_hz)
    for i in range(int(2 * rate_hz)):
        for block in stage.feed(Block(start=i, samples=np.zeros((1, 1), np.float32))):
            newest = i * CONDITIONING.rate_hz / rate_hz
            assert newest - (block.stop - 1) <= (stage.delay_source_samples + 1) * CONDITIONING.rate_hz / rate_hz
            assert stage.source_samples_before(block.stop) <= i + 1 + stage.delay_source_samples


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("level", [0.0, -3.0, 250.0])
def test_a_constant_is_zero_from_the_first_sample_on(rate_hz: float, level: float) -> None:
    assert np.abs(conditioned(np.full(int(2 * rate_hz), level), rate_hz)).max() < 1e-9 * max(1.0, abs(level))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_finish_gives_what_waits_for_look_ahead(rate_hz: float) -> None:
    x = np.random.default_rng(1).standard_normal((int(3.3 * rate_hz), 1)).astype(np.float32)
    stage = Conditioner(CONDITIONING, rate_hz)
    assert stage.finish(1.0) == []
    blocks = stage.feed(Block(start=0, samples=x)) + stage.finish(1.0)
    held = np.concatenate((x[:, 0], np.full(2 * int(rate_hz), x[-1, 0])))
    given = np.concatenate([b.samples[:, 0] for b in blocks])
    assert len(given) >= (len(x) / rate_hz + 1.0) * CONDITIONING.rate_hz - 1
    np.testing.assert_array_equal(given, conditioned(held, rate_hz)[: len(given)].astype(np.float32))


@pytest.mark.parametrize("rate_hz", [0.0, -250.0, 49.9, 4097.0, math.nan, math.inf])
def test_a_rate_out_of_range_is_refused(rate_hz: float) -> None:
    with pytest.raises(SettingsError, match=r"stream rate is .* Hz; 50 to 4096 Hz wanted"):
        Conditioner(CONDITIONING, rate_hz)


def test_the_hash_tells_other_parameters() -> None:
    same, others = Conditioning().sha256(), [Conditioning(highpass_hz=0.6), Conditioning(half_width_s=0.03)]
    assert Conditioning().sha256() == same
    assert len({same, *(c.sha256() for c in others)}) == 3
