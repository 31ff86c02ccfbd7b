"""A task small enough for tests: three kinds of waves in noise, two folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.signal import Float32Array
from host_tools.fit import Fit
from host_tools.tasks.task import Examples, Fold, Metric

SAMPLES = 32
FREQUENCIES = (2, 4, 7)


class Waves:
    """Which of three frequencies a short noisy signal of two channels holds."""

    name = "waves"
    title = "Waves"
    data = "made by a program"
    classes = ("slow", "middle", "fast")
    metric = Metric(key="accuracy", title="accuracy", unit="%")
    teacher_fit = Fit(epochs=6, batch=32, learning_rate=1e-2, mean_decay=0.8, bf16=False)
    student_fit = Fit(epochs=4, batch=32, learning_rate=1e-2, mean_decay=0.8, bf16=False)

    def __init__(self, noise: float = 0.7, width: int = 8) -> None:
        self._noise, self._width = noise, width

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """Two folds of 240, 120 and 120 examples of 40 groups each."""
        return [
            Fold(name=str(i), train=self._draw(240, i, 0), validation=self._draw(120, i, 1), test=self._draw(120, i, 2))
            for i in range(2)
        ]

    def _draw(self, n: int, fold: int, part: int) -> Examples:
        rng = np.random.default_rng([fold, part])
        labels = np.arange(n) % len(self.classes)
        t = np.arange(SAMPLES) / SAMPLES
        phase = rng.uniform(0, 2 * np.pi, (n, 2, 1))
        cycles = np.array(FREQUENCIES)[labels][:, None, None]
        x = np.sin(2 * np.pi * cycles * t + phase) + self._noise * rng.standard_normal((n, 2, SAMPLES))
        groups = np.array([f"{fold}.{part}.{i // 12}" for i in range(n)])
        return Examples(inputs=x.astype(np.float32), labels=labels.astype(np.int64), groups=groups)

    def teacher(self) -> nn.Module:
        """Four times as wide."""
        return WaveNet(4 * self._width)

    def student(self) -> nn.Module:
        """Two convolutions and a dense layer."""
        return WaveNet(self._width)

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """As it is."""
        return x

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """Accuracy and sensitivities."""
        said = logits.argmax(axis=1)
        figures = {"accuracy": float(np.mean(said == examples.labels))}
        for c, name in enumerate(self.classes):
            of = examples.labels == c
            figures[f"sensitivity_{name}"] = float(np.mean(said[of] == c)) if of.any() else float("nan")
        return figures


class WaveNet(nn.Module):
    """Two convolutions over a lifted signal, mean, dense."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, (1, 7), padding=(0, 3), bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, (1, 5), padding=(0, 2))
        self.last = nn.Linear(width, len(FREQUENCIES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (n, 2, samples) -> (n, 3)."""
        x = torch.relu(self.norm(self.first(x.unsqueeze(2))))
        x = torch.relu(self.second(x))
        return self.last(x.mean((2, 3)))
