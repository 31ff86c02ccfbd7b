"""The one loop: its ledger under every kind of loss, its refusals, and what it says at the end of a stream."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiny_models
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edge_runtime.assemble import open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.signal import Block, Float32Array, Frames, Reading, StreamSpec
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.pipeline import Pipeline
from edge_runtime.sensors.synthetic import simulate

QUICK = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
RATE_HZ = 250.0


def ecg(seconds: float, rate_hz: float = RATE_HZ) -> Float32Array:
    return simulate(seconds, rate_hz=rate_hz, seed=5, heart_rate_bpm=75, patient=1).samples[:, :1].copy()


def opened(bundle: Bundle, engine: OnnxEngine, rate_hz: float = RATE_HZ) -> Pipeline:
    return open_pipeline(bundle, StreamSpec(rate_hz=rate_hz), engine)


def feed(pipeline: Pipeline, x: Float32Array, start: int = 0, size: int = 100) -> list[Reading]:
    return [
        r for at in range(0, len(x), size) for r in pipeline.feed(Block(start=start + at, samples=x[at : at + size]))
    ]


# The ledger.


@QUICK
@given(data=st.data(), rate_hz=st.sampled_from([125.0, 250.0, 360.0, 100.0]), first=st.integers(0, 5000))
def test_the_ledger_balances_to_the_sample_whatever_is_lost(
    data: st.DataObject, rate_hz: float, first: int, int8_bundle: Bundle, engine: OnnxEngine
) -> None:
    """Gaps, runs without value and blocks of any size: only what is not a number is dropped."""
    x = ecg(5.0, rate_hz)
    pipeline = opened(int8_bundle, engine, rate_hz)
    lengths = data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=12))
    runs = st.tuples(st.integers(0, 399), st.integers(1, 200), st.sampled_from([np.nan, np.inf, -np.inf]))
    counter, at, bad, gap = first, 0, 0, 0
    for i, n in enumerate(lengths):
        samples = x[at % 500 : at % 500 + n].copy()
        for begin, length, value in data.draw(st.lists(runs, max_size=2)):
            samples[begin : begin + length] = value
        jump = data.draw(st.sampled_from([0, 0, 0, 1, 7, 1000])) if i else 0
        counter, gap = counter + jump, gap + jump
        at, bad = at + len(samples), bad + int((~np.isfinite(samples)).sum())
        assume(at < 10 * rate_hz or 2 * bad <= at)  # a stream that is mostly no numbers is refused
        pipeline.feed(Block(start=counter, samples=samples))
        counter += len(samples)
        ledger = pipeline.ledger
        assert (ledger.received, ledger.gap) == (counter - first, gap)
        assert ledger.scored + ledger.dropped + ledger.gap <= ledger.received  # the rest waits for look-ahead
    pipeline.finish()
    assert pipeline.ledger.is_balanced
    assert pipeline.ledger.dropped == bad
    assert pipeline.ledger.scored == counter - first - gap - bad


def test_the_ledger_of_an_undisturbed_stream_is_all_scored(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    pipeline = opened(int8_bundle, engine)
    feed(pipeline, ecg(20.0))
    pipeline.finish()
    assert pipeline.ledger.to_json() == {"name": "ledger", "received": 5000, "scored": 5000, "dropped": 0, "gap": 0}
    assert pipeline.finish() == []


def test_an_empty_block_is_nothing(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    pipeline = opened(int8_bundle, engine)
    assert pipeline.feed(Block(start=7, samples=np.zeros((0, 1), np.float32))) == []
    assert pipeline.finish() == []
    assert pipeline.ledger.received == 0


# Refusals.


def test_a_stream_that_is_mostly_not_numbers_is_refused(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    x = ecg(12.0)
    x[np.arange(len(x)) % 5 > 1] = np.nan
    pipeline = open_pipeline(int8_bundle, StreamSpec(rate_hz=RATE_HZ, channels=("V9",)), engine)
    feed(pipeline, x[:2400])
    with pytest.raises(SourceError, match=r"channel V9: \d+ of 2500 samples are not numbers; at most 50% may be"):
        feed(pipeline, x[2400:], start=2400)


def test_a_stream_with_few_missing_values_goes_on(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    x = ecg(20.0)
    x[1000:1500] = np.nan
    pipeline = opened(int8_bundle, engine)
    readings = feed(pipeline, x) + pipeline.finish()
    assert not any(1000 <= r.sample < 1500 for r in readings)
    assert sum(r.sample >= 1500 for r in readings) > 10
    # Behind the hole the quality starts afresh: nothing of before counts.
    assert next(r for r in readings if r.sample >= 1500).quality < 0.2 < readings[-2].quality
    # Of the last one, 24 ms before the end, half is not there.
    assert (readings[-1].sample > 5000 - 30, readings[-1].value) == (True, None)


def test_a_counter_that_goes_back_is_refused(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    pipeline = opened(int8_bundle, engine)
    feed(pipeline, ecg(1.0))
    with pytest.raises(SourceError, match="sample counter goes back from 250 to 249"):
        feed(pipeline, ecg(1.0), start=249)


@pytest.mark.parametrize("unit", ["uV", "V", "mmHg", ""])
def test_another_unit_is_refused(int8_bundle: Bundle, engine: OnnxEngine, unit: str) -> None:
    with pytest.raises(SettingsError, match=f"stream is in {unit}; the bundle ecg-beats wants mV"):
        open_pipeline(int8_bundle, StreamSpec(rate_hz=RATE_HZ, unit=unit), engine)


@pytest.mark.parametrize("rate_hz", [10.0, 1e6])
def test_another_rate_than_can_be_resampled_is_refused(int8_bundle: Bundle, engine: OnnxEngine, rate_hz: float) -> None:
    with pytest.raises(SettingsError, match="stream rate is"):
        opened(int8_bundle, engine, rate_hz)


# Readings.


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 360.0])
def test_a_beat_in_the_last_third_of_a_second_is_found(int8_bundle: Bundle, engine: OnnxEngine, rate_hz: float) -> None:
    x = ecg(14.0, rate_hz)
    known = feed(opened(int8_bundle, engine, rate_hz), x)
    target = next(r.sample for r in known if 10.0 < r.t_s < 12.0)
    stop = target + round(0.3 * rate_hz)
    pipeline = opened(int8_bundle, engine, rate_hz)
    before = feed(pipeline, x[:stop])
    assert all(r.sample < target - rate_hz / 4 for r in before)
    last = pipeline.finish()[-1]
    assert abs(last.sample - target) <= 0.02 * rate_hz
    assert last.sample < stop


class EveryHop:
    """A scorer and reader that say something of each hop's last sample, also of those that were only held."""

    def __init__(self) -> None:
        self.rest = 0

    def reset(self) -> None:
        self.rest = 0

    interrupt = reset

    def watch(self, block: Block) -> None:
        pass

    def feed(self, item: Block | Frames) -> list[Frames] | list[Reading]:
        if isinstance(item, Frames):
            return [Reading(name="hop", sample=item.start + 24, t_s=0.0, value=None)]
        first, self.rest = item.start - self.rest, (self.rest + len(item.samples)) % 25
        return [Frames(start=at, scores=np.zeros((5, 1), np.float32)) for at in range(first, item.stop - 24, 25)]


def test_what_a_held_value_says_behind_the_end_is_left_out() -> None:
    score, read = EveryHop(), EveryHop()
    stage = Conditioner(tiny_models.CONDITIONING, 125.0)
    pipeline = Pipeline(stage, score, read, rate_hz=125.0, channels=("ECG",), row_samples=5, delay_s=1.0)
    readings = feed(pipeline, ecg(1.0, 125.0)[:110]) + pipeline.finish()
    assert [r.sample for r in readings] == [24, 49, 74, 99]
    assert pipeline.ledger.scored == 110


def test_nothing_is_said_of_what_lies_behind_the_end(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    x = ecg(12.0)
    for stop in range(2000, 2200, 17):
        pipeline = opened(int8_bundle, engine)
        readings = feed(pipeline, x[:stop]) + pipeline.finish()
        assert all(0 <= r.sample < stop for r in readings)


@pytest.mark.parametrize("start", [2, 4, 6, 8, 1234, 10**9])
def test_a_stream_that_begins_elsewhere_says_the_same_there(
    int8_bundle: Bundle, engine: OnnxEngine, start: int
) -> None:
    x = ecg(10.0)
    pipeline, other = opened(int8_bundle, engine), opened(int8_bundle, engine)
    wanted = feed(pipeline, x) + pipeline.finish()
    given = feed(other, x, start=start) + other.finish()
    moved = [replace(r, sample=r.sample + start, t_s=(r.sample + start) / RATE_HZ) for r in wanted]
    assert len(wanted) > 8
    assert given == moved


def test_a_beat_comes_no_later_than_declared(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    """Sample by sample at the model's own rate, where the conditioner needs no look-ahead."""
    m, late = int8_bundle.manifest, []
    pipeline = opened(int8_bundle, engine, 125.0)
    for i, value in enumerate(ecg(30.0, 125.0)):
        late += [i - r.sample for r in pipeline.feed(Block(start=i, samples=value[None]))]
    assert len(late) > 30
    assert max(late) <= m.delay_samples
    assert max(late) > m.delay_samples - m.hop_samples


def test_beats_are_in_order_and_every_frame_is_shown_once(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    shown: list[int] = []
    said: list[Reading] = []

    def note(frames: Frames, readings: object) -> None:
        shown.append(frames.start)
        said.extend(readings)  # type: ignore[call-overload]

    pipeline = open_pipeline(int8_bundle, StreamSpec(rate_hz=360.0), engine, on_frames=note)
    record = tiny_models.records()[2]
    readings = feed(pipeline, record.leads[:, :1]) + pipeline.finish()
    assert shown == list(range(0, 25 * len(shown), 25))
    assert said == readings
    assert all(a.sample < b.sample for a, b in pairwise(readings))
    found = np.array([r.sample for r in readings])
    reached = [np.abs(found - b).min() <= 0.05 * 360 for b in record.beat_samples]
    assert np.mean(reached) > 0.95


def test_reset_forgets_the_ledger_too(int8_bundle: Bundle, engine: OnnxEngine) -> None:
    pipeline = opened(int8_bundle, engine)
    feed(pipeline, ecg(3.0))
    pipeline.reset()
    assert pipeline.ledger.received == 0
    assert pipeline.finish() == []
