"""A sensor that calls its own signal bad, and windows without a signal, give no number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.assemble import open_engine, open_pipeline
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.signal import Block, Reading, StreamSpec
from edge_runtime.sensors.protocols import PROTOCOLS
from edge_runtime.sensors.sensor_block import SensorBlock
from edge_runtime.sensors.synthetic import simulate
from edge_runtime.vitals.sensor_word import BeatWord, SensorWord

BUNDLES = Path(__file__).parents[2] / "deploy" / "bundles"
RATE_HZ = 250.0


def beats(quality: np.ndarray | None, size: int = 250) -> list[Reading]:
    """Of 30 s of a synthetic heart whose sensor says so much of each sample."""
    heart = simulate(30, rate_hz=RATE_HZ, seed=3).samples[:, :1]
    pipeline = open_pipeline(open_bundle(BUNDLES / "ecg-beats"), StreamSpec(rate_hz=RATE_HZ), open_engine())
    found = []
    for i in range(0, len(heart), size):
        part = heart[i : i + size]
        more = None if quality is None else quality[i : i + size]
        found += pipeline.feed(SensorBlock(start=i, samples=part, contact=np.ones(len(part), np.bool_), quality=more))
    return found + pipeline.finish()


@pytest.mark.parametrize("size", [10, 250, 7500])
def test_what_the_sensor_calls_bad_has_no_class_and_only_that(size: int) -> None:
    quality = np.ones(7500, np.float32)
    quality[2500:5000] = 0.0
    found, plain = beats(quality, size), beats(None)
    assert [r.sample for r in found] == [r.sample for r in plain]
    for said, free in zip(found, plain, strict=True):
        # The second before a beat: all good, all bad, or some of both.
        share = float(np.mean(quality[max(0, said.sample - 249) : said.sample + 1]))
        assert said.value == (free.value if share >= 0.25 else None)
        assert said.quality == pytest.approx(min(share, free.quality or 0.0), abs=1e-6)
    assert sum(r.value is None for r in found) >= 10


def test_a_middling_signal_lowers_the_quality_and_takes_no_class_away() -> None:
    found = beats(np.full(7500, 0.5, np.float32))
    assert all(r.value is not None and r.quality is not None and r.quality <= 0.5 for r in found)


def test_blocks_without_a_word_change_nothing() -> None:
    word, reading = SensorWord(250.0, 1.0), Reading(name="beat", sample=100, t_s=0.4, value="N", quality=0.9)
    word.watch(Block(start=0, samples=np.zeros((200, 1), np.float32)))
    assert word.judged([reading]) == [reading]


def test_what_was_said_long_ago_is_forgotten() -> None:
    word = SensorWord(250.0, 1.0)
    for i in range(1000):
        word.watch(SensorBlock(start=250 * i, samples=np.zeros((250, 1), np.float32), quality=np.ones(250, np.float32)))
    assert len(word._parts) < 10


@pytest.mark.parametrize(("poor", "has_value"), [(False, True), (True, False)])
def test_an_oximeter_that_says_artifact_gives_no_breathing_rate(poor: bool, has_value: bool) -> None:
    """Nonin format 2, status bit 20 (artifact): the same pulse wave, once called good and once not."""
    decoder = PROTOCOLS["nonin2"].decoder("channel=PLETH")
    t = np.arange(75 * 70) / 75.0
    wave = np.round(128 + (60 + 20 * np.sin(2 * np.pi * 0.25 * t)) * np.sin(2 * np.pi * 1.2 * t))
    rows = np.stack([wave, np.full_like(t, 97.0), np.full_like(t, 72.0)], axis=1).astype(np.float32)
    frames = np.frombuffer(PROTOCOLS["nonin2"].encode(rows, 0), np.uint8).reshape(-1, 5).copy()
    if poor:
        frames[:, 1] |= 0x20
        frames[:, 4] = frames[:, :4].sum(axis=1)
    bundle = open_bundle(BUNDLES / "ppg-respiration")
    spec = StreamSpec(rate_hz=75.0, unit=bundle.manifest.unit, channels=("PLETH",))
    pipeline = open_pipeline(bundle, spec, open_engine())
    found: list[Reading] = []
    for block in decoder.feed(frames.tobytes()):
        assert isinstance(block, SensorBlock)
        scaled = (block.samples - 128) / 100
        found += pipeline.feed(
            SensorBlock(start=block.start, samples=scaled, contact=block.contact, quality=block.quality)
        )
    assert len(found) > 5
    assert any(r.value is not None for r in found) == has_value


@pytest.mark.parametrize("bundle", ["ppg-respiration", "ecg-rhythm"])
def test_a_flat_line_has_neither_a_rate_nor_a_rhythm(bundle: str) -> None:
    opened = open_bundle(BUNDLES / bundle)
    m = opened.manifest
    channel = "PLETH" if bundle == "ppg-respiration" else "ECG"
    pipeline = open_pipeline(opened, StreamSpec(rate_hz=125.0, unit=m.unit, channels=(channel,)), open_engine())
    found = pipeline.feed(Block(start=0, samples=np.full((125 * 90, 1), 0.7, np.float32)))
    assert len(found) > 2
    assert all(r.value is None and r.quality == 0.0 for r in found)


def test_a_beat_found_on_both_sides_of_a_gap_is_said_once() -> None:
    word = BeatWord(250.0, 5.0)
    beats = [Reading(name="beat", sample=s, t_s=s / 250.0, value="N") for s in (1000, 1000, 1009, 1040, 1078, 1300)]
    said = [r.sample for one in beats for r in word.judged([one])]
    assert said == [1000, 1040, 1300]  # 0.16 s apart at least
    word.reset()
    assert word.judged(beats[:1]) == beats[:1]
