"""Losses over layers and relations, which a recipe adds to what the student learns from the logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.features import LOGITS, Features
from host_tools.compress.hints import adapter, as_maps, attention_loss, hint_loss
from host_tools.compress.relations import angle_loss, distance_loss


@dataclass(frozen=True, kw_only=True)
class Extra:
    """One more loss, the mean over pairs of layers.

    kind            hint, attention or rkd
    student_layers  names as in `named_modules`; the i-th is compared with the i-th of the teacher. Axis 1 is channels.
    teacher_layers  likewise; for rkd both may be empty: the logits
    distance, angle weights of both parts of rkd
    embedding       of rkd: maps averaged over their places, or as they are
    """

    kind: Literal["hint", "attention", "rkd"]
    weight: float = 1.0
    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()
    distance: float = 1.0
    angle: float = 2.0
    embedding: Literal["pooled", "flat"] = "pooled"

    def __post_init__(self) -> None:
        """Refuse weights that teach nothing, and layers that nothing is compared with."""
        if not 0 < self.weight < math.inf:
            raise SettingsError(f"{self.kind} weight is {self.weight}; more than 0 wanted")
        if not (0 <= self.distance < math.inf and 0 <= self.angle < math.inf and self.distance + self.angle > 0):
            raise SettingsError(f"distance is {self.distance}, angle {self.angle}; 0 or more wanted, not both 0")
        ours, theirs = len(self.student_layers), len(self.teacher_layers)
        if ours != theirs:
            raise SettingsError(f"{self.kind} has {ours} student_layers and {theirs} teacher_layers; as many wanted")
        if not ours and self.kind != "rkd":
            raise SettingsError(f"{self.kind} has no student_layers; one or more wanted")

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(the student's layer, the teacher's)."""
        return tuple(zip(self.student_layers, self.teacher_layers, strict=True)) or ((LOGITS, LOGITS),)


class ExtraLoss(nn.Module):
    """One extra loss against one teacher, with the adapters that it learns."""

    def __init__(self, how: Extra, student: Features, teacher: Features) -> None:
        """For layers that give what a trial pass gave."""
        super().__init__()
        self.how = how
        pairs = [(student[s], teacher[t]) for s, t in how.pairs()]
        self.adapters = nn.ModuleList(adapter(s, t) for s, t in pairs if how.kind == "hint")

    def forward(self, student: Features, teacher: Features) -> torch.Tensor:
        """The weighted mean over pairs; a scalar."""
        losses = []
        for i, (s, t) in enumerate(self.how.pairs()):
            ours, theirs = student[s].float(), teacher[t].float()
            if self.how.kind == "hint":
                losses.append(hint_loss(ours, theirs, self.adapters[i]))
            elif self.how.kind == "attention":
                losses.append(attention_loss(ours, theirs))
            else:
                losses.append(self._relations(ours, theirs))
        return self.how.weight * torch.stack(losses).mean()

    def _relations(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        if self.how.embedding == "pooled":
            student, teacher = (as_maps(f).mean((2, 3)) for f in (student, teacher))
        student, teacher = student.flatten(1), teacher.flatten(1)
        loss = student.sum() * 0.0
        if self.how.distance:
            loss = loss + self.how.distance * distance_loss(student, teacher)
        if self.how.angle:
            loss = loss + self.how.angle * angle_loss(student, teacher)
        return loss
