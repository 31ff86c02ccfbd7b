"""Windows on the device: readings equal a batch through ONNX Runtime; gaps, missing values, ledger, refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import tiny_windows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from edge_runtime import golden
from edge_runtime.assemble import open_pipeline
from edge_runtime.contract import logits
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.channels import EachConditioned
from edge_runtime.contract.errors import SettingsError, SourceError
from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.signal import Block, Float32Array, Reading, StreamSpec
from edge_runtime.contract.window import Window
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.pipeline import Pipeline
from host_tools.tasks import bins

Bundles = dict[str, Bundle]
QUICK = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
KINDS = pytest.mark.parametrize("kind", list(tiny_windows.KINDS))


def opened(bundle: Bundle, engine: OnnxEngine, rate_hz: float) -> Pipeline:
    return open_pipeline(bundle, golden.stream_spec(bundle, rate_hz), engine)


def feed(pipeline: Pipeline, x: Float32Array, start: int = 0, size: int = 100) -> list[Reading]:
    return [
        r for at in range(0, len(x), size) for r in pipeline.feed(Block(start=start + at, samples=x[at : at + size]))
    ]


# The oracle: windows cut by numpy, run by onnxruntime in one batch's order, read by scipy and plain loops.


def batch(bundle: Bundle, samples: Float32Array, rate_hz: float) -> list[tuple[int, float | str | None, float]]:
    """(sample, value, confidence) of every window."""
    m = bundle.manifest
    w = m.window
    at = np.arange(len(samples))
    if m.conditioning is not None:  # one lead; the last value held for the resampler's look-ahead
        stage = Conditioner(m.conditioning, rate_hz)
        parts = [*stage.feed(Block(start=0, samples=samples)), *stage.finish(0.0)]
        samples = np.concatenate([b.samples for b in parts])
        at = np.floor(np.arange(len(samples)) * rate_hz / w.rate_hz).astype(int)
    session = onnxruntime.InferenceSession(str(bundle.file("model.onnx")), providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    said: list[tuple[int, float | str | None, float]] = []
    for start in range(0, len(samples) - w.window_samples + 1, m.hop_samples):
        x = np.ascontiguousarray(samples[start : start + w.window_samples].T).reshape(shape)
        p = softmax(session.run(None, {session.get_inputs()[0].name: x})[0][0].astype(np.float64))
        value, confidence = numbers(p, w) if w.output == "number" else (m.classes[p.argmax()], p.max())
        last = int(at[start + w.window_samples - 1])
        said.append((last, None if confidence < w.refuse_below else value, float(confidence)))
    return said


def numbers(p: np.ndarray, w: Window) -> tuple[float, float]:
    """Mean of the bins near the peak, and how much is there."""
    peak = max(range(len(p)), key=lambda i: p[i])
    near = [i for i in range(len(p)) if abs(i - peak) <= w.reach]
    mass = math.fsum(p[i] for i in near)
    return math.fsum(p[i] * w.values[i] for i in near) / mass, mass


@KINDS
@pytest.mark.parametrize("size", [1, 7, 64, 500, 10**6])
def test_readings_equal_a_batch_of_windows_however_the_stream_is_cut(
    window_bundles: Bundles, engine: OnnxEngine, kind: str, size: int
) -> None:
    bundle, source = window_bundles[kind], tiny_windows.KINDS[kind]().given
    wanted = batch(bundle, source.samples, source.rate_hz)
    pipeline = opened(bundle, engine, source.rate_hz)
    given = feed(pipeline, source.samples, size=size) + pipeline.finish()
    assert len(wanted) > 8
    assert [r.sample for r in given] == [sample for sample, _, _ in wanted]
    assert [r.t_s for r in given] == [sample / source.rate_hz for sample, _, _ in wanted]
    for reading, (_, value, confidence) in zip(given, wanted, strict=True):
        assert reading.name == bundle.manifest.window.reading
        assert reading.confidence == pytest.approx(confidence, abs=1e-5)
        assert reading.value == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value)


@pytest.mark.parametrize("kind", ["rate", "table"])
def test_the_tiny_models_refuse_some_readings_and_give_others(
    window_bundles: Bundles, engine: OnnxEngine, kind: str
) -> None:
    source, w = tiny_windows.KINDS[kind]().given, window_bundles[kind].manifest.window
    readings = golden.readings_of(window_bundles[kind], engine, source.samples, source.rate_hz)
    assert {r.value is None for r in readings} == {True, False}
    assert all((r.value is None) == (r.confidence < w.refuse_below) for r in readings)


@pytest.mark.parametrize("rate_hz", [125.0, 360.0, 130.0, 1000.0])
def test_at_any_source_rate_the_last_window_is_read(
    window_bundles: Bundles, engine: OnnxEngine, rate_hz: float
) -> None:
    """Also where the last sample at the model's rate lies between the last two of the source."""
    bundle = window_bundles["rhythm"]
    for more in range(5):
        n = round(5.0 * rate_hz) + more
        x = tiny_windows.ecg(6.0, rate_hz).samples[:n]
        pipeline = opened(bundle, engine, rate_hz)
        readings = feed(pipeline, x) + pipeline.finish()
        assert [r.sample for r in readings] == [sample for sample, _, _ in batch(bundle, x, rate_hz)]
        assert len(readings) == 2
        assert pipeline.ledger.is_balanced


# Gaps and missing values.


def test_no_window_holds_a_sample_that_is_not_a_number(window_bundles: Bundles, engine: OnnxEngine) -> None:
    bundle, x = window_bundles["rate"], tiny_windows.rate().given.samples.copy()
    x[400:403, 1] = np.nan  # one channel of two is enough
    pipeline = opened(bundle, engine, 50.0)
    given = feed(pipeline, x) + pipeline.finish()
    wanted = [s for s, _, _ in batch(bundle, x[:400], 50.0)] + [403 + s for s, _, _ in batch(bundle, x[403:], 50.0)]
    assert [r.sample for r in given] == wanted
    # Windows of 150 every 70: 150 + 3 * 70 = 360 of 400 and 150 + 6 * 70 = 570 of 597 were in one.
    assert pipeline.ledger.to_json() == {
        "name": "ledger", "received": 1000, "scored": 930, "dropped": 70, "gap": 0
    }  # fmt: skip


def test_a_gap_of_the_counter_starts_a_new_window(window_bundles: Bundles, engine: OnnxEngine) -> None:
    bundle, x = window_bundles["rate"], tiny_windows.rate().given.samples
    pipeline = opened(bundle, engine, 50.0)
    given = feed(pipeline, x[:149]) + feed(pipeline, x[:150], start=1000) + pipeline.finish()
    assert [r.sample for r in given] == [1149]
    ledger = pipeline.ledger
    assert (ledger.received, ledger.gap, ledger.scored, ledger.dropped) == (1150, 851, 150, 149)


def test_missing_values_go_into_a_graph_that_takes_them_and_infinite_ones_do_not(
    window_bundles: Bundles, engine: OnnxEngine
) -> None:
    x = tiny_windows.table().given.samples.copy()
    x[5] = np.nan
    x[7, 3] = np.inf
    pipeline = opened(window_bundles["table"], engine, 1.0)
    given = feed(pipeline, x, size=9) + pipeline.finish()
    assert [r.sample for r in given] == [i for i in range(60) if i != 7]
    assert given[5].quality == 0.0
    ledger = pipeline.ledger
    assert (ledger.received, ledger.scored, ledger.dropped, ledger.gap) == (60, 59, 1, 0)


def test_many_stretches_too_short_for_a_window_are_no_broken_sensor(
    window_bundles: Bundles, engine: OnnxEngine
) -> None:
    x = tiny_windows.rate().given.samples
    pipeline = opened(window_bundles["rate"], engine, 50.0)
    for i in range(12):
        assert feed(pipeline, x[:100], start=200 * i) == []
    pipeline.finish()
    assert pipeline.ledger.dropped == 1200
    assert pipeline.ledger.is_balanced


@QUICK
@given(data=st.data(), kind=st.sampled_from(list(tiny_windows.KINDS)), first=st.integers(0, 5000))
def test_the_ledger_balances_whatever_is_lost(
    data: st.DataObject, kind: str, first: int, window_bundles: Bundles, engine: OnnxEngine
) -> None:
    """Every position is in a window, could not be, or never came."""
    source, bundle = tiny_windows.KINDS[kind]().given, window_bundles[kind]
    x = np.nan_to_num(source.samples)
    pipeline = opened(bundle, engine, source.rate_hz)
    counter, gap, bad = first, 0, 0
    for i, n in enumerate(data.draw(st.lists(st.integers(1, 900), min_size=1, max_size=6))):
        samples = x[:n].copy()
        for begin in data.draw(st.lists(st.integers(0, 899), max_size=2)):
            samples[begin : begin + 1, -1] = np.inf
        bad += int(np.isinf(samples).any(axis=1).sum())
        jump = data.draw(st.sampled_from([0, 0, 1, 1000])) if i else 0
        counter, gap = counter + jump, gap + jump
        readings = pipeline.feed(Block(start=counter, samples=samples))
        assert all(first <= r.sample < counter + len(samples) for r in readings)
        counter += len(samples)
    pipeline.finish()
    ledger = pipeline.ledger
    assert ledger.is_balanced
    assert (ledger.received, ledger.gap) == (counter - first, gap)
    assert ledger.dropped >= bad


# What is said.


WINDOW = Window(reading="x", channels=("a",), rate_hz=1.0, window_samples=1)
NUMBER = replace(WINDOW, output="number", values=(10.0, 20.0, 30.0, 40.0), reach=1, refuse_below=0.9)


def test_a_number_is_the_mean_near_the_peak_and_its_confidence_the_mass_there() -> None:
    """By hand: of 0.1, 0.2, 0.6, 0.1 the peak is the third; (0.2 * 20 + 0.6 * 30 + 0.1 * 40) / 0.9."""
    value, confidence = NUMBER.read(np.log(np.array([0.1, 0.2, 0.6, 0.1], np.float32)), ())
    assert confidence == pytest.approx(0.9, abs=1e-6)
    value, _ = replace(NUMBER, refuse_below=0.89).read(np.log(np.array([0.1, 0.2, 0.6, 0.1], np.float32)), ())
    assert value == pytest.approx(26.0 / 0.9, abs=1e-4)


def test_a_reading_that_is_not_sure_has_no_value_but_says_how_sure_it_is() -> None:
    p = np.array([0.3, 0.3, 0.3, 0.1], np.float32)
    assert NUMBER.read(np.log(p), ())[0] is None
    assert NUMBER.read(np.log(p), ())[1] == pytest.approx(0.6, abs=1e-6)  # the first of equal peaks has one neighbour
    sure = replace(WINDOW, refuse_below=0.31)
    assert sure.read(np.log(p), ("a", "b", "c", "d")) == (None, pytest.approx(0.3, abs=1e-6))
    assert replace(sure, refuse_below=0.29).read(np.log(p), ("a", "b", "c", "d"))[0] == "a"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_numbers_say_nothing(bad: float) -> None:
    assert WINDOW.read(np.array([1.0, bad], np.float32), ("a", "b")) == (None, 0.0)


def test_training_and_device_read_numbers_by_one_function() -> None:
    assert bins.expected is logits.expected


def test_probabilities_are_scipys() -> None:
    x = np.random.default_rng(0).normal(0.0, 30.0, (20, 5)).astype(np.float32)
    assert np.allclose(logits.probabilities(x), softmax(x.astype(np.float64), axis=1), rtol=1e-12, atol=0)


def test_quality_is_the_share_of_pieces_that_move_and_stay_in_range() -> None:
    """By hand: 20 samples of 2 channels at 20 Hz are 5 pieces of 4 each."""
    w = replace(WINDOW, channels=("a", "b"), rate_hz=20.0, window_samples=20, least_movement=0.5, largest=3.0)
    x = np.tile(np.array([[0.0], [1.0]], np.float32), (10, 2))
    assert w.quality(x) == 1.0
    x[0:4, 0] = 0.2  # does not move
    x[9, 0] = -3.5  # leaves the range
    x[17, 1] = np.nan
    assert w.quality(x) == pytest.approx(7 / 10)
    assert replace(w, least_movement=0.0, largest=None).quality(x) == pytest.approx(9 / 10)


def test_each_reading_tells_the_quality_of_its_own_window(window_bundles: Bundles, engine: OnnxEngine) -> None:
    """Counted piece by piece over the windows that numpy cuts; 3 s in the middle do not move."""
    bundle = window_bundles["rhythm"]
    w, hop = bundle.manifest.window, bundle.manifest.hop_samples
    x = tiny_windows.ecg(16.0, 125.0).samples
    x[750:1125] = x[750]
    y = np.concatenate(
        [b.samples for b in Conditioner(tiny_windows.Conditioning(), 125.0).feed(Block(start=0, samples=x))]
    )
    wanted = []
    for start in range(0, len(y) - w.window_samples + 1, hop):
        pieces = y[start : start + w.window_samples, 0].reshape(20, 25)
        wanted.append(np.mean([p.max() - p.min() >= 0.005 and np.abs(p).max() <= 15.0 for p in pieces]))
    pipeline = opened(bundle, engine, 125.0)
    assert [r.quality for r in feed(pipeline, x, size=60) + pipeline.finish()] == pytest.approx(wanted)
    assert min(wanted) < 0.9 < max(wanted)
    assert wanted[0] == wanted[-1] == 1.0


def test_every_channel_is_conditioned_as_if_it_were_alone() -> None:
    x = tiny_windows.ecg(4.0, 360.0, n_channels=2).samples
    both = EachConditioned(tiny_windows.Conditioning(), 360.0, 2)
    given = np.concatenate([b.samples for b in [*both.feed(Block(start=0, samples=x)), *both.finish(0.1)]])
    for i in range(2):
        alone = Conditioner(tiny_windows.Conditioning(), 360.0)
        one = [*alone.feed(Block(start=0, samples=x[:, i : i + 1])), *alone.finish(0.1)]
        assert np.array_equal(given[:, i], np.concatenate([b.samples[:, 0] for b in one]))


def test_quality_of_a_row_is_the_share_of_values_that_are_there() -> None:
    w = replace(WINDOW, channels=tuple("abcd"), missing="in graph")
    assert w.quality(np.array([[1.0, np.nan, 3.0, np.nan]], np.float32)) == 0.5


def test_a_number_and_a_class_as_json() -> None:
    number = Reading(name="respiration_rate", sample=3, t_s=1.5, value=14.23456, confidence=0.91, quality=1.0)
    assert number.to_json() == {
        "name": "respiration_rate", "sample": 3, "t_s": 1.5, "value": 14.2346, "confidence": 0.91, "quality": 1.0
    }  # fmt: skip
    assert replace(number, value=None).to_json()["value"] is None
    assert replace(number, name="rhythm", value="A").to_json()["value"] == "A"


# Refusals.


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (StreamSpec(rate_hz=50.0, unit="mV", channels=("a", "b")), "stream is in mV; the bundle tiny-rate wants NU"),
        (StreamSpec(rate_hz=50.0, unit="NU", channels=("a",)), r"stream has 1 channels \(a\); the bundle tiny-rate wa"),
        (
            StreamSpec(rate_hz=60.0, unit="NU", channels=("a", "b")),
            "stream rate is 60 Hz; the bundle tiny-rate wants 50",
        ),
    ],
)
def test_a_stream_that_does_not_suit_is_refused(
    window_bundles: Bundles, engine: OnnxEngine, spec: StreamSpec, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        open_pipeline(window_bundles["rate"], spec, engine)


def test_a_block_of_other_columns_than_the_stream_is_refused(window_bundles: Bundles, engine: OnnxEngine) -> None:
    with pytest.raises(SourceError, match="channels PLETH, RESP: a block has 1 columns; 2 wanted"):
        feed(opened(window_bundles["rate"], engine, 50.0), np.zeros((10, 1), np.float32))


def test_a_stream_of_windows_that_is_mostly_not_numbers_is_refused(window_bundles: Bundles, engine: OnnxEngine) -> None:
    x = np.full((600, 2), np.nan, np.float32)
    with pytest.raises(SourceError, match=r"channels PLETH, RESP: 500 of 500 samples are not numbers"):
        feed(opened(window_bundles["rate"], engine, 50.0), x)
