"""Networks of the task `ecg-beats-oracle`: convolutions over a beat's window, joined by its rhythm and likeness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from host_tools.data.beat_windows import N_CONTEXT, SIGNALS, WINDOW

N_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class BeatWindowNetShape:
    """Channels of the three convolutions, each with a stride of 2; channels kept per frame; width of the head."""

    channels: tuple[int, int, int]
    kept: int
    hidden: int
    dropout: float


# Wider teachers (128 channels) learnt the training patients: in validation their ensemble was worse than one student.
TEACHER = BeatWindowNetShape(channels=(32, 40, 56), kept=8, hidden=56, dropout=0.3)
STUDENT = BeatWindowNetShape(channels=(16, 20, 28), kept=6, hidden=28, dropout=0.1)


class BeatWindowNet(nn.Module):
    """float32 (n, 4, 96), as `host_tools.data.beat_windows` makes them -> logits (n, 4)."""

    def __init__(self, shape: BeatWindowNetShape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = SIGNALS
        for channels, kernel in zip(shape.channels, (7, 5, 5), strict=True):
            conv = nn.Conv2d(before, channels, (1, kernel), stride=(1, 2), padding=(0, kernel // 2), bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
            before = channels
        self.body = nn.Sequential(*layers, nn.Conv2d(before, shape.kept, 1), nn.ReLU())
        self.dropout = nn.Dropout(shape.dropout)
        self.hidden = nn.Linear(shape.kept * (WINDOW // 8) + N_CONTEXT, shape.hidden)
        self.out = nn.Linear(shape.hidden, N_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The first channels are signals, the last holds the context."""
        shape = self.body(x[:, :SIGNALS].unsqueeze(2)).flatten(1)
        joined = torch.cat([self.dropout(shape), x[:, SIGNALS, :N_CONTEXT]], dim=1)
        return self.out(self.dropout(F.relu(self.hidden(joined))))
