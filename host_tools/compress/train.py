"""Steps that train without a teacher, and the losses for labels that are not equally common.

Focal loss: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. Logit adjustment: Menon et al.,
"Long-tail learning via logit adjustment", ICLR 2021. Balanced sampling is a key of `Fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.step import Candidate, Lab
from host_tools.fit import FitChange, Minibatch


@dataclass(frozen=True, kw_only=True)
class LabelLoss:
    """How labels are learnt.

    kind  ce, focal (focus is its gamma), or logit-adjusted (tau times the log of the classes' shares)
    """

    kind: Literal["ce", "focal", "logit-adjusted"] = "ce"
    focus: float = 2.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no paper has."""
        if self.focus < 0 or self.tau < 0:
            raise SettingsError(f"focus is {self.focus:g}, tau {self.tau:g}; 0 or more wanted")

    def per_example(self, logits: torch.Tensor, batch: Minibatch, shares: torch.Tensor) -> torch.Tensor:
        """Loss of each example (n,) from logits (n, classes); `shares` of the classes in the training set."""
        logits = logits.float()
        if self.kind == "logit-adjusted":
            logits = logits + self.tau * torch.log(shares.to(logits.device).clamp(min=1e-8))
        target = batch.soft if batch.soft is not None else F.one_hot(batch.labels, logits.shape[-1]).float()
        log_p = F.log_softmax(logits, -1)
        if self.kind == "focal":
            log_p = log_p * (1.0 - log_p.exp()) ** self.focus
        return -(target * log_p).sum(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelObjective:
    """Learn the labels alone."""

    how: LabelLoss
    shares: torch.Tensor

    def helpers(self) -> nn.Module | None:
        """None."""
        return None

    def loss(self, network: nn.Module, batch: Minibatch) -> torch.Tensor:
        """Mean over the batch."""
        return self.how.per_example(network(batch.x), batch, self.shares).mean()


@dataclass(frozen=True, kw_only=True)
class Train:
    """Step `train`: learn the labels without a teacher."""

    loss: LabelLoss = LabelLoss()
    fit: FitChange | None = None

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Train the candidate's network from where it is."""
        return candidate.then(lab.fit(candidate.network, LabelObjective(how=self.loss, shares=shares(lab)), self.fit))


def shares(lab: Lab) -> torch.Tensor:
    """How common each class is among the training examples; float32 (classes,)."""
    counts = torch.bincount(torch.from_numpy(lab.fold.train.labels), minlength=len(lab.task.classes)).float()
    return counts / counts.sum()
