"""Artificial premature beats: earlier, labelled, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_models

from host_tools.data.premature import Premature, with_premature_beats
from host_tools.data.records import EcgRecord

N, S, V = 0, 1, 2
MANY = Premature(share=0.3, run_share=0.3)


def regular(*, seconds: int = 120) -> EcgRecord:
    """A smooth signal whose second lead says which sample it is; a beat every 0.8 s, a few of them V."""
    n = seconds * 360
    t = np.arange(n) / 360.0
    beats = np.arange(300, n - 300, 288)
    classes = np.zeros(len(beats), np.int64)
    classes[40:60:4] = V
    return EcgRecord(
        name="regular",
        rate_hz=360.0,
        lead_names=("MLII", "V1"),
        leads=np.stack([np.sin(2 * np.pi * t / 0.8), np.arange(n) / 1000.0], axis=1).astype(np.float32),
        beat_samples=beats,
        beat_classes=classes,
        masked=np.array([[beats[20], beats[25]], [beats[-2], n]]),
    )


@pytest.fixture
def record() -> EcgRecord:
    return regular()


@pytest.fixture
def changed(record: EcgRecord) -> EcgRecord:
    return with_premature_beats(record, np.random.default_rng(0), MANY)


def test_only_normal_beats_become_premature_and_all_beats_stay(record: EcgRecord, changed: EcgRecord) -> None:
    assert len(changed.beat_samples) == len(record.beat_samples)
    other = changed.beat_classes != record.beat_classes
    assert other.sum() > 15
    assert (record.beat_classes[other] == N).all()
    assert (changed.beat_classes[other] == S).all()


def test_they_come_early_and_the_others_on_time(record: EcgRecord, changed: EcgRecord) -> None:
    rr, before = np.diff(changed.beat_samples), np.diff(record.beat_samples)
    made = changed.beat_classes[1:] == S
    assert (rr[~made] == before[~made]).all()
    assert (rr[made] <= (1 - 0.12) * before[made] + 1).all()
    assert (rr[made] >= MANY.earliest * before[made] - 1).all()
    assert len(record.leads) - len(changed.leads) == (before - rr).sum()


def test_every_beat_still_lies_on_its_own_samples(record: EcgRecord, changed: EcgRecord) -> None:
    np.testing.assert_array_equal(changed.leads[changed.beat_samples], record.leads[record.beat_samples])


def test_masked_stretches_move_along(record: EcgRecord, changed: EcgRecord) -> None:
    assert changed.masked[0].tolist() == [changed.beat_samples[20], changed.beat_samples[25]]
    assert changed.masked[1].tolist() == [changed.beat_samples[-2], len(changed.leads)]


def test_joints_are_continuous(record: EcgRecord, changed: EcgRecord) -> None:
    """A fade over 0.04 s adds at most the signal's range over its 14 samples; a bare cut would add the range."""
    step = np.abs(np.diff(record.leads[:, 0])).max()
    assert np.abs(np.diff(changed.leads[:, 0])).max() < 3 * step + 2.0 / 14


def test_the_record_it_was_made_from_is_as_it_was(record: EcgRecord) -> None:
    wanted = regular()
    with_premature_beats(record, np.random.default_rng(0), MANY)
    np.testing.assert_array_equal(record.leads, wanted.leads)
    np.testing.assert_array_equal(record.beat_classes, wanted.beat_classes)


def test_the_same_seed_makes_the_same_record(record: EcgRecord) -> None:
    one, two, other = (with_premature_beats(record, np.random.default_rng(s), MANY) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.leads, two.leads)
    assert not np.array_equal(one.beat_classes, other.beat_classes)


def test_an_irregular_rhythm_is_left_alone(record: EcgRecord) -> None:
    shift = np.random.default_rng(0).integers(-90, 90, len(record.beat_samples))
    irregular = replace(record, beat_samples=np.sort(record.beat_samples + shift))
    changed = with_premature_beats(irregular, np.random.default_rng(0), Premature(share=1.0))
    assert (changed.beat_classes == S).sum() <= 2


def test_labels_of_a_whole_patient_grow() -> None:
    record = tiny_models.records()[0]
    changed = with_premature_beats(record, np.random.default_rng(1), MANY)
    assert (changed.beat_classes == S).sum() > (record.beat_classes == S).sum() + 2
    assert (changed.beat_classes == V).sum() == (record.beat_classes == V).sum()
    assert changed.leads.dtype == np.float32
