"""Task `chest-xray`: pneumonia in small chest X-rays (PneumoniaMNIST), in the parts that were published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.data.pneumoniamnist import read_parts
from host_tools.fit import Fit
from host_tools.nets.images import NETWORKS
from host_tools.tasks.task import Examples, Fold, Metric

SHIFT = 2  # pixels
GAIN = 0.15


class ChestXray:
    """5,856 images; the test part comes from other children than the rest.

    teacher, student  a network of `host_tools.nets.images`
    """

    name = "chest-xray"
    title = "PneumoniaMNIST"
    data = "PneumoniaMNIST 28x28, rebuilt from two public copies: 4,708 train, 524 validation, 624 test"
    classes = ("normal", "pneumonia")
    metric = Metric(key="accuracy", title="accuracy", unit="%")
    teacher_fit = Fit(epochs=6, batch=64, learning_rate=1e-3, weight_decay=5e-2, mean_decay=0.99)
    student_fit = Fit(epochs=10, batch=64, learning_rate=4e-3, weight_decay=5e-2, mean_decay=0.99)

    def __init__(self, teacher: str = "resnet-50", student: str = "mobilenet-v2") -> None:
        for name in (teacher, student):
            if name not in NETWORKS:
                raise SettingsError(f"chest-xray: no network {name!r}; networks are {', '.join(NETWORKS)}")
        self._teacher, self._student = teacher, student

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """One fold: the published parts."""
        parts = read_parts(root)
        train, validation, test = (
            Examples(inputs=parts[p][0], labels=parts[p][1], groups=parts[p][2]) for p in ("train", "val", "test")
        )
        return [Fold(name="published", train=train, validation=validation, test=test)]

    def teacher(self) -> nn.Module:
        """The large network."""
        return NETWORKS[self._teacher](len(self.classes))

    def student(self) -> nn.Module:
        """The small network."""
        return NETWORKS[self._student](len(self.classes))

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Shifted by up to 2 pixels, mirrored half of the time, with another exposure."""
        n = len(x)
        x = F.pad(x, (SHIFT,) * 4, mode="replicate")
        corner = torch.randint(2 * SHIFT + 1, (n, 2), generator=generator)
        side = x.shape[-1] - 2 * SHIFT
        x = torch.stack([x[i, :, r : r + side, c : c + side] for i, (r, c) in enumerate(corner.tolist())])
        mirrored = torch.rand(n, generator=generator) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
        gain = 1.0 + GAIN * (2.0 * torch.rand(n, 1, 1, 1, generator=generator) - 1.0)
        offset = 0.5 * GAIN * (2.0 * torch.rand(n, 1, 1, 1, generator=generator) - 1.0)
        return x * gain + offset

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """Accuracy, and the share found of each class."""
        said = logits.argmax(axis=1)
        figures = {"accuracy": float(np.mean(said == examples.labels))}
        for c, name in enumerate(self.classes):
            of = examples.labels == c
            figures[f"sensitivity_{name}"] = float(np.mean(said[of] == c)) if of.any() else float("nan")
        return figures
