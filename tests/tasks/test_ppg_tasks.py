"""The tasks on pulse wave: references, copies at other speeds, folds of patients, and what a score says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.data import bidmc
from host_tools.data.bidmc import PulseRecord
from host_tools.nets.ppg import Demodulated, Spectra
from host_tools.tasks import ppg_heart_rate, ppg_respiration
from host_tools.tasks.known import open_task
from host_tools.tasks.ppg_heart_rate import PpgHeartRate
from host_tools.tasks.ppg_respiration import PpgRespiration, agreed_rate
from host_tools.tasks.ppg_windows import (
    PARTS,
    SPEEDS,
    balanced_parts,
    conditioned,
    disturbed,
    divided,
    rate_figures,
    windows,
)
from host_tools.tasks.task import Examples, check_folds

ROOT = os.environ.get("VITALEDGE_DATA")
needs_data = pytest.mark.skipif(
    not ROOT or not (Path(ROOT) / "bidmc").is_dir(), reason="VITALEDGE_DATA names no folder with bidmc/"
)
SECONDS = 120
PLAN = ppg_respiration.PLAN


def stay(breaths_per_min: float, *, beats_per_min: float = 80.0, subject: str = "s", seed: int = 0) -> PulseRecord:
    """Two minutes of a pulse whose baseline and amplitude breathe, with both annotators' marks at every breath."""
    rng = np.random.default_rng(seed)
    t = np.arange(SECONDS * bidmc.RATE_HZ) / bidmc.RATE_HZ
    breath = np.sin(2 * np.pi * breaths_per_min / 60 * t + rng.uniform(0, 6))
    beat = np.cos(2 * np.pi * beats_per_min / 60 * t + rng.uniform(0, 6))
    wave = 0.5 + 0.05 * breath + 0.15 * (1 + 0.2 * breath) * beat + 0.01 * rng.standard_normal(len(t))
    marks = np.round(np.arange(0.5, SECONDS, 60 / breaths_per_min) * bidmc.RATE_HZ).astype(np.int64)
    seconds = np.arange(SECONDS + 1)
    return PulseRecord(
        name=subject,
        subject=subject,
        pleth=wave.astype(np.float32),
        breaths=(marks, marks),
        heart_rate=np.full(len(seconds), beats_per_min),
        heart_rate_s=seconds.astype(np.float64),
    )


def classical_logits(x: Float32Array) -> Float32Array:
    """What the networks begin with, said at once: the baseline's spectrum."""
    with torch.no_grad():
        baseline = Demodulated(25, 5)(torch.from_numpy(x).unsqueeze(2))[:, :1]
        power = Spectra(PLAN.samples // 5, 5.0, PLAN.centres)(baseline - baseline.mean(-1, keepdim=True))
    return 3.0 * power[:, 0, 0].numpy()


def test_the_reference_is_the_annotators_mean_where_they_agree() -> None:
    first, second = (np.round(np.arange(0.0, 60.0, s) * bidmc.RATE_HZ).astype(np.int64) for s in (4.0, 3.75))
    record = replace(stay(15.0), breaths=(first, second))
    assert agreed_rate(record, 0.0, 32.0) == pytest.approx((15.0 + 16.0) / 2)
    apart = replace(record, breaths=(first, np.round(np.arange(0.0, 60.0, 3.4) * bidmc.RATE_HZ).astype(np.int64)))
    assert np.isnan(agreed_rate(apart, 0.0, 32.0))  # 15 and 17.6
    assert np.isnan(agreed_rate(replace(record, breaths=(first, first[:1])), 0.0, 32.0))


def test_windows_without_a_reference_are_counted_and_left_out() -> None:
    record = stay(15.0)
    silent = replace(record, breaths=(record.breaths[0], record.breaths[1][record.breaths[1] < 40 * bidmc.RATE_HZ]))
    whole, some = windows(PLAN, [record], agreed_rate), windows(PLAN, [silent], agreed_rate)
    assert whole.n_unscored == 0
    assert len(some.examples) + some.n_unscored == len(whole.examples) == 1 + (120 - 32) // 4 - 1
    assert some.n_unscored > 0
    assert some.examples.values is not None
    assert some.examples.values == pytest.approx(np.full(len(some.examples), 15.0), abs=1e-2)


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_copy_at_another_speed_breathes_and_beats_at_that_multiple(speed: float) -> None:
    made = windows(PLAN, [stay(15.0)], agreed_rate, speed).examples
    assert made.values is not None
    assert made.values == pytest.approx(np.full(len(made), 15.0 * speed), abs=2e-2)
    x = made.inputs[0, 0].astype(np.float64)
    spectrum = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x)), 15000))
    per_min = np.fft.rfftfreq(15000, 1 / 25) * 60
    slow, fast = per_min < 50, per_min >= 50
    assert per_min[slow][spectrum[slow].argmax()] == pytest.approx(15.0 * speed, abs=0.5)
    assert per_min[fast][spectrum[fast].argmax()] == pytest.approx(80.0 * speed, abs=0.5)


def test_a_copy_whose_rate_leaves_the_bins_is_no_example_but_a_record_is() -> None:
    slow = [stay(3.8), stay(15.0)]
    as_is = windows(PLAN, slow, agreed_rate).examples
    copies = windows(PLAN, slow, agreed_rate, 0.9).examples
    assert as_is.values is not None
    assert copies.values is not None
    assert as_is.values.min() < PLAN.centres[0] <= copies.values.min()
    assert as_is.labels[as_is.values.argmin()] == 0


def test_parts_hold_whole_groups_and_differ_by_less_than_the_largest() -> None:
    rng = np.random.default_rng(0)
    sizes = np.concatenate([[200, 90], rng.integers(5, 60, 28)])
    groups = np.repeat([f"g{i}" for i in range(30)], sizes)
    parts = balanced_parts(groups, 5, seed=1)
    assert set(parts) == set(groups)
    load = np.zeros(5)
    for i, size in enumerate(sizes):
        load[parts[f"g{i}"]] += size
    assert np.ptp(load) <= sizes.max()  # greedy: the last group put in went to the smallest part
    assert parts == balanced_parts(groups[::-1], 5, seed=1)


def test_a_group_as_large_as_the_rest_fills_a_part_alone() -> None:
    groups = np.repeat(["large", *(f"g{i}" for i in range(20))], [200] + 20 * [10])
    parts = balanced_parts(groups, 5, seed=0)
    assert np.bincount(sorted(parts.values())).tolist() == [1, 5, 5, 5, 5]


def test_copies_are_trained_on_and_never_judged_by() -> None:
    records = [stay(10.0 + i, subject=f"p{i}", seed=i) for i in range(10)]
    folds = divided(PLAN, records, agreed_rate)
    assert len(folds) == PARTS
    check_folds(PpgRespiration(), folds)
    as_is = windows(PLAN, records, agreed_rate).examples
    for fold in folds:
        names = {part: set(getattr(fold, part).groups) for part in ("train", "validation", "test")}
        assert names["train"] | names["validation"] | names["test"] == {r.subject for r in records}
        for name in ("validation", "test"):
            part = getattr(fold, name)
            assert len(part) == np.isin(as_is.groups, list(names[name])).sum()
        assert len(fold.train) > 2 * np.isin(as_is.groups, list(names["train"])).sum()
    tested = [g for fold in folds for g in sorted(set(fold.test.groups))]
    assert sorted(tested) == sorted(r.subject for r in records)


def test_a_score_finds_the_rates_that_were_put_in() -> None:
    records = [stay(rate, subject=f"p{rate}", seed=i) for i, rate in enumerate((8.0, 13.3, 17.7, 24.6))]
    made = windows(PLAN, records, agreed_rate).examples
    score = PpgRespiration().score(classical_logits(made.inputs), made)
    assert score["mae"] < 0.15
    assert abs(score["bias"]) < 0.1
    assert score["within_2"] == 1.0


def test_a_score_counts_errors_by_window_and_by_subject() -> None:
    centres = np.array(PLAN.centres)
    said = np.array([10.0, 12.0, 20.0])
    logits = np.where(np.abs(said[:, None] - centres) < 0.1, 50.0, 0.0).astype(np.float32)
    logits[2] *= 0.0
    logits[2, 32] = 0.5  # 20 by a hair: a share of about 7/73
    examples = Examples(
        inputs=np.zeros((3, 1, 800), np.float32),
        labels=np.zeros(3, np.int64),
        groups=np.array(["a", "a", "b"]),
        values=np.array([11.0, 12.0, 15.0]),
    )
    found = rate_figures(PLAN, logits, examples)
    assert found["mae"] == pytest.approx((1 + 0 + 5) / 3, abs=1e-3)
    assert found["rmse"] == pytest.approx(np.sqrt(26 / 3), abs=1e-3)
    assert found["bias"] == pytest.approx((-1 + 0 + 5) / 3, abs=1e-3)
    assert found["mae_by_subject"] == pytest.approx((0.5 + 5) / 2, abs=1e-3)
    assert found["within_2"] == pytest.approx(2 / 3)
    assert (found["coverage"], found["mae_sure"]) == pytest.approx((2 / 3, 0.5), abs=1e-3)


def test_a_score_without_true_rates_is_refused() -> None:
    examples = Examples(inputs=np.zeros((1, 1, 8), np.float32), labels=np.zeros(1, np.int64), groups=np.array(["a"]))
    with pytest.raises(ValueError, match="the true rates wanted"):
        rate_figures(PLAN, np.zeros((1, len(PLAN.centres)), np.float32), examples)


def test_disturbance_keeps_the_rate_and_is_the_same_for_the_same_seed() -> None:
    made = windows(PLAN, [stay(18.0)], agreed_rate).examples
    x = torch.from_numpy(made.inputs)
    one, other = (disturbed(x, 25, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, x)
    assert torch.equal(x, torch.from_numpy(made.inputs))
    said = np.median(np.array(PLAN.centres)[classical_logits(one.numpy()).argmax(axis=1)])
    assert said == pytest.approx(18.0, abs=0.5)


@pytest.mark.parametrize("name", ["ppg-respiration", "ppg-heart-rate"])
def test_a_task_without_a_data_root_says_what_to_set(name: str) -> None:
    with pytest.raises(SettingsError, match="set VITALEDGE_DATA to the folder that holds bidmc/"):
        open_task(name, {}).folds(None)


def test_the_signal_is_the_device_s_own_conditioning() -> None:
    # A first-order high-pass at 0.05 Hz passes |H| = f / sqrt(f^2 + fc^2) of a slow sine (its analogue form).
    t = np.arange(SECONDS * bidmc.RATE_HZ) / bidmc.RATE_HZ
    record = replace(stay(15.0), pleth=np.sin(2 * np.pi * 0.1 * t).astype(np.float32))
    y = conditioned(PLAN.conditioning, record)
    assert len(y) == pytest.approx(SECONDS * 25, abs=5)
    assert np.abs(y[1500:2500]).max() == pytest.approx(0.1 / np.hypot(0.1, 0.05), rel=0.01)


@needs_data
@pytest.mark.parametrize("task", [ppg_respiration, ppg_heart_rate], ids=["respiration", "heart-rate"])
def test_rates_of_all_stays_lie_within_the_bins(task: object) -> None:
    assert ROOT is not None
    records = bidmc.load(Path(ROOT))
    plan = task.PLAN  # type: ignore[attr-defined]
    step = plan.window_s  # without overlap: enough to see the range
    reference = agreed_rate if task is ppg_respiration else bidmc.monitor_heart_rate
    rates = np.array([reference(r, s, s + step) for r in records for s in np.arange(0.0, 480.0 - step, step)])
    assert np.nanmin(rates) >= plan.centres[0]
    assert np.nanmax(rates) <= plan.centres[-1]
    assert np.isnan(rates).mean() < 0.1


def test_classes_are_the_centres_of_the_bins() -> None:
    for task, first, last in ((PpgRespiration(), "4", "40"), (PpgHeartRate(), "40", "160")):
        assert (task.classes[0], task.classes[-1]) == (first, last)
        assert [float(c) for c in task.classes] == list(task.plan.centres)
