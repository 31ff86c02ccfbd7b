"""Several networks as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Ensemble(nn.Module):
    """Logits whose softmax is the mean of the members' softmaxes."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs of every member -> logits (n, classes)."""
        mean = torch.stack([torch.softmax(m(x), -1) for m in self.members]).mean(0)
        return torch.log(mean.clamp(min=1e-12))
