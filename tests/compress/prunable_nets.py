"""Small networks of every kind that pruning must take apart, and a lab with a task that they can learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.signal import Float32Array
from host_tools.compress.step import Candidate, Lab
from host_tools.fit import Fit
from host_tools.tasks.task import Examples, Fold, Metric

torch.set_num_threads(1)
SAMPLES = 16
SHAPE = (1, SAMPLES)


class Masked(nn.Module):
    """NaN mask concatenated at the input, batch norm on it, (1, K) convolutions, a depthwise residual, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(1)
        self.stem, self.stem_norm = nn.Conv2d(2, 8, (1, 5), padding=(0, 2)), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=8)
        self.pointwise, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 12, (1, 3), stride=(1, 2))
        self.hidden, self.out = nn.Linear(12 * 2, 10), nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        missing = torch.isnan(x)
        x = self.scale(torch.where(missing, torch.zeros_like(x), x))
        x = torch.cat([x, missing.to(x.dtype)], 1).unsqueeze(2)
        x = self.stem_norm(self.stem(x)).relu()
        x = x + self.norm(self.pointwise(self.depthwise(x))).relu()
        x = torch.nn.functional.avg_pool2d(self.wide(x).relu(), (1, 3)).flatten(1)
        return self.out(self.hidden(x).relu())


class Recurrent(nn.Module):
    """A convolution that a GRU reads, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 3)
        self.gru = nn.GRU(4, 5, batch_first=True)
        self.hidden, self.out = nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, _ = self.gru(self.conv(x).transpose(1, 2))
        return self.out(self.hidden(h[:, -1]).sigmoid())


class Gated(nn.Module):
    """Half of a layer's channels gate the other half; a grouped convolution; neither can lose just one."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = nn.Conv1d(1, 8, 3)
        self.grouped = nn.Conv1d(4, 4, 3, groups=2)
        self.free, self.out = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.gated(x).chunk(2, 1)
        return self.out(self.free(self.grouped(a * b.sigmoid()).mean(-1)).sigmoid())


def dense() -> nn.Sequential:
    """As for tables: batch norm on the inputs, two hidden layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.BatchNorm1d(SAMPLES),
        nn.Linear(SAMPLES, 12),
        nn.ReLU(),
        nn.Linear(12, 9),
        nn.ReLU(),
        nn.Linear(9, 2),
    )


KINDS: dict[str, Any] = {"masked": Masked, "recurrent": Recurrent, "gated": Gated, "dense": dense}


def network(kind: str, seed: int = 0) -> nn.Module:
    """Random weights, and norms with statistics of their own."""
    torch.manual_seed(seed)
    made: nn.Module = KINDS[kind]().eval()
    for module in made.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for values, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_var, 0.5)):
                values.data = low + torch.rand_like(values)
            module.running_mean.copy_(0.1 * torch.randn_like(module.running_mean))
    return made


def signals(n: int = 6, seed: int = 1) -> torch.Tensor:
    """Inputs float32 (n, 1, 16)."""
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def says(model: nn.Module, x: torch.Tensor | None = None) -> torch.Tensor:
    """Logits in eval mode."""
    with torch.no_grad():
        return model.eval()(signals() if x is None else x)


class Slopes:
    """Whether a noisy line rises or falls."""

    name, title, data = "slopes", "Slopes", "made here"
    classes = ("falls", "rises")
    metric = Metric(key="accuracy", title="accuracy", unit="%")
    teacher_fit = student_fit = Fit(epochs=4, batch=32, learning_rate=1e-2, bf16=False)

    def folds(self, root: Path | None) -> Sequence[Fold]:
        return [Fold(name="0", train=_slopes(160, 0), validation=_slopes(200, 1), test=_slopes(200, 2))]

    def teacher(self) -> nn.Module:
        return dense()

    def student(self) -> nn.Module:
        return dense()

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return x

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        return {"accuracy": float(np.mean(logits.argmax(1) == examples.labels))}


def _slopes(n: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    lines = np.linspace(-1, 1, SAMPLES) * (2 * labels - 1)[:, None]
    inputs = (lines + rng.normal(0, 1.0, (n, SAMPLES))).astype(np.float32)[:, None]
    return Examples(inputs=inputs, labels=labels, groups=np.array([f"{seed}-{i}" for i in range(n)]))


def lab(*teachers: nn.Module, epochs: float = 4) -> Lab:
    """One fold, seed 0."""
    task = Slopes()
    how = Fit(epochs=epochs, batch=32, learning_rate=1e-2, bf16=False)
    return Lab(task=task, fold=task.folds(None)[0], seed=0, how=how, teachers=teachers)


def candidate(kind: str) -> Candidate:
    """A network that was not trained."""
    return Candidate(network=network(kind))


def table(result: Candidate, title: str) -> dict[str, tuple[Any, ...]]:
    """The rows of a table by their first column, without it."""
    (found,) = [t for t in result.tables if t.title.startswith(title)]
    return {str(row[0]): row[1:] for row in found.rows}
