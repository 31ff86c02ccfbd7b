"""What a health task is to the toolbox: labelled examples in folds, a teacher, a student, and a score.

A task is one file with one class that honours `Task`. Everything a network says is a row of logits: of classes, or
of the bins of a number (`tasks.bins`), so that every technique works on every task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.fit import Fit


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Labelled examples.

    inputs   float32 (n, channels, *size), what the network and the device see; NaN where a value is missing
    labels   int64 (n,), index into the task's classes
    groups   str (n,), who or what an example belongs to: patient, record, hospital
    soft     float32 (n, classes), a distribution to learn instead of the label; None: the label
    values   float64 (n,), the true number where the task estimates one; None elsewhere
    """

    inputs: Float32Array
    labels: np.ndarray
    groups: np.ndarray
    soft: Float32Array | None = None
    values: np.ndarray | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self.labels)

    def take(self, index: np.ndarray) -> Examples:
        """Those at `index` (integers or a mask)."""
        return Examples(
            inputs=self.inputs[index],
            labels=self.labels[index],
            groups=self.groups[index],
            soft=None if self.soft is None else self.soft[index],
            values=None if self.values is None else self.values[index],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """One way to divide the data; nobody is in two of its parts. Choices are made on `validation`, never on `test`."""

    name: str
    train: Examples
    validation: Examples
    test: Examples


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The one number by which a task's models are compared.

    key    of `Task.score`
    point  how much of it tables call one point
    """

    key: str
    title: str
    unit: str
    larger_is_better: bool = True
    point: float = 0.01

    def points_lost(self, before: float, after: float) -> float:
        """How many points worse `after` is; negative if it is better."""
        return (before - after if self.larger_is_better else after - before) / self.point


class Task(Protocol):
    """A health task. `name` is what recipes call it; `data` says where its records come from."""

    name: str
    title: str
    data: str
    classes: tuple[str, ...]
    metric: Metric
    teacher_fit: Fit
    student_fit: Fit

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """The protocol's folds, in order; raises SettingsError or SourceError naming what is missing or damaged."""

    def teacher(self) -> nn.Module:
        """A new teacher: float32 (n, channels, *size) -> logits (n, classes)."""

    def student(self) -> nn.Module:
        """A new student, with the same inputs and outputs."""

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Training inputs as another recording of the same might have shown them; same shape."""

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """Figures of logits (n, classes); NaN where the examples do not determine one."""


def check_folds(task: Task, folds: Sequence[Fold]) -> None:
    """Refuse folds that cannot be learnt from or tested on.

    An empty part, a class without an example in one (where examples have labels, not `soft`), a wrong shape, infinite
    inputs, somebody in two parts.
    """
    n_classes = len(task.classes)
    for fold in folds:
        where = f"{task.name}, fold {fold.name}"
        for name, part in (("train", fold.train), ("validation", fold.validation), ("test", fold.test)):
            if len(part) == 0:
                raise SettingsError(f"{where}: no {name} example")
            if not len(part.inputs) == len(part.labels) == len(part.groups):
                raise SettingsError(
                    f"{where}: {len(part.inputs)} {name} inputs, {len(part.labels)} labels, {len(part.groups)} groups"
                )
            if part.inputs.dtype != np.float32 or part.inputs.shape[1:] != fold.train.inputs.shape[1:]:
                raise SettingsError(f"{where}: {name} inputs are {part.inputs.dtype} {part.inputs.shape[1:]}")
            if part.labels.min() < 0 or part.labels.max() >= n_classes:
                raise SettingsError(f"{where}: {name} labels reach {part.labels.max()}; 0 to {n_classes - 1} wanted")
            counts = np.bincount(part.labels, minlength=n_classes)
            empty = [task.classes[i] for i in np.flatnonzero(counts == 0)]
            if empty and part.soft is None:
                raise SettingsError(f"{where}: no {name} example of class {', '.join(empty)}")
            if np.isinf(part.inputs).any():
                i, *at = np.argwhere(np.isinf(part.inputs))[0].tolist()
                raise SettingsError(
                    f"{where}: {name} input {i} holds {part.inputs[(i, *at)]} at {tuple(at)}; "
                    "finite numbers wanted, and NaN where one is missing"
                )
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            shared = set(getattr(fold, one).groups) & set(getattr(fold, other).groups)
            if shared:
                raise SettingsError(f"{where}: {min(shared)} is in {one} and in {other}")
