"""The network of the task `ecg-beats`: a causal trunk over one lead, and a head that speaks once per beat.

Beats are detected frame by frame and classified once each, from an embedding of the signal around them, their
rhythm features and a recurrent memory over beats. Teachers are wide networks of the same kind: measured in
cross-validation by record, wide ones that look ahead (centred convolutions, a memory in both directions, both
leads) learnt the training patients and told other patients' beats apart less well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.rhythm import N_FEATURES

N_CLASSES = 4
STEM_KERNEL = 25
TEMPLATE_RATE = 1.0 / 12.0  # of the running mean over a patient's beat embeddings


@dataclass(frozen=True, kw_only=True)
class BeatNetShape:
    """Size of a network; `channels` is what pruning shrinks.

    Few wide convolutions instead of many narrow ones: on a gateway each operator of a step costs about as much
    as the arithmetic of a whole layer.
    """

    channels: int = 40
    kernel: int = 8
    dilations: tuple[int, ...] = (1, 5, 28)
    embedding: int = 16
    hidden: int = 24
    is_residual: bool = True


class CausalBlock(nn.Module):
    """ReLU(BN(conv(x))), plus x if residual, looking back (kernel - 1) * dilation frames."""

    def __init__(self, channels: int, kernel: int, dilation: int, is_residual: bool) -> None:
        super().__init__()
        self.history = (kernel - 1) * dilation
        self.is_residual = is_residual
        self.conv = nn.Conv1d(channels, channels, kernel, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (b, channels, frames) -> the same shape."""
        y = F.relu(self.norm(self.conv(F.pad(x, (self.history, 0)))))
        return torch.add(x, y) if self.is_residual else y


class Trunk(nn.Module):
    """Causal convolutions over one lead: a feature vector, a detection score and an embedding per frame."""

    def __init__(self, shape: BeatNetShape, stride: int) -> None:
        super().__init__()
        c = shape.channels
        self.history = STEM_KERNEL - stride
        self.stem = nn.Conv1d(1, c, STEM_KERNEL, stride=stride, bias=False)
        self.stem_norm = nn.BatchNorm1d(c)
        self.blocks = nn.ModuleList(CausalBlock(c, shape.kernel, d, shape.is_residual) for d in shape.dilations)
        # Row 0 is the detection score, the rest is the embedding: one operator on the device.
        self.out = nn.Conv1d(c, 1 + shape.embedding, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Samples float32 (b, 1, samples) -> float32 (b, 1 + embedding, samples / stride)."""
        y = F.relu(self.stem_norm(self.stem(F.pad(x, (self.history, 0)))))
        for block in self.blocks:
            y = block(y)
        return self.out(y)


class BeatHead(nn.Module):
    """Class of each beat from its embedding, its distance to the running template, and its rhythm."""

    def __init__(self, embedding: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * embedding + N_FEATURES, hidden)
        self.dropout = nn.Dropout(dropout)
        self.memory = nn.GRU(hidden, hidden, batch_first=True)
        self.classes = nn.Linear(hidden, N_CLASSES)

    def forward(self, e: torch.Tensor, rhythm: torch.Tensor) -> torch.Tensor:
        """Embeddings float32 (b, beats, embedding), rhythm float32 (b, beats, 8) -> logits (b, beats, 4)."""
        z = torch.cat((e, e - running_mean(e), rhythm), dim=-1)
        z = self.dropout(F.relu(self.inner(z)))
        memory, _ = self.memory(z)
        return self.classes(self.dropout(memory))


def running_mean(e: torch.Tensor) -> torch.Tensor:
    """Exponential mean over the beats up to and including each; starts at the first beat's embedding.

    float32 (b, beats, embedding) -> the same shape: m_0 = e_0, m_k = m_{k-1} + r (e_k - m_{k-1}).
    """
    n = e.shape[1]
    k = torch.arange(n, device=e.device)
    age = (k[:, None] - k[None, :]).clamp(min=0)
    weight = TEMPLATE_RATE * (1.0 - TEMPLATE_RATE) ** age
    weight = torch.where(k[None, :] > k[:, None], 0.0, weight)
    weight[:, 0] = (1.0 - TEMPLATE_RATE) ** k
    return torch.einsum("kj,bjc->bkc", weight.to(e.dtype), e)


class BeatNet(nn.Module):
    """Causal beat model for one lead; the trunk runs every hop, the head once per beat."""

    def __init__(self, shape: BeatNetShape, timing: BeatTiming, dropout: float = 0.1) -> None:
        super().__init__()
        self.shape, self.timing = shape, timing
        self.trunk = Trunk(shape, timing.stride)
        self.head = BeatHead(shape.embedding, shape.hidden, dropout=dropout)

    @property
    def receptive_field_samples(self) -> int:
        """Samples of the past that one frame depends on."""
        return STEM_KERNEL + self.timing.stride * (self.shape.kernel - 1) * sum(self.shape.dilations)

    def forward(
        self, x: torch.Tensor, beat_frame: torch.Tensor, rhythm: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Detection logits aligned with the R peaks (b, frames) and class logits (b, beats, 4).

        x float32 (b, 1, samples); beat_frame int64 (b, beats).
        The last `detect_frames` detection logits and beats too near the end are padded with the last frame.
        """
        y = self.trunk(x)
        frames = y.shape[-1]
        at = (torch.arange(frames, device=x.device) + self.timing.detect_frames).clamp(max=frames - 1)
        read = (beat_frame + self.timing.embed_frames).clamp(max=frames - 1)
        e = torch.gather(y[:, 1:], 2, read[:, None, :].expand(-1, self.shape.embedding, -1))
        return y[:, 0, at], self.head(e.transpose(1, 2), rhythm)

    def beat_is_complete(self, beat_frame: torch.Tensor, frames: int) -> torch.Tensor:
        """Whether the chunk holds all that a beat's class depends on; bool (b, beats)."""
        return beat_frame + self.timing.embed_frames < frames
