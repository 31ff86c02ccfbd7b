"""Knowledge distillation: the two published losses over teacher logits, with temperature and T^2 scaling.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from edge_runtime.contract.errors import SettingsError

Form = Literal["ce+a*kl", "(1-a)*ce+a*t2*kl"]
FORMS: tuple[Form, ...] = ("ce+a*kl", "(1-a)*ce+a*t2*kl")


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How a student learns from a teacher.

    form         which published loss: CE + a KL, or (1 - a) CE + a T^2 KL
    temperature  T > 0, softens both distributions
    weight       a; in the second form between 0 and 1
    frame_weight share of the teacher in the detection target, between 0 and 1
    """

    form: Form = "(1-a)*ce+a*t2*kl"
    temperature: float = 2.0
    weight: float = 0.5
    frame_weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse parameters that no published form has."""
        if self.form not in FORMS:
            raise SettingsError(f"distillation form is {self.form!r}; one of {', '.join(FORMS)} wanted")
        if not self.temperature > 0:
            raise SettingsError(f"distillation temperature is {self.temperature}; more than 0 wanted")
        if not self.weight >= 0 or (self.form == FORMS[1] and self.weight > 1):
            raise SettingsError(f"distillation weight is {self.weight}; 0 to 1 wanted")
        if not 0 <= self.frame_weight <= 1:
            raise SettingsError(f"distillation frame_weight is {self.frame_weight}; 0 to 1 wanted")


def distillation_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher || student) of the softened distributions; logits (..., classes) -> (...,)."""
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    log_q = F.log_softmax(student / temperature, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def distillation_loss(
    ce: torch.Tensor, student: torch.Tensor, teacher: torch.Tensor, how: Distillation
) -> torch.Tensor:
    """Per-example loss from its cross-entropy `ce` (...,) and both logits (..., classes)."""
    kl = distillation_kl(student, teacher, how.temperature)
    if how.form == "ce+a*kl":
        return ce + how.weight * kl
    return (1.0 - how.weight) * ce + how.weight * how.temperature**2 * kl
