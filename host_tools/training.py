"""One training loop for teachers and students of the task `ecg-beats`, with or without a teacher's soft labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.distill import Distillation, distillation_loss
from host_tools.data.examples import IGNORED, Batch


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """AdamW with one-cycle learning rate and an exponential mean of the weights."""

    steps: int = 800
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    mean_decay: float = 0.995
    class_weights: tuple[float, float, float, float] = (1.0, 2.0, 1.0, 0.5)
    frame_loss: float = 4.0
    bf16: bool = False


M = TypeVar("M", bound=nn.Module)
Progress = Callable[[int, int, float], None]


def train(
    model: M,
    batches: Iterator[Batch],
    schedule: Schedule,
    distillation: Distillation | None = None,
    progress: Progress | None = None,
) -> M:
    """Train in place and return the model with the averaged weights, in eval mode.

    model   a module of `host_tools.nets.beats`: (x, beat_frame, rhythm) -> detection and class logits
    Raises SettingsError if the loss stops being a number.
    """
    device = next(model.parameters()).device
    average = copy.deepcopy(model).eval()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=schedule.steps + 1, pct_start=0.2
    )
    weights = torch.tensor(schedule.class_weights, device=device)
    for step in range(schedule.steps):
        batch = next(batches)
        with torch.autocast(device.type, torch.bfloat16, enabled=schedule.bf16):
            loss = batch_loss(model, batch, weights, schedule.frame_loss, distillation)
        if not torch.isfinite(loss):
            raise SettingsError(
                f"training loss is {loss.item()} at step {step}; a smaller schedule.learning_rate wanted"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        rate.step()
        _follow(average, model, min(schedule.mean_decay, (1 + step) / (10 + step)))
        if progress is not None:
            progress(step + 1, schedule.steps, loss.item())
    return average


def batch_loss(
    model: nn.Module,
    batch: Batch,
    weights: torch.Tensor,
    frame_loss: float,
    distillation: Distillation | None,
) -> torch.Tensor:
    """Weighted sum of the detection loss per frame and the class loss per beat."""
    device = weights.device
    frames, logits = model(batch.x.to(device), batch.beat_frame.to(device), batch.rhythm.to(device))
    frames, logits = frames.float(), logits.float()
    target, use = batch.frame_target.to(device), batch.frame_weight.to(device).clone()
    use[:, -16:] = 0.0  # their look-ahead lies outside the chunk
    if distillation is not None and batch.teacher_frames is not None:
        soft = torch.sigmoid(batch.teacher_frames.to(device))
        target = (1 - distillation.frame_weight) * target + distillation.frame_weight * soft
    detection = F.binary_cross_entropy_with_logits(frames, target, reduction="none")
    detection = (detection * use).sum() / use.sum().clamp(min=1)

    complete = model.beat_is_complete(batch.beat_frame, frames.shape[1]).to(device)  # type: ignore[operator]
    label = torch.where(complete, batch.beat_class.to(device), IGNORED)
    known = label != IGNORED
    label, logits = label[known], logits[known]
    weight = weights[label]
    per_beat = F.cross_entropy(logits, label, reduction="none")
    if distillation is not None and batch.teacher_beats is not None:
        teacher = batch.teacher_beats.to(device)[known]
        per_beat = distillation_loss(per_beat, logits, teacher, distillation)
    beats = (per_beat * weight).sum() / weight.sum().clamp(min=1)
    return frame_loss * detection + beats


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics towards the model's."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1.0 - decay)
        else:
            mean.copy_(value)
