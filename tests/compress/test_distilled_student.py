"""Distillation from end to end: the best possible teacher, few and noisy labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_task import Waves
from wave_lab import SHORT

from host_tools.compress.distill_step import Distill
from host_tools.compress.step import Candidate, Lab
from host_tools.compress.train import Train
from host_tools.tasks.task import Examples, Fold


class Clouds(Waves):
    """Three Gaussian clouds in eight dimensions; a third of the few training labels is wrong."""

    name = "clouds"

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.centres = 1.2 * rng.standard_normal((3, 8))
        self._fold = Fold(
            name="0",
            train=self._clouds(rng, 60, 1 / 3),
            validation=self._clouds(rng, 30, 0.0),
            test=self._clouds(rng, 2000, 0.0),
        )

    def _clouds(self, rng: np.random.Generator, n: int, wrong: float) -> Examples:
        true = rng.integers(3, size=n)
        x = self.centres[true] + rng.standard_normal((n, 8))
        labels = np.where(rng.random(n) < wrong, (true + rng.integers(1, 3, size=n)) % 3, true)
        return Examples(inputs=x.astype(np.float32), labels=labels, groups=np.arange(n).astype(str))

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """One."""
        return [self._fold]

    def teacher(self) -> nn.Module:
        """Bayes' rule: logits m x - |m|^2 / 2 of each centre m, the true posterior under equal priors."""
        rule = nn.Linear(8, 3)
        with torch.no_grad():
            rule.weight.copy_(torch.from_numpy(self.centres))
            rule.bias.copy_(torch.from_numpy(-0.5 * (self.centres**2).sum(1)))
        return rule.eval()

    def student(self) -> nn.Module:
        """One hidden layer."""
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def accuracies(step: Distill | Train) -> np.ndarray:
    """On test, of five draws of the clouds."""
    found = []
    for seed in range(5):
        task = Clouds(seed)
        fold, how = task.folds(None)[0], replace(SHORT, epochs=20, batch=20)
        torch.manual_seed(seed)
        network = step.apply(
            Candidate(network=task.student()),
            Lab(task=task, fold=fold, seed=seed, how=how, teachers=(task.teacher(),)),
        ).network
        with torch.no_grad():
            said = network(torch.from_numpy(fold.test.inputs)).argmax(1).numpy()
        found.append(np.mean(said == fold.test.labels))
    return np.array(found)


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    return accuracies(Train())


@pytest.mark.parametrize("method", ["ce+a*kl", "(1-a)*ce+a*t2*kl", "dkd"])
def test_with_few_and_wrong_labels_a_distilled_student_beats_one_alone(method: str, alone: np.ndarray) -> None:
    gains = accuracies(Distill(method=method, weight=0.9)) - alone
    assert min(gains) > 0.0
    assert np.mean(gains) > 0.02
