"""What a compression technique is: a step that takes a candidate and gives a smaller one, with what it cost.

A technique is a frozen dataclass with the keys a recipe may set and an `apply`. It sees the training and validation
examples of one fold and never the test examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import onnx
import torch
from torch import nn

from edge_runtime.contract.signal import Float32Array
from host_tools.compress.soft_labels import Keep
from host_tools.fit import Fit, FitChange, Objective, Tick, TrainingSet, fit
from host_tools.measure.logits import graph_logits, network_logits
from host_tools.tasks.task import Examples, Fold, Task


@dataclass(frozen=True, kw_only=True)
class Table:
    """Something a step found out, for the report: rows of numbers and words under column names.

    A table with `x` and `y` names columns that are drawn as a curve, one line per value of `line`.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]
    x: str = ""
    y: str = ""
    line: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A model on its way.

    network  in eval mode on the CPU; what the next step works on
    graph    the ONNX file's content, from the step on that leaves torch (quantization, fp16); None before
    tables   what the steps so far found out
    """

    network: nn.Module
    graph: onnx.ModelProto | None = None
    tables: tuple[Table, ...] = ()

    def then(self, network: nn.Module, *tables: Table) -> Candidate:
        """The next candidate, still in torch."""
        return replace(self, network=network, graph=None, tables=(*self.tables, *tables))

    def as_graph(self, graph: onnx.ModelProto, *tables: Table) -> Candidate:
        """The next candidate, out of torch."""
        return replace(self, graph=graph, tables=(*self.tables, *tables))


@dataclass(frozen=True, kw_only=True, eq=False)
class Lab:
    """Where a step works: one task, one fold, one seed.

    teachers  trained on this fold's training examples; empty where the recipe has none
    how       how training steps train, unless they say otherwise
    keep      where what the teachers say of the training examples is kept; None: nowhere
    """

    task: Task
    fold: Fold
    seed: int
    how: Fit
    teachers: Sequence[nn.Module] = ()
    keep: Keep | None = None
    tick: Tick = field(default=lambda done, total, note: None)

    def fit(
        self, network: nn.Module, objective: Objective, how: Fit | FitChange | None = None, **more: object
    ) -> nn.Module:
        """Train `network` in place on the fold's training examples; `more` goes to `host_tools.fit.fit`."""
        return fit(
            network,
            training_set(self.fold.train),
            how.on(self.how) if isinstance(how, FitChange) else how or self.how,
            objective,
            seed=self.seed,
            augment=self.task.augment,
            tick=self.tick,
            **more,  # type: ignore[arg-type]
        )

    def validate(self, candidate: Candidate) -> Mapping[str, float]:
        """The task's figures on the fold's validation examples, of the graph where there is one.

        All are NaN for a model that does not say numbers.
        """
        examples = self.fold.validation
        if candidate.graph is not None:
            logits = graph_logits(candidate.graph, examples.inputs)
        else:
            logits = network_logits(candidate.network, examples.inputs)
        figures = self.task.score(np.nan_to_num(logits), examples)
        return figures if np.isfinite(logits).all() else dict.fromkeys(figures, np.nan)

    def teacher_logits(self) -> Float32Array:
        """The teachers' mean log-probabilities on the training examples as they are, float32 (n, classes)."""
        logits = [network_logits(t, self.fold.train.inputs) for t in self.teachers]
        return mean_log_probabilities(logits)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """What is there before anything is trained.

    inputs    a few of the training examples'
    teachers  one untrained network for all of the study's; empty where it has none, None where training decides what
              it will look like
    """

    task: Task
    inputs: Float32Array
    teachers: Sequence[nn.Module] | None = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return tuple(self.inputs.shape[1:])


@runtime_checkable
class Checked(Protocol):
    """A step that can say of an untrained network that it will not fit."""

    def preflight(self, network: nn.Module, trial: Trial) -> nn.Module | None:
        """The untrained network in the shape that the step leaves; None where only training tells it.

        Raises SettingsError for settings that this network cannot have; `network` stays as it was.
        """


class Step(Protocol):
    """A technique with its settings."""

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """The next candidate; raises SettingsError for settings that this model or task cannot have."""


def mean_log_probabilities(logits: Sequence[Float32Array]) -> Float32Array:
    """Logits of the mean of several models' probabilities; one model's logits up to a constant per row."""
    mean = np.mean([torch.softmax(torch.from_numpy(x), -1).numpy() for x in logits], axis=0)
    return np.asarray(np.log(np.maximum(mean, 1e-12)), np.float32)


def training_set(examples: Examples) -> TrainingSet:
    """Examples as tensors."""
    return TrainingSet(
        inputs=torch.from_numpy(np.ascontiguousarray(examples.inputs)),
        labels=torch.from_numpy(examples.labels.astype(np.int64)),
        soft=None if examples.soft is None else torch.from_numpy(examples.soft),
    )
