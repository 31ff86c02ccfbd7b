"""Step `mutual`: two networks learn together, each from the labels and from what the other says.

Source: Zhang et al., "Deep Mutual Learning", CVPR 2018; both learn in one step, each with the other held still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.distill import distillation_kl
from host_tools.compress.features import LOGITS, probe
from host_tools.compress.step import Candidate, Lab
from host_tools.compress.teachers import TRIAL, check_outputs
from host_tools.compress.train import LabelLoss, shares
from host_tools.fit import FitChange, Minibatch

PEER_SEED = 1_000_003  # added to the seed: two students that begin alike would have nothing to tell each other


@dataclass(frozen=True, kw_only=True)
class Mutual:
    """Step `mutual`: CE + weight T^2 KL for both networks; the candidate's is what comes out.

    peer         a new network of the task's kind `teacher` or `student`, thrown away afterwards
    weight       of what the other says; in the paper, it and the temperature are 1
    """

    peer: Literal["teacher", "student"] = "student"
    temperature: float = 1.0
    weight: float = 1.0
    loss: LabelLoss = field(default_factory=LabelLoss)
    fit: FitChange | None = None

    def __post_init__(self) -> None:
        """Refuse what the paper has not."""
        if not 0 < self.temperature < math.inf:
            raise SettingsError(f"temperature is {self.temperature}; more than 0 wanted")
        if not 0 <= self.weight < math.inf:
            raise SettingsError(f"weight is {self.weight}; 0 or more wanted")

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Train the candidate's network from where it is, beside a new peer."""
        return candidate.then(lab.fit(candidate.network, self.objective(candidate.network, lab), self.fit))

    def objective(self, student: nn.Module, lab: Lab) -> MutualObjective:
        """What is minimized; raises SettingsError for a network that does not answer the task."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(lab.seed + PEER_SEED)
            peer = lab.task.teacher() if self.peer == "teacher" else lab.task.student()
        x = torch.from_numpy(lab.fold.train.inputs[:TRIAL])
        for whose, network in (("the student", student), (f"the peer ({self.peer})", peer)):
            check_outputs(lab.task, whose, probe(network, x, (), whose)[LOGITS])
        return MutualObjective(how=self, peer=peer, shares=shares(lab))


@dataclass(frozen=True, kw_only=True, eq=False)
class MutualObjective:
    """The sum of both networks' losses; what one says is a constant to the other."""

    how: Mutual
    peer: nn.Module
    shares: torch.Tensor

    def helpers(self) -> nn.Module | None:
        """The peer."""
        return self.peer

    def loss(self, network: nn.Module, batch: Minibatch) -> torch.Tensor:
        """Mean over the batch."""
        ours, theirs = network(batch.x).float(), self.peer(batch.x).float()
        factor = self.how.weight * self.how.temperature**2
        loss = torch.zeros((), device=batch.x.device)
        for learner, other in ((ours, theirs), (theirs, ours)):
            ce = self.how.loss.per_example(learner, batch, self.shares)
            kl = distillation_kl(learner, other.detach(), self.how.temperature)
            loss = loss + (ce + factor * kl).mean()
        return loss
