"""Networks of the task `ecg-beats`: a causal student and a teacher that may look ahead.

Both detect beats frame by frame and classify each beat once, from an embedding of the signal around it, the
beat's rhythm features and a recurrent memory over beats.
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
class StudentShape:
    """Size of a student; `channels` is what pruning shrinks.

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

    def __init__(self, shape: StudentShape, stride: int) -> None:
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

    def __init__(self, embedding: int, hidden: int, bidirectional: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * embedding + N_FEATURES, hidden)
        self.dropout = nn.Dropout(dropout)
        self.memory = nn.GRU(hidden, hidden, batch_first=True, bidirectional=bidirectional)
        self.classes = nn.Linear(hidden * (2 if bidirectional else 1), N_CLASSES)

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


class Student(nn.Module):
    """Causal beat model for one lead; the trunk runs every hop, the head once per beat."""

    def __init__(self, shape: StudentShape, timing: BeatTiming, dropout: float = 0.1) -> None:
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

        x float32 (b, leads, samples), of which lead 0 is used; beat_frame int64 (b, beats).
        The last `detect_frames` detection logits and beats too near the end are padded with the last frame.
        """
        y = self.trunk(x[:, :1])
        frames = y.shape[-1]
        at = (torch.arange(frames, device=x.device) + self.timing.detect_frames).clamp(max=frames - 1)
        read = (beat_frame + self.timing.embed_frames).clamp(max=frames - 1)
        e = torch.gather(y[:, 1:], 2, read[:, None, :].expand(-1, self.shape.embedding, -1))
        return y[:, 0, at], self.head(e.transpose(1, 2), rhythm)

    def beat_is_complete(self, beat_frame: torch.Tensor, frames: int) -> torch.Tensor:
        """Whether the chunk holds all that a beat's class depends on; bool (b, beats)."""
        return beat_frame + self.timing.embed_frames < frames


@dataclass(frozen=True, kw_only=True)
class TeacherShape:
    """Size of a teacher."""

    channels: int = 160
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 1)
    embedding: int = 32
    hidden: int = 64
    dropout: float = 0.1


class TeacherBlock(nn.Module):
    """Residual block with two full convolutions, looking both ways."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, channels, 5, dilation=dilation, padding=2 * dilation, bias=False)
        self.first_norm = nn.BatchNorm1d(channels)
        self.second = nn.Conv1d(channels, channels, 1, bias=False)
        self.second_norm = nn.BatchNorm1d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (b, channels, frames) -> the same shape."""
        y = F.relu(self.first_norm(self.first(x)))
        return x + self.dropout(F.relu(self.second_norm(self.second(y))))


class Teacher(nn.Module):
    """Non-causal beat model for two leads, with a memory that reads the beats in both directions."""

    STEM = 31
    AROUND = (-4, 0, 5)  # frames around the R peak from which a beat's embedding is read

    def __init__(self, shape: TeacherShape, timing: BeatTiming) -> None:
        super().__init__()
        self.timing = timing
        c, padding = shape.channels, (self.STEM - timing.stride) // 2
        self.stem = nn.Conv1d(2, c, self.STEM, stride=timing.stride, padding=padding, bias=False)
        self.stem_norm = nn.BatchNorm1d(c)
        self.blocks = nn.ModuleList(TeacherBlock(c, d, shape.dropout) for d in shape.dilations)
        self.out = nn.Conv1d(c, 1 + shape.embedding, 1)
        self.head = BeatHead(
            len(self.AROUND) * shape.embedding, shape.hidden, bidirectional=True, dropout=shape.dropout
        )

    def frames(self, x: torch.Tensor) -> torch.Tensor:
        """Both leads float32 (b, 2, samples) -> detection logit and embedding, (b, 1 + embedding, frames)."""
        y = F.relu(self.stem_norm(self.stem(x)))
        for block in self.blocks:
            y = block(y)
        return self.out(y).float()

    def classify(self, y: torch.Tensor, beat_frame: torch.Tensor, rhythm: torch.Tensor) -> torch.Tensor:
        """Class logits (b, beats, 4) of beats at `beat_frame` from the result of `frames`."""
        around = []
        for shift in self.AROUND:
            read = (beat_frame + shift).clamp(0, y.shape[-1] - 1)
            around.append(torch.gather(y[:, 1:], 2, read[:, None, :].expand(-1, y.shape[1] - 1, -1)))
        return self.head(torch.cat(around, dim=1).transpose(1, 2), rhythm)

    def forward(
        self, x: torch.Tensor, beat_frame: torch.Tensor, rhythm: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As the student's, from both leads: detection logits (b, frames), class logits (b, beats, 4)."""
        y = self.frames(x)
        return y[:, 0], self.classify(y, beat_frame, rhythm)

    def beat_is_complete(self, beat_frame: torch.Tensor, frames: int) -> torch.Tensor:
        """Whether the chunk holds all that a beat's class depends on; bool (b, beats)."""
        return beat_frame + 2 * max(self.AROUND) < frames
