"""What a bad signal says: nothing. Noise, rails, flat lines, bad contact, made up and recorded, on shipped models."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.assemble import open_engine, open_pipeline
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.signal import Block, Reading, StreamSpec
from edge_runtime.sensors.sensor_block import SensorBlock
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.vitals.support import BeatSupport

BUNDLES = Path(__file__).parents[2] / "deploy" / "bundles"
RATE_HZ = 250.0
needs_data = pytest.mark.skipif(
    "VITALEDGE_DATA" not in os.environ, reason="needs VITALEDGE_DATA, the folder that holds mitdb/ and nstdb/"
)


def readings(
    samples: np.ndarray, rate_hz: float = RATE_HZ, bundle: str = "ecg-beats", unit: str = "mV"
) -> list[Reading]:
    """Of one channel, in blocks of a second."""
    opened = open_bundle(BUNDLES / bundle)
    channel = "PLETH" if bundle == "ppg-respiration" else "ECG"
    pipeline = open_pipeline(opened, StreamSpec(rate_hz=rate_hz, unit=unit, channels=(channel,)), open_engine())
    column, size, out = np.asarray(samples, np.float32).reshape(-1, 1), round(rate_hz), []
    for i in range(0, len(column), size):
        out += pipeline.feed(Block(start=i, samples=column[i : i + size]))
    return out + pipeline.finish()


def between(found: list[Reading], begin_s: float, end_s: float) -> list[Reading]:
    return [r for r in found if begin_s <= r.t_s < end_s]


def with_class(found: list[Reading]) -> list[Reading]:
    return [r for r in found if r.value is not None]


BAD = {
    "white noise": lambda rng, n: rng.normal(0.0, 1.0, n),
    "a wandering electrode": lambda rng, n: np.cumsum(rng.normal(0.0, 0.06, n)),
    "a converter between its rails": lambda rng, n: np.where(np.sin(np.arange(n) / RATE_HZ * 2.5) > 0, 3.0, -3.0),
    "out of range": lambda rng, n: 40.0 * np.sin(np.arange(n) / RATE_HZ * 9.0) + rng.normal(0.0, 5.0, n),
    "a flat line": lambda rng, n: np.zeros(n),
    "a stuck converter": lambda rng, n: np.full(n, 12.3),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_stretch_has_no_beats_and_the_good_ones_around_it_keep_theirs(name: str) -> None:
    """20 s of a synthetic heart, 20 s of something else, 20 s of the heart again."""
    heart = simulate(60, rate_hz=RATE_HZ, seed=3)
    samples = heart.samples[:, 0].copy()
    samples[5000:10_000] = BAD[name](np.random.default_rng(1), 5000)
    found = readings(samples)
    # The first three are not yet known to be noise: too few to compare with. A second for the edges, six good beats.
    assert len(with_class(between(found, 21.0, 39.0))) <= 3
    for begin_s, end_s in ((0.0, 19.0), (46.0, 59.0)):
        beats = [s for s in heart.beat_samples if begin_s <= s / RATE_HZ < end_s]
        assert len(with_class(between(found, begin_s, end_s))) >= len(beats) - 1
    assert all(r.confidence is None and r.quality == 0.0 for r in found if r.value is None)


@needs_data
@pytest.mark.parametrize("name", ["bw", "ma"])
def test_recorded_noise_without_a_heart_has_hardly_a_beat(name: str) -> None:
    """NSTDB: baseline wander and muscle, two minutes each; the model alone finds dozens."""
    import wfdb

    noise = wfdb.rdrecord(str(Path(os.environ["VITALEDGE_DATA"]) / "nstdb" / name), sampto=43_200).p_signal[:, 0]
    found = readings(3.0 * noise, 360.0)
    assert len(with_class(found)) <= 6


@needs_data
@pytest.mark.parametrize("name", ["100", "119", "208", "233"])
def test_recorded_hearts_with_many_forms_of_beats_keep_their_classes(name: str) -> None:
    """MIT-BIH, five minutes: ventricular beats, fusions, couplets; at most one in 200 may be doubted."""
    import wfdb

    record = wfdb.rdrecord(str(Path(os.environ["VITALEDGE_DATA"]) / "mitdb" / name), sampto=108_000)
    found = readings(record.p_signal[:, record.sig_name.index("MLII")], 360.0)
    assert len(found) > 300
    assert len(with_class(found)) >= 0.995 * len(found)


@needs_data
def test_muscle_noise_over_a_heart_makes_beats_unknown_only_while_it_lasts() -> None:
    import wfdb

    root = Path(os.environ["VITALEDGE_DATA"])
    record = wfdb.rdrecord(str(root / "mitdb" / "100"), sampto=360 * 120)
    ecg = record.p_signal[:, record.sig_name.index("MLII")].copy()
    noise = wfdb.rdrecord(str(root / "nstdb" / "ma"), sampto=360 * 40).p_signal[:, 0]
    ecg[360 * 40 : 360 * 80] += 8.0 * noise  # loud in its first 22 s
    found = readings(ecg, 360.0)
    noisy, calm = between(found, 45.0, 62.0), [*between(found, 0.0, 39.0), *between(found, 86.0, 119.0)]
    assert len(with_class(noisy)) < 0.5 * len(noisy)
    assert len(with_class(calm)) == len(calm) > 60


def test_resemblance_is_numpys_correlation_of_slopes() -> None:
    """Seven beats of chance; the answer by brute force over shifts of the newer one."""
    rate, half = 125.0, 15
    x = np.random.default_rng(5).normal(0.0, 1.0, 1600).astype(np.float32)
    at = [100 + 200 * i for i in range(7)]

    def slope(middle: int) -> np.ndarray:
        return np.array([x[i + 1] - x[i - 1] for i in range(middle - half, middle + half + 1)])

    own = [
        max(np.corrcoef(slope(b + shift), slope(a))[0, 1] for a in at[:i] for shift in range(-2, 3))
        for i, b in enumerate(at)
        if i
    ]
    stage = BeatSupport(rate, 0.975)
    for i, position in enumerate(at):
        holds = stage.holds(position, position + 100, lambda begin, end: x[begin:end])
        assert holds == (i < 4 or np.median(own[max(0, i - 6) : i]) >= 0.75)
        assert list(stage._own) == pytest.approx(own[max(0, i - 6) : i], abs=1e-4)


def test_a_single_beat_of_another_form_is_no_noise() -> None:
    shapes = [np.hanning(31), -2.0 * np.hanning(31) * np.linspace(-1, 1, 31)]
    x = np.random.default_rng(1).normal(0.0, 0.01, 2000).astype(np.float32)
    at = [100 + 100 * i for i in range(15)]
    for i, position in enumerate(at):
        x[position - 15 : position + 16] += shapes[i == 9]
    stage = BeatSupport(125.0, 0.975)
    assert all(stage.holds(p, p + 90, lambda begin, end: x[begin:end]) for p in at)


def test_without_contact_there_is_no_beat_although_the_sensor_goes_on_sending() -> None:
    heart = simulate(30, rate_hz=RATE_HZ, seed=3).samples[:, :1].copy()
    contact = np.ones(len(heart), np.bool_)
    contact[2500:5000] = False
    heart[~contact] = np.nan  # as decoders do
    pipeline = open_pipeline(open_bundle(BUNDLES / "ecg-beats"), StreamSpec(rate_hz=RATE_HZ), open_engine())
    found = []
    for i in range(0, len(heart), 250):
        found += pipeline.feed(SensorBlock(start=i, samples=heart[i : i + 250], contact=contact[i : i + 250]))
    found += pipeline.finish()
    assert between(found, 10.0, 20.0) == []
    assert len(between(found, 0.0, 10.0)) > 9
    assert len(between(found, 20.0, 30.0)) > 9
    assert (pipeline.ledger.dropped >= 2500, pipeline.ledger.is_balanced) == (True, True)
