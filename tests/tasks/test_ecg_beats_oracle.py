"""Beats at given positions: what an example knows, how beats are divided, scored and exported."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.rhythm import N_FEATURES, RhythmContext
from host_tools.data import mitdb
from host_tools.data.beat_windows import (
    AFTER,
    BEFORE,
    LOOK_AHEAD_S,
    N_CONTEXT,
    SIGNALS,
    WINDOW,
    beat_windows,
)
from host_tools.data.examples import IGNORED
from host_tools.export.plain import export_plain
from host_tools.measure.logits import graph_logits, network_logits
from host_tools.nets.beat_windows import STUDENT, TEACHER, BeatWindowNet
from host_tools.tasks import ecg_beats_oracle
from host_tools.tasks.ecg_beats_oracle import EcgBeatsOracle, examples_of
from host_tools.tasks.task import Examples, check_folds


@pytest.fixture
def signal() -> tuple[np.ndarray, np.ndarray]:
    """Noise with taller beats at uneven distances, and where they are."""
    rng = np.random.default_rng(0)
    beats = 60.0 + np.cumsum(rng.uniform(60, 160, 80))
    x = 0.1 * rng.standard_normal(int(beats[-1]) + 200)
    for b in beats:
        x[round(b) - 4 : round(b) + 5] += rng.uniform(0.5, 1.5) * np.hanning(9)
    return x.astype(np.float32), beats


def test_the_first_channel_is_the_window_over_the_mean_height_so_far(signal: tuple[np.ndarray, np.ndarray]) -> None:
    x, beats = signal
    made = beat_windows(x, beats)
    at = np.round(beats).astype(int)
    heights = [np.ptp(x[a - 8 : a + 9]) for a in at]
    for i in (1, 5, 11):  # up to twelve beats the running mean is the plain one
        window = x[at[i] - BEFORE : at[i] + AFTER]
        np.testing.assert_allclose(made[i, 0], np.clip(window / np.mean(heights[:i]), -4, 4), rtol=1e-4)
        mean = np.mean([x[a - BEFORE : a + AFTER] for a in at[:i]], axis=0)
        np.testing.assert_allclose(made[i, 1], np.clip((window - mean) / np.mean(heights[:i]), -4, 4), atol=1e-5)


def test_after_many_beats_the_template_is_an_exponential_mean(signal: tuple[np.ndarray, np.ndarray]) -> None:
    x, beats = signal
    made = beat_windows(x, beats)[60].astype(np.float64)
    cut = [x[round(b) - BEFORE : round(b) + AFTER].astype(np.float64) for b in beats]
    mean = np.mean(cut[:12], axis=0)
    for w in cut[12:60]:
        mean = 11 / 12 * mean + 1 / 12 * w
    scale = (cut[60] * made[0]).sum() / (cut[60] ** 2).sum()
    np.testing.assert_allclose(made[1], scale * (cut[60] - mean), atol=1e-5)


def test_the_long_template_holds_beats_after_long_intervals_alone() -> None:
    """Beats of height 1 after 0.6 s, two of five of height 2 after 1 s: the long template's height becomes 2."""
    steps = np.tile([75, 75, 125, 75, 125], 30)
    beats = 100.0 + np.cumsum(steps)
    x = np.zeros(int(beats[-1]) + 200, np.float32)
    x[beats.astype(int)] = np.where(steps == 125, 2.0, 1.0)
    made = beat_windows(x, beats)[-1]
    unit = made[0, BEFORE] / 2.0  # the last beat is a tall one
    assert made[2, BEFORE] / unit == pytest.approx(0.0, abs=0.05)
    assert made[1, BEFORE] / unit > 0.5


def test_rhythm_features_are_those_of_the_device_fed_beat_by_beat(signal: tuple[np.ndarray, np.ndarray]) -> None:
    x, beats = signal
    made = beat_windows(x, beats)
    context = RhythmContext(LOOK_AHEAD_S)
    seconds = [*(beats / 125).tolist(), None]
    for i in range(len(beats)):
        row = context.features(seconds[i], seconds[i + 1])
        np.testing.assert_allclose(made[i, SIGNALS, :N_FEATURES], np.clip(row, -4, 4), rtol=1e-5, atol=1e-6)
    assert not made[:, SIGNALS, N_CONTEXT:].any()


def test_rank_and_quantiles_are_numpys_over_the_recent_intervals(signal: tuple[np.ndarray, np.ndarray]) -> None:
    x, beats = signal
    made = beat_windows(x, beats)
    i = 70
    rr = np.diff(beats)[: i - 1] / 125  # those that ended before beat i
    own = (beats[i] - beats[i - 1]) / 125
    middle = np.quantile(rr, 0.5, method="lower")
    wanted = [*(3 * np.log(rr[::-1][:6] / middle))]
    wanted += [3 * np.log(own / np.quantile(rr, q, method="lower")) for q in (0.25, 0.5, 0.75, 0.9)]
    wanted += [2 * np.mean(rr < own - 0.02) - 1]
    np.testing.assert_allclose(made[i, SIGNALS, N_FEATURES : N_FEATURES + 11], wanted, rtol=1e-4, atol=1e-5)


def test_likeness_is_numpys_correlation(signal: tuple[np.ndarray, np.ndarray]) -> None:
    x, beats = signal
    made = beat_windows(x, beats)
    cut = np.stack([x[round(b) - BEFORE : round(b) + AFTER] for b in beats[:9]]).astype(np.float64)
    mean = cut[:8].mean(axis=0)
    qrs, p_wave = slice(BEFORE - 8, BEFORE + 9), slice(BEFORE - 36, BEFORE - 8)
    first = N_FEATURES + 11
    likeness = made[8, SIGNALS, first : first + 7]
    assert likeness[0] == pytest.approx(2 * np.corrcoef(cut[8], mean)[0, 1], abs=1e-5)
    assert likeness[1] == pytest.approx(2 * np.corrcoef(cut[8, qrs], mean[qrs])[0, 1], abs=1e-5)
    assert likeness[3] == pytest.approx(2 * np.corrcoef(cut[8, p_wave], mean[p_wave])[0, 1], abs=1e-5)
    assert likeness[5] == pytest.approx(np.log(np.ptp(cut[8, qrs]) / np.ptp(cut[:8, qrs], axis=1).mean()), abs=1e-5)
    assert likeness[6] == made[7, SIGNALS, first]


@pytest.mark.parametrize("i", [1, 20, 60])
def test_what_comes_later_changes_no_earlier_example(signal: tuple[np.ndarray, np.ndarray], i: int) -> None:
    x, beats = signal
    made = beat_windows(x, beats)
    other = x.copy()
    other[round(beats[i]) + AFTER :] = 7.0
    moved = beats.copy()
    moved[i + 2 :] += 40.0  # the next beat is known, those after it are not
    np.testing.assert_array_equal(beat_windows(other, moved)[: i + 1], made[: i + 1])
    soon = beats[i] / 125 + LOOK_AHEAD_S
    moved[i + 1 :] += 125 * max(0.0, soon - moved[i + 1] / 125) + 1  # beyond the look-ahead all are alike
    later = moved.copy()
    later[i + 1 :] += 300.0
    longer = np.pad(x, (0, 600))
    np.testing.assert_array_equal(beat_windows(longer, moved)[: i + 1], beat_windows(longer, later)[: i + 1])


def test_a_beat_at_or_behind_the_very_edge_has_a_whole_window() -> None:
    """The signal goes on with its last value; a flat one counts as 0.1 mV high, so that 0.2 mV are 2."""
    made = beat_windows(np.full(300, 0.2, np.float32), np.array([0.0, 100.0, 299.0, 301.2]))
    assert made.shape == (4, SIGNALS + 1, WINDOW)
    np.testing.assert_allclose(made[:, 0], 2.0, rtol=1e-6)


# Records and folds.


def test_unscored_beats_are_part_of_the_rhythm_but_no_examples() -> None:
    record = tiny_models.records()[0]
    unknown = record.beat_classes.copy()
    unknown[10] = 4
    whole, fewer = examples_of(record), examples_of(replace(record, beat_classes=unknown))
    assert len(fewer) == len(whole) - 1
    np.testing.assert_array_equal(fewer.inputs, np.delete(whole.inputs, 10, axis=0))
    assert IGNORED not in fewer.labels
    assert set(fewer.groups) == {record.name}


def test_training_has_copies_with_more_premature_beats_and_fewer_normal_ones() -> None:
    record = tiny_models.records()[0]
    plain = np.bincount(examples_of(record).labels, minlength=4)
    parts = ecg_beats_oracle._training(record, 0)
    assert len(parts) == 1 + len(ecg_beats_oracle.COPIES)
    counts = [np.bincount(p.labels, minlength=4) for p in parts]
    assert (counts[0] == plain).all()
    assert all(c[0] < 0.7 * plain[0] for c in counts[1:])
    assert all(c[2] == plain[2] for c in counts)
    assert sum(c[1] for c in counts[1:]) > 2 * plain[1]


def test_no_data_root_is_refused() -> None:
    with pytest.raises(SettingsError, match="VITALEDGE_DATA"):
        EcgBeatsOracle().folds(None)


def test_a_fold_keeps_its_records_apart_and_counts_every_tested_beat() -> None:
    """One short record a side, so that it is quick; the division itself is tested with the reader."""
    root = Path(os.environ.get("VITALEDGE_DATA", ""))
    if not (root / "mitdb").is_dir() or not os.environ.get("VITALEDGE_DATA"):
        pytest.skip("needs VITALEDGE_DATA, a folder with mitdb/")
    split = replace(mitdb.split(), train=("208",), validation=("223",), test=("213",), apart=())
    fold = ecg_beats_oracle.divided(root, "some", split)
    check_folds(EcgBeatsOracle(), [fold])
    wanted = mitdb.load(root, "213").beat_classes
    assert np.bincount(fold.test.labels, minlength=4).tolist() == np.bincount(wanted, minlength=4)[:4].tolist()
    assert set(fold.train.groups) == {"208"}


# Score.


def test_figures_are_sklearns() -> None:
    rng = np.random.default_rng(3)
    logits, labels = rng.standard_normal((500, 4)).astype(np.float32), rng.integers(0, 4, 500)
    examples = Examples(inputs=np.zeros((500, 1, 1), np.float32), labels=labels, groups=labels.astype(str))
    figures, said = EcgBeatsOracle().score(logits, examples), logits.argmax(1)
    assert figures["macro_f1"] == pytest.approx(f1_score(labels, said, labels=[0, 1, 2], average="macro"))
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, said))
    for key, of in (("se", recall_score), ("ppv", precision_score), ("f1", f1_score)):
        np.testing.assert_allclose([figures[f"{key}_{c}"] for c in "NSVF"], of(labels, said, average=None))


def test_a_fusion_beat_called_ventricular_is_a_false_one() -> None:
    figures = ecg_beats_oracle.beat_figures(np.array([2, 2, 0, 1]), np.array([2, 3, 0, 1]), "NSVF")
    assert figures["ppv_V"] == 0.5
    assert figures["se_F"] == 0.0
    assert np.isnan(figures["ppv_F"])


# Augmentation and networks.


def test_augmentation_touches_signals_and_context_each_in_its_way() -> None:
    x = torch.randn(32, SIGNALS + 1, WINDOW, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    task = EcgBeatsOracle()
    one, other = (task.augment(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(x, before)
    assert torch.equal(one, other)
    assert one.shape == x.shape
    assert torch.equal(one[:, SIGNALS, N_CONTEXT:], x[:, SIGNALS, N_CONTEXT:])
    change = one[:, SIGNALS, :N_CONTEXT] - x[:, SIGNALS, :N_CONTEXT]
    assert 0.03 < change.std() < 0.07


def test_noise_is_the_same_in_a_window_and_in_its_differences() -> None:
    """The template is a mean over beats, so that noise of one beat does not reach it."""
    x = torch.zeros(8, SIGNALS + 1, WINDOW)
    y = EcgBeatsOracle().augment(x, torch.Generator().manual_seed(2))
    assert y[:, 0].std() > 0
    assert torch.equal(y[:, 0], y[:, 1])
    assert torch.equal(y[:, 0], y[:, 2])


def test_the_exported_student_says_what_torch_says() -> None:
    torch.manual_seed(0)
    network = BeatWindowNet(STUDENT).eval()
    x = np.random.default_rng(0).standard_normal((5, SIGNALS + 1, WINDOW)).astype(np.float32)
    graph = export_plain(network, (SIGNALS + 1, WINDOW))
    np.testing.assert_allclose(graph_logits(graph, x), network_logits(network, x), atol=1e-4)


def test_the_student_is_small_enough_for_its_file_and_the_teacher_larger() -> None:
    student, teacher = (sum(p.numel() for p in BeatWindowNet(s).parameters()) for s in (STUDENT, TEACHER))
    assert student < 9_000
    assert teacher > 3 * student
