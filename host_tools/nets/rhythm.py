"""Networks of the task `ecg-rhythm`: residual convolutions over a window of one lead, pooled over time.

After Hannun et al., "Cardiologist-level arrhythmia detection and classification in ambulatory electrocardiograms
using a deep neural network", Nature Medicine 25, 2019, but wide and short: the window is first reduced to frames, so
that two heart beats lie in one receptive field after few convolutions. All convolutions are 2-D (1, K).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

N_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class RhythmNetShape:
    """Size of a network.

    stem      channels of the first convolution, which has 25 taps and a stride of 5
    stages    (channels, stride, residual blocks) of each stage
    kernel    taps of the blocks' convolutions
    hidden    width before the logits
    dropout   of the pooled features, in training
    """

    stem: int
    stages: tuple[tuple[int, int, int], ...]
    kernel: int
    hidden: int
    dropout: float = 0.2


TEACHER = RhythmNetShape(stem=64, stages=((64, 2, 1), (96, 2, 2), (128, 2, 2), (160, 2, 2)), kernel=7, hidden=128)
STUDENT = RhythmNetShape(stem=16, stages=((24, 2, 1), (32, 2, 1), (48, 2, 2)), kernel=7, hidden=32, dropout=0.1)


class RhythmNet(nn.Module):
    """float32 (n, 1, samples) -> logits (n, 4)."""

    def __init__(self, shape: RhythmNetShape) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(1, shape.stem, 25, 5), nn.ReLU())
        layers: list[nn.Module] = []
        before = shape.stem
        for channels, stride, blocks in shape.stages:
            for i in range(blocks):
                layers.append(Residual(before, channels, shape.kernel, stride if i == 0 else 1))
                before = channels
        self.body = nn.Sequential(*layers)
        self.hidden = nn.Linear(2 * before, shape.hidden)
        self.dropout = nn.Dropout(shape.dropout)
        self.out = nn.Linear(shape.hidden, N_CLASSES)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # trains in two thirds of the time

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mean and maximum over time of what the body says."""
        y = self.body(self.stem(x.unsqueeze(2)))
        pooled = torch.cat([y.mean((2, 3)), y.amax((2, 3))], dim=1)
        return self.out(self.dropout(F.relu(self.hidden(self.dropout(pooled)))))


class Residual(nn.Module):
    """ReLU(two convolutions + x); x through a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_conv(before, channels, kernel, stride), nn.ReLU(), *_conv(channels, channels, kernel, 1)
        )
        same = before == channels and stride == 1
        self.short = nn.Identity() if same else nn.Sequential(*_conv(before, channels, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (n, before, 1, frames) -> (n, channels, 1, frames / stride)."""
        return F.relu(self.main(x) + self.short(x))


def _conv(before: int, channels: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """Convolution and batch norm."""
    conv = nn.Conv2d(before, channels, (1, kernel), stride=(1, stride), padding=(0, kernel // 2), bias=False)
    return conv, nn.BatchNorm2d(channels)
