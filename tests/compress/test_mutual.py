"""Step `mutual`: two students that teach each other."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from wave_lab import FOLD, SHORT, WRONG_CLASSES, assert_same, batch_of, differ, lab, new, trained

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.mutual import Mutual
from host_tools.compress.step import Candidate


@pytest.mark.parametrize("peer", ["student", "teacher"])
def test_mutual_learning_trains_both_and_the_student_comes_out(peer: str) -> None:
    step, where = Mutual(peer=peer, fit=replace(SHORT, epochs=8)), lab()
    student = new(0)
    objective = step.objective(student, where)
    assert objective.peer.first.out_channels == (12 if peer == "teacher" else 3)
    x, labels = torch.from_numpy(FOLD.train.inputs), FOLD.train.labels

    def accuracy(network: nn.Module) -> float:
        with torch.no_grad():
            return float(np.mean(network.eval()(x).argmax(1).numpy() == labels))

    before = accuracy(student), accuracy(objective.peer)
    where.fit(student, objective, step.fit)
    assert accuracy(student) > before[0] + 0.1
    assert accuracy(objective.peer) > before[1] + 0.1
    assert_same(student.state_dict(), trained(step, where))


def test_what_networks_tell_each_other_are_constants() -> None:
    """CE + KL(other || self) for each, by autograd over the two losses apart; T^2 scales as in distillation."""
    step = Mutual(temperature=2.0, weight=0.5)
    student, batch = new(0), batch_of(16)
    objective = step.objective(student, lab())
    peer = copy.deepcopy(objective.peer.eval())
    objective.loss(student, batch).backward()
    for learner, other, found in ((new(0), peer, student), (copy.deepcopy(peer), new(0), objective.peer)):
        with torch.no_grad():
            p = (other(batch.x) / 2).softmax(1)
        z = learner(batch.x)
        kl = nn.functional.kl_div((z / 2).log_softmax(1), p, reduction="batchmean")
        (nn.functional.cross_entropy(z, batch.labels) + 0.5 * 4.0 * kl).backward()
        for mine, wanted in zip(found.parameters(), learner.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, wanted.grad, atol=1e-6, rtol=1e-4)


def test_two_students_begin_differently_and_the_same_each_time() -> None:
    peers = [Mutual().objective(new(0), replace(lab(), seed=0)).peer.state_dict() for _ in range(2)]
    assert_same(*peers)
    assert differ(peers[0], new(0).state_dict())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; more than 0 wanted"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"weight": -1.0}, "weight is -1.0; 0 or more wanted"),
    ],
)
def test_mutual_learning_refuses_what_the_paper_has_not(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Mutual(**wrong)


def test_mutual_learning_refuses_a_network_of_other_classes() -> None:
    with pytest.raises(SettingsError, match=r"the student gives \(5,\) outputs"):
        Mutual().apply(Candidate(network=WRONG_CLASSES), lab())
