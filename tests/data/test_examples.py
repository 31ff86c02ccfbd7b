"""Conditioned records and the chunks drawn from them."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import islice

import numpy as np
import pytest
import tiny_models
import torch
from tiny_models import CONDITIONING, TIMING

from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.rhythm import N_FEATURES
from edge_runtime.contract.signal import Block
from host_tools.data.examples import (
    IGNORED,
    SETTLING_S,
    Batch,
    ChunkSampler,
    ConditionedRecord,
    Sampling,
    coloured_noise,
    condition,
    with_teacher,
)

RATE_HZ, STRIDE = CONDITIONING.rate_hz, TIMING.stride
PLAIN = Sampling(
    chunk_s=12.0, chunks=6, gain=0.0, noise_probability=0.0, lead_swap=0.0, lead_mix=0.0, rhythm_jitter=0.0,
    frame_jitter=0,
)  # fmt: skip


def drawn(records: tuple[ConditionedRecord, ...], sampling: Sampling, seed: int, n: int) -> list[Batch]:
    return list(islice(iter(ChunkSampler(records, TIMING, RATE_HZ, sampling, seed)), n))


@pytest.fixture
def records() -> tuple[ConditionedRecord, ...]:
    return tiny_models.conditioned()


# Conditioned records.


@pytest.mark.parametrize("stretch", [0.93, 1.0, 1.07])
def test_beats_lie_where_the_conditioned_signal_peaks(stretch: float) -> None:
    """The R peak of a normal simulated beat is its largest sample."""
    record = tiny_models.records()[1]
    found = condition(record, TIMING, CONDITIONING, stretch)
    assert len(found.x) == pytest.approx(len(record.leads) / record.rate_hz / stretch * RATE_HZ, abs=10)
    off = []
    for beat, label in zip(found.beats, found.classes, strict=True):
        if label == 0 and 20 < beat < len(found.x) - 20:
            start = round(beat) - 8
            off.append(start + int(np.abs(found.x[start : start + 17, 0]).argmax()) - beat)
    assert len(off) > 50
    assert abs(np.median(off)) < 1.5
    assert np.percentile(np.abs(off), 95) < 2  # in a few beats noise or the S wave is larger


def test_the_signal_is_what_the_device_would_feed_its_model() -> None:
    record = tiny_models.records()[0]
    stage, rows = Conditioner(CONDITIONING, record.rate_hz), []
    for start in range(0, len(record.leads), 77):
        rows += stage.feed(Block(start=start, samples=record.leads[start : start + 77, :1]))
    np.testing.assert_array_equal(np.concatenate([b.samples[:, 0] for b in rows]), tiny_models.conditioned()[0].x[:, 0])


def test_unknown_beats_and_masked_stretches_are_ignored() -> None:
    record = tiny_models.records()[0]
    classes = record.beat_classes.copy()
    classes[5] = 4
    span = record.beat_samples[[20, 23]]
    found = condition(replace(record, beat_classes=classes, masked=span[None]), TIMING, CONDITIONING)
    assert np.flatnonzero(found.classes == IGNORED).tolist() == [5, 20, 21, 22, 23]
    frames = np.flatnonzero(found.masked)
    first, last = span * RATE_HZ / record.rate_hz / STRIDE
    assert (frames[0], frames[-1]) == (int(first), int(last))
    assert len(frames) == frames[-1] - frames[0] + 1


def test_one_lead_is_enough() -> None:
    record = tiny_models.records()[0]
    found = condition(replace(record, leads=record.leads[:, :1]), TIMING, CONDITIONING)
    assert not found.x[:, 1].any()
    np.testing.assert_array_equal(found.x[:, 0], tiny_models.conditioned()[0].x[:, 0])


# Chunks.


def test_the_same_seed_draws_the_same_batches(records: tuple[ConditionedRecord, ...]) -> None:
    one, two, other = (drawn(records, Sampling(chunk_s=10.0, chunks=4), seed, 3) for seed in (7, 7, 8))
    for a, b in zip(one, two, strict=True):
        for f in fields(Batch):
            left, right = getattr(a, f.name), getattr(b, f.name)
            assert left is right is None or torch.equal(left, right)
    assert not torch.equal(one[0].x, other[0].x)


def test_shapes_and_types_are_as_declared(records: tuple[ConditionedRecord, ...]) -> None:
    for batch in drawn(records, PLAIN, 0, 3):
        frames, beats = 300, batch.beat_frame.shape[1]
        assert batch.x.shape[0] == 6
        assert batch.x.shape[-1] == frames * STRIDE
        assert batch.frame_target.shape == batch.frame_weight.shape == (6, frames)
        assert batch.beat_frame.shape == batch.beat_class.shape == (6, beats)
        assert batch.rhythm.shape == (6, beats, N_FEATURES)
        assert batch.beat_frame.dtype == batch.beat_class.dtype == torch.int64
        assert batch.x.dtype == batch.rhythm.dtype == batch.frame_target.dtype == torch.float32
        assert batch.teacher_beats is batch.teacher_frames is None
        assert 0 <= int(batch.beat_frame.min()) <= int(batch.beat_frame.max()) < frames


def place_of(chunk: np.ndarray, records: tuple[ConditionedRecord, ...]) -> tuple[ConditionedRecord, int]:
    """Which record an undisturbed chunk was cut from, and where."""
    for record in records:
        windows = np.lib.stride_tricks.sliding_window_view(record.x[:, 0], len(chunk))[::STRIDE]
        hits = np.flatnonzero((windows[:, ::97] == chunk[::97]).all(axis=1))
        if len(hits):
            return record, int(hits[0]) * STRIDE
    raise AssertionError("an undisturbed chunk is no part of any record")


def test_an_undisturbed_chunk_is_a_piece_of_a_record_with_its_own_labels(
    records: tuple[ConditionedRecord, ...],
) -> None:
    batch = drawn(records, PLAIN, 1, 1)[0]
    for j in range(6):
        chunk = batch.x[j, 0].numpy()
        record, start = place_of(chunk, records)
        rows = np.flatnonzero((record.beats >= start) & (record.beats < start + len(chunk) - 1))
        known = slice(0, len(rows))
        wanted = np.where(record.beats[rows] < start + SETTLING_S * RATE_HZ, IGNORED, record.classes[rows])
        np.testing.assert_array_equal(batch.beat_class[j, known], wanted)
        assert (batch.beat_class[j, len(rows) :] == IGNORED).all()
        np.testing.assert_allclose(batch.rhythm[j, known], record.rhythm[rows])
        # A frame's score speaks of its last sample; the target is largest at the frame nearest to the R peak.
        position = (record.beats[rows] - start - (STRIDE - 1)) / STRIDE
        inner = (position > 1) & (position < 298)
        assert np.abs(batch.beat_frame[j, known].numpy() - position)[inner].max() <= 0.5
        peaks = batch.frame_target[j].numpy()[batch.beat_frame[j, known].numpy()[inner]]
        assert (peaks >= np.exp(-0.5 * (0.5 / 0.8) ** 2) - 1e-6).all()


def test_the_first_two_seconds_and_masked_frames_have_no_weight(records: tuple[ConditionedRecord, ...]) -> None:
    masked = records[0].masked.copy()
    masked[500:900] = True
    for batch in drawn((replace(records[0], masked=masked),), PLAIN, 2, 3):
        settling = int(SETTLING_S * RATE_HZ) // STRIDE
        assert not batch.frame_weight[:, :settling].any()
        for j in range(6):
            _, start = place_of(batch.x[j, 0].numpy(), records[:1])
            wanted = ~masked[start // STRIDE : start // STRIDE + 300]
            np.testing.assert_array_equal(batch.frame_weight[j, settling:], wanted[settling:].astype(np.float32))


def test_focus_puts_a_beat_of_the_class_into_each_chunk(records: tuple[ConditionedRecord, ...]) -> None:
    for label in (1, 2):
        focus = tuple(1.0 if c == label else 0.0 for c in range(4))
        for batch in drawn(records, replace(PLAIN, focus=focus), 3, 2):
            has = (batch.beat_class == label).any(dim=1)
            assert has.float().mean() > 0.8  # not where the beat lies in the settling time


def test_jitter_moves_frames_by_at_most_what_it_says(records: tuple[ConditionedRecord, ...]) -> None:
    still = drawn(records, PLAIN, 4, 1)[0]
    moved = drawn(records, replace(PLAIN, frame_jitter=2), 4, 1)[0]
    off = (moved.beat_frame - still.beat_frame)[still.beat_class != IGNORED]
    assert set(off.tolist()) == {-2, -1, 0, 1, 2}


def test_soft_labels_travel_with_their_beats_and_frames(records: tuple[ConditionedRecord, ...]) -> None:
    taught = tuple(
        with_teacher(
            r,
            np.repeat(np.arange(len(r.beats), dtype=np.float32)[:, None], 4, axis=1),
            np.arange(len(r.masked), dtype=np.float32),
        )
        for r in records
    )
    batch = drawn(taught, PLAIN, 5, 1)[0]
    assert batch.teacher_beats is not None
    assert batch.teacher_frames is not None
    for j in range(6):
        record, start = place_of(batch.x[j, 0].numpy(), records)
        assert batch.teacher_frames[j, 0] == start // STRIDE
        rows = np.flatnonzero((record.beats >= start) & (record.beats < start + 1499))
        np.testing.assert_array_equal(batch.teacher_beats[j, : len(rows), 2], rows)
    # One record without a teacher, and the batch has none: no half-taught losses.
    assert all(b.teacher_beats is None for b in drawn((taught[0], records[1]), replace(PLAIN, chunks=16), 6, 1))


def test_noise_has_unit_variance() -> None:
    for seed in range(5):
        noise = coloured_noise(5000, np.random.default_rng(seed))
        assert noise.dtype == np.float32
        assert noise.std() == pytest.approx(1.0, abs=1e-3)
