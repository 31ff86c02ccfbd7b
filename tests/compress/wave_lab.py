"""A lab on waves that trains in a moment, and what is compared of its students."""

from __future__ import annotations

import torch
from torch import nn
from toy_task import Waves

from host_tools.compress.distill_step import Distill
from host_tools.compress.mutual import Mutual
from host_tools.compress.step import Candidate, Lab, training_set
from host_tools.compress.train import Train
from host_tools.fit import Fit, Minibatch
from host_tools.tasks.task import Fold

SHORT = Fit(epochs=1, batch=32, learning_rate=1e-2, mean_decay=0.5, bf16=False)
TASK = Waves(width=3)
FOLD = TASK.folds(None)[0]
WRONG_CLASSES = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


def new(seed: int, kind: str = "student") -> nn.Module:
    torch.manual_seed(seed)
    return getattr(TASK, kind)().eval()


def lab(*teachers: nn.Module, task: Waves = TASK, fold: Fold = FOLD) -> Lab:
    return Lab(task=task, fold=fold, seed=3, how=SHORT, teachers=teachers)


def trained(step: Distill | Train | Mutual, where: Lab) -> dict[str, torch.Tensor]:
    return step.apply(Candidate(network=new(0)), where).network.state_dict()


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=tolerance, rtol=0.0, msg=lambda m, n=name: f"{n}: {m}")


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return any(not torch.allclose(v, other[k], atol=1e-3) for k, v in one.items())


def batch_of(n: int, soft: torch.Tensor | None = None) -> Minibatch:
    examples = training_set(FOLD.train)
    index = torch.arange(0, 2 * n, 2)
    return Minibatch(x=examples.inputs[index], labels=examples.labels[index], soft=soft, index=index)
