"""Folds, networks and scores of the tasks on tables and stays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics

from edge_runtime.contract.errors import SettingsError
from host_tools.measure.logits import network_logits
from host_tools.tasks.breast_cancer import BreastCancer
from host_tools.tasks.heart_disease import HeartDisease, HeartDiseaseHospitals
from host_tools.tasks.icu_mortality import IcuMortality
from host_tools.tasks.task import Examples, Fold, Task, check_folds

DATA = os.environ.get("VITALEDGE_DATA")
ROOT = Path(DATA) if DATA else None
needs_data = pytest.mark.skipif(
    DATA is None, reason="needs VITALEDGE_DATA, with uci_heart_disease/ and challenge2012_set_a/"
)
TASKS = [
    pytest.param(BreastCancer, 50, 569, id="breast-cancer"),
    pytest.param(HeartDisease, 50, 920, id="heart-disease", marks=needs_data),
    pytest.param(IcuMortality, 5, 4000, id="icu-mortality", marks=needs_data),
]


@pytest.fixture(scope="module")
def folds_of():
    """Folds of a task, read once."""
    kept: dict[type, Sequence[Fold]] = {}

    def read(task: type) -> Sequence[Fold]:
        if task not in kept:
            kept[task] = task().folds(ROOT)
        return kept[task]

    return read


@pytest.mark.parametrize(("task", "n_folds", "n"), TASKS)
def test_every_repeat_tests_every_example_once_and_parts_are_disjoint(folds_of, task, n_folds, n):
    folds = folds_of(task)
    check_folds(task(), folds)
    assert len(folds) == n_folds
    assert len({f.name for f in folds}) == n_folds
    for repeat in range(n_folds // 5):
        tested = np.concatenate([f.test.groups for f in folds[5 * repeat : 5 * repeat + 5]])
        assert len(tested) == len(set(tested)) == n
    for fold in folds[:5]:
        assert len(fold.train) + len(fold.validation) + len(fold.test) == n


@pytest.mark.parametrize(("task", "n_folds", "n"), TASKS)
def test_every_part_has_the_classes_in_the_shares_of_the_whole(folds_of, task, n_folds, n):
    folds = folds_of(task)
    share = np.mean(np.concatenate([f.test.labels for f in folds[:5]]))
    for fold in folds:
        for part in (fold.train, fold.validation, fold.test):
            assert abs(part.labels.sum() - share * len(part)) <= 1.5


@pytest.mark.parametrize(("task", "n_folds", "n"), TASKS[:2])
def test_folds_are_the_same_every_time(folds_of, task, n_folds, n):
    for one, other in zip(folds_of(task), task().folds(ROOT), strict=True):
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(one, part).groups, getattr(other, part).groups)


@needs_data
def test_a_tested_hospital_is_in_no_other_part_and_every_hospital_is_tested_once(folds_of):
    folds = folds_of(HeartDiseaseHospitals)
    check_folds(HeartDiseaseHospitals(), folds)
    assert sorted(f.name for f in folds) == ["cleveland", "hungarian", "switzerland", "va"]
    for fold in folds:
        parts = [set(p.groups.tolist()) for p in (fold.train, fold.validation, fold.test)]
        assert parts[2] == {fold.name}
        assert sum(map(len, parts)) == len(set.union(*parts)) == 4
        assert len(fold.train) + len(fold.validation) + len(fold.test) == 920


@pytest.mark.parametrize("task", [HeartDisease, HeartDiseaseHospitals, IcuMortality])
def test_without_a_data_root_the_folder_is_named(task):
    with pytest.raises(SettingsError, match="set VITALEDGE_DATA to the folder that holds"):
        task().folds(None)


@pytest.mark.parametrize("task", [HeartDisease, IcuMortality])
def test_options_that_mean_nothing_are_refused(task):
    with pytest.raises(SettingsError, match="missing is 'zero'"):
        task(missing="zero")
    with pytest.raises(SettingsError, match="hidden is 0"):
        task(hidden=0)


@pytest.mark.parametrize(
    ("task", "shape", "limit"),
    [
        (BreastCancer(), (30,), 1_000),
        (HeartDisease(missing="mean"), (13,), 1_000),
        (HeartDisease(missing="mean+mask"), (13,), 1_000),
        (IcuMortality(missing="learned"), (41, 48), 10_000),
        (IcuMortality(missing="mean+mask"), (41, 48), 10_000),
    ],
    ids=lambda p: getattr(p, "name", ""),
)
def test_students_are_as_small_as_promised_and_see_what_teachers_see(task: Task, shape, limit):
    student, teacher = task.student(), task.teacher()
    n = sum(p.numel() for p in student.parameters())
    assert n <= limit < sum(p.numel() for p in teacher.parameters())
    x = np.random.default_rng(0).random((5, *shape)).astype(np.float32)
    assert network_logits(student, x).shape == network_logits(teacher, x).shape == (5, 2)


def test_drop_mask_hides_values_in_training_and_the_other_words_hide_nothing():
    x = torch.zeros(50, 13)
    for word, hidden in (("mean", False), ("learned", False), ("mean+mask", False), ("drop-mask", True)):
        shown = HeartDisease(missing=word).augment(x, torch.Generator().manual_seed(0))
        assert bool(torch.isnan(shown).any()) is hidden, word


@pytest.mark.parametrize("task", [HeartDisease(), IcuMortality()], ids=lambda t: t.name)
def test_scores_are_those_of_scikit_learn(task):
    rng = np.random.default_rng(0)
    logits, y = rng.normal(0, 2, (80, 2)).astype(np.float32), rng.integers(0, 2, 80)
    examples = Examples(inputs=np.zeros((80, 1), np.float32), labels=y, groups=np.arange(80).astype(str))
    found = task.score(logits, examples)
    p = torch.softmax(torch.from_numpy(logits).double(), 1)[:, 1].numpy()
    assert found[task.metric.key] == found["auroc"] == pytest.approx(metrics.roc_auc_score(y, p))
    assert found["auprc"] == pytest.approx(metrics.average_precision_score(y, p))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, logits.argmax(1)))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(y, p))
    recall = metrics.recall_score(y, logits.argmax(1), average=None)
    assert [found[f"sensitivity_{c}"] for c in task.classes] == pytest.approx(recall)
