"""Training again after something was taken away from a network, with or without the teachers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.distill import Distillation, distillation_loss
from host_tools.compress.step import Lab
from host_tools.compress.train import LabelLoss, LabelObjective, shares
from host_tools.fit import FitChange, Minibatch, Objective


@dataclass(frozen=True, kw_only=True, eq=False)
class TaughtObjective:
    """Labels and the teachers' logits.

    teacher  float32 (training examples, classes)
    """

    how: LabelLoss
    distillation: Distillation
    shares: torch.Tensor
    teacher: torch.Tensor

    def helpers(self) -> nn.Module | None:
        """None."""
        return None

    def loss(self, network: nn.Module, batch: Minibatch) -> torch.Tensor:
        """Mean of the published form over the batch."""
        logits = network(batch.x).float()
        teacher = self.teacher[batch.index].to(logits.device)
        ce = self.how.per_example(logits, batch, self.shares)
        return distillation_loss(ce, logits, teacher, self.distillation).mean()


@dataclass(frozen=True, kw_only=True)
class Taught:
    """Keys of every step that trains a network again.

    fit    what differs from how the lab trains
    teach  learn from the lab's teachers too, whose logits are those of the examples as they are
    """

    fit: FitChange | None = None
    teach: bool = False
    loss: LabelLoss = field(default_factory=LabelLoss)
    distillation: Distillation = field(default_factory=Distillation)

    def require_teachers(self, lab: Lab) -> None:
        """Raise SettingsError if a teacher is wanted and there is none."""
        if self.teach and not lab.teachers:
            raise SettingsError("teach is true; the recipe has no teacher")

    def train_again(
        self, network: nn.Module, lab: Lab, after_step: Callable[[int, int], None] | None = None
    ) -> nn.Module:
        """Train `network` in place; `after_step` as in `host_tools.fit.fit`."""
        return lab.fit(network, self._objective(lab), self.fit, after_step=after_step)

    def _objective(self, lab: Lab) -> Objective:
        if not self.teach:
            return LabelObjective(how=self.loss, shares=shares(lab))
        self.require_teachers(lab)
        return TaughtObjective(
            how=self.loss,
            distillation=self.distillation,
            shares=shares(lab),
            teacher=torch.from_numpy(lab.teacher_logits()),
        )


def own_copy(network: nn.Module) -> nn.Module:
    """What a step may change: the candidate before it stays as it was."""
    return copy.deepcopy(network).cpu().eval()
