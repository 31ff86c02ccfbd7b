"""What a student learns from a teacher's logits: either published form of distillation, or its decoupled kind.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; the two forms themselves are in `distill`. Zhao et
al., "Decoupled Knowledge Distillation", CVPR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.distill import FORMS, Distillation, distillation_loss

Method = Literal["ce+a*kl", "(1-a)*ce+a*t2*kl", "dkd"]


@dataclass(frozen=True, kw_only=True)
class LogitLoss:
    """How logits are learnt: CE + a KL, (1 - a) CE + a T^2 KL, or dkd: CE + T^2 (alpha TCKD + beta NCKD).

    weight  a, of the first two; alpha and beta are of dkd
    """

    method: Method
    temperature: float
    weight: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        """Refuse what no paper has."""
        if not 0 < self.temperature < math.inf:
            raise SettingsError(f"temperature is {self.temperature}; more than 0 wanted")
        most = 1.0 if self.method == FORMS[1] else math.inf
        if not (0 <= self.weight <= most and math.isfinite(self.weight)):
            raise SettingsError(f"weight is {self.weight}; {'0 to 1' if most == 1.0 else '0 or more'} wanted")
        if not (0 <= self.alpha < math.inf and 0 <= self.beta < math.inf):
            raise SettingsError(f"alpha is {self.alpha}, beta {self.beta}; 0 or more wanted")

    def per_example(
        self, ce: torch.Tensor, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Loss (n,) from the label loss `ce` (n,), both logits (n, classes) and the labels (n,).

        Where the task has soft labels, the label is still what dkd takes for the target class.
        """
        if self.method != "dkd":
            how = Distillation(form=self.method, temperature=self.temperature, weight=self.weight)
            return distillation_loss(ce, student, teacher, how)
        target, rest = decoupled_kl(student, teacher, labels, self.temperature)
        return ce + self.temperature**2 * (self.alpha * target + self.beta * rest)


def decoupled_kl(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """TCKD and NCKD, both (n,), of softened logits (n, classes).

    The divergence of (target class, all others), and that among the others alone. With p the teacher's probability of
    the target class, KL = TCKD + (1 - p) NCKD (Zhao et al., equation 7). Of two classes, NCKD is 0.
    """
    is_target = F.one_hot(labels, student.shape[-1]).bool()
    (s_target, s_rest), (t_target, t_rest) = (_apart(z / temperature, is_target) for z in (student, teacher))
    return _kl(t_target, s_target), _kl(t_rest, s_rest)


def _apart(z: torch.Tensor, is_target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (n, 2) of target and others, and (n, classes - 1) among the others."""
    others = z[~is_target].view(len(z), -1)
    pair = torch.stack([z[is_target], others.logsumexp(-1)], -1)
    return F.log_softmax(pair, -1), F.log_softmax(others, -1)


def _kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def ensemble_logits(logits: Sequence[torch.Tensor], temperature: float) -> torch.Tensor:
    """Logits (n, classes) which, softened by the temperature, are the mean of the teachers' softened probabilities."""
    log_p = torch.stack([F.log_softmax(z.float() / temperature, -1) for z in logits])
    return temperature * (log_p.logsumexp(0) - math.log(len(logits)))
