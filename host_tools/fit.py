"""One training loop for every task: what is learnt comes in as an objective, what is shown as examples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError

M = TypeVar("M", bound=nn.Module)
Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Tick = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How long and how fast: AdamW, one-cycle learning rate, exponential mean of the weights.

    sampling  uniform: every example once an epoch; balanced: every class equally often
    bf16      train in bfloat16 where the processor multiplies it natively
    """

    epochs: float = 20.0
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    mean_decay: float = 0.98
    sampling: Literal["uniform", "balanced"] = "uniform"
    bf16: bool = True

    def __post_init__(self) -> None:
        """Refuse what trains nothing."""
        if not (self.epochs > 0 and self.batch > 0 and self.learning_rate > 0 and 0 <= self.mean_decay < 1):
            raise SettingsError(f"{self}: positive epochs, batch and learning_rate, mean_decay in [0, 1) wanted")


@dataclass(frozen=True, kw_only=True)
class FitChange:
    """What a recipe changes about a task's `Fit`; the rest stays."""

    epochs: float | None = None
    batch: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    mean_decay: float | None = None
    sampling: Literal["uniform", "balanced"] | None = None
    bf16: bool | None = None

    def on(self, base: Fit) -> Fit:
        """`base` with the changes."""
        return replace(base, **{k: v for k, v in vars(self).items() if v is not None})


@dataclass(frozen=True, kw_only=True, eq=False)
class Minibatch:
    """What an objective sees: inputs, labels, soft labels, and which training examples they are."""

    x: torch.Tensor
    labels: torch.Tensor
    soft: torch.Tensor | None
    index: torch.Tensor


class Objective(Protocol):
    """What is minimized."""

    def helpers(self) -> nn.Module | None:
        """Modules that learn along and are thrown away afterwards (adapters), if any."""

    def loss(self, network: nn.Module, batch: Minibatch) -> torch.Tensor:
        """The mean loss of a batch; a scalar."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSet:
    """Training examples as tensors; the loop moves batches to the device."""

    inputs: torch.Tensor
    labels: torch.Tensor
    soft: torch.Tensor | None = None


def fit(
    network: M,
    examples: TrainingSet,
    how: Fit,
    objective: Objective,
    *,
    seed: int,
    augment: Augment | None = None,
    after_step: Callable[[int, int], None] | None = None,
    tick: Tick | None = None,
) -> M:
    """Train `network` in place and return it with the averaged weights, in eval mode, on the CPU.

    after_step  called with the number of steps done and of all, after each (pruning masks hang here); with it the
                weights are those of the last step, not averaged
    Raises SettingsError if the loss stops being a number. The same seed gives the same network on one machine.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network.to(device).train()
    average = copy.deepcopy(network)
    trained = [*network.parameters()]
    helpers = objective.helpers()
    if helpers is not None:
        trained += [*helpers.to(device).train().parameters()]
    n = len(examples.labels)
    steps = max(1, round(how.epochs * n / how.batch))
    optimizer = torch.optim.AdamW(trained, lr=how.learning_rate, weight_decay=how.weight_decay)
    # The schedule divides by the lengths of its two parts, which must not be nothing in very short trainings.
    total = max(steps + 1, 16)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, how.learning_rate, total_steps=total, pct_start=0.2)
    indices = _indices(examples.labels.numpy(), how, np.random.default_rng(seed))
    bf16 = how.bf16 and has_fast_bf16()
    for step in range(steps):
        index = torch.from_numpy(next(indices))
        x = examples.inputs[index]
        if augment is not None:
            x = augment(x, generator)
        batch = Minibatch(
            x=x.to(device),
            labels=examples.labels[index].to(device),
            soft=None if examples.soft is None else examples.soft[index].to(device),
            index=index,
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = objective.loss(network, batch)
        if not torch.isfinite(loss):
            raise SettingsError(f"training loss is {loss.item()} at step {step}; a smaller learning_rate wanted")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 5.0)
        optimizer.step()
        rate.step()
        if after_step is not None:
            after_step(step + 1, steps)
        else:
            _follow(average, network, min(how.mean_decay, (1 + step) / (10 + step)))
        if tick is not None and (step % 10 == 9 or step + 1 == steps):
            tick(step + 1, steps, f"loss {loss.item():.3f}")
    if after_step is None:
        network.load_state_dict(average.state_dict())
    return network.cpu().eval()


def _indices(labels: np.ndarray, how: Fit, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of example numbers, for ever."""
    if how.sampling == "balanced":
        classes = [np.flatnonzero(labels == c) for c in np.unique(labels)]
        while True:
            chosen = rng.integers(len(classes), size=how.batch)
            yield np.array([rng.choice(classes[c]) for c in chosen])
    size = min(how.batch, len(labels))
    while True:
        order = rng.permutation(len(labels))
        # The rest of an epoch that fills no batch is left out: batch norm needs examples, and the next epoch has them.
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics towards the network's."""
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1.0 - decay)
        else:
            mean.copy_(value)


def has_fast_bf16() -> bool:
    """Whether this machine multiplies bfloat16 natively; elsewhere it would be slower than float32."""
    cpu = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or bool(cpu.get("amx_bf16") or cpu.get("avx512_bf16"))
