"""A gateway that goes on with another bundle, against pipelines that always had it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import tiny_models
from wearables import MS, alone, assert_equal, cut, ecg

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.signal import Block, Float32Array, Reading, StreamSpec
from edge_runtime.engine.onnx import OnnxEngine
from edge_runtime.gateway import Gateway, Stream
from edge_runtime.slots import Model, open_model


def swapped(
    gateway: Gateway, model: Model, streams: Sequence[Stream], signals: Sequence[Float32Array], at: int
) -> list[list[Reading]]:
    """Readings of streams that are fed 0.1 s at a time, with another model from the given block on."""
    said: dict[Stream, list[Reading]] = {s: [] for s in streams}
    now_ns = 0
    for i in range(0, max(map(len, signals)) // 13 + 1):
        if i == at:
            gateway.swap(model)
        for stream, x in zip(streams, signals, strict=True):
            if len(part := x[13 * i : 13 * i + 13]):
                assert stream.offer(Block(start=13 * i, samples=part))
        now_ns += 104 * MS
        for stream, reading in gateway.step(now_ns):
            said[stream].append(reading)
    for stream in streams:
        stream.end()
    while gateway.streams:
        now_ns += 30 * MS
        for stream, reading in gateway.step(now_ns):
            said[stream].append(reading)
    return list(said.values())


def test_a_bundle_with_the_same_weights_takes_over_unnoticed(
    bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    """Any difference between the swapped and the unswapped run would be a sample lost, or seen twice."""
    gateway = gateway_of(bundle)
    streams = [gateway.join(f"bed{i}", StreamSpec(rate_hz=125.0)) for i in range(5)]
    signals = [ecg(25.0 - 4.0 * i, 125.0, seed=i) for i in range(5)]
    said = swapped(gateway, open_model(bundle, engine, 8), streams, signals, at=115)
    for stream, x, readings in zip(streams, signals, said, strict=True):
        wanted, ledger = alone(bundle, engine, StreamSpec(rate_hz=125.0), cut(x, [13]))
        assert_equal(readings, wanted)
        assert stream.ledger == ledger


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same shape and contract with other weights."""
    student = tiny_models.trained_student(steps=80)
    return tiny_models.packed(student, tmp_path_factory.mktemp("other") / "bundle", is_int8=True).bundle


def test_a_new_bundle_finds_the_beats_it_would_have_found_had_it_always_run(
    int8_bundle: Bundle, other_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle)
    streams = [gateway.join(f"bed{i}", StreamSpec(rate_hz=125.0)) for i in range(3)]
    signals = [ecg(30.0, 125.0, seed=20 + i) for i in range(3)]
    at = 120
    said = swapped(gateway, open_model(other_bundle, engine, 8), streams, signals, at)
    differ = 0
    for stream, x, readings in zip(streams, signals, said, strict=True):
        boundary, m = 13 * at, int8_bundle.manifest
        # A peak is certain ten frames behind it, at most a hop later than its last sample.
        before = [r.sample for r in readings if r.sample < boundary - m.delay_samples - m.hop_samples]
        after = [r.sample for r in readings if r.sample > boundary + m.hop_samples]
        old, new = (
            [r.sample for r in alone(b, engine, StreamSpec(rate_hz=125.0), cut(x, [13]))[0]]
            for b in (int8_bundle, other_bundle)
        )
        assert before == [s for s in old if s < boundary - m.delay_samples - m.hop_samples]
        assert after == [s for s in new if s > boundary + m.hop_samples]
        assert min(len(before), len(after)) > 8
        assert np.all(np.diff([r.sample for r in readings]) > 20)  # no beat twice at the seam
        assert stream.ledger.is_balanced
        assert stream.ledger.scored == len(x)
        differ += old != new
    assert differ  # the two bundles can be told apart


def test_a_bundle_with_another_contract_is_refused_and_the_old_one_goes_on(
    int8_bundle: Bundle, engine: OnnxEngine, gateway_of: Callable[..., Gateway]
) -> None:
    gateway = gateway_of(int8_bundle)
    model = open_model(int8_bundle, engine, 8)
    for change, words in (
        ({"classes": ("N", "S", "V", "X")}, "classes is"),
        ({"unit": "uV"}, "unit is uV; the running bundle has mV"),
        ({"receptive_field_samples": 10**6}, "receptive_field_samples is 1000000"),
    ):
        with pytest.raises(BundleError, match=words):
            gateway.swap(replace(model, manifest=replace(model.manifest, **change)))
    assert gateway.model is not model
