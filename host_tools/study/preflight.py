"""What is refused before anything is trained: networks that do not fit their task, steps that do not fit a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.compress.guard import refuse_unreported
from host_tools.compress.known import LEAVE_TORCH, ONLY_TRAIN, Planned
from host_tools.compress.step import Checked, Trial
from host_tools.compress.teachers import OnnxTeacher, check_outputs
from host_tools.measure.logits import network_logits
from host_tools.study.plan import Row, Study
from host_tools.tasks.task import Examples, Fold, Task

TRIAL = 64  # examples; those with missing values first


def preflight(study: Study, task: Task, folds: Sequence[Fold], rows: list[Row]) -> None:
    """Raise SettingsError naming the network, row and step that cannot be."""
    kinds = {study.origin(row).network for row in rows} | ({study.teacher.network} if study.teacher else set())
    networks = {str(kind): (task.teacher() if kind == "teacher" else task.student()).eval() for kind in sorted(kinds)}
    x = trial_inputs(folds[0].train)
    for kind, network in networks.items():
        check_outputs(task, f"the {kind} network", torch.from_numpy(network_logits(network, x)))
    for fold in folds:
        for name, part in (("training", fold.train), ("validation", fold.validation), ("test", fold.test)):
            if part is folds[0].train or np.isnan(part.inputs).any():
                _numbers(f"{task.name}, fold {fold.name}", networks, name, part)
    teachers: list[nn.Module] | None = []
    if study.teacher is not None:
        alone = _Trials(study, Trial(task=task, inputs=x), folds[0].validation)
        taught = alone.run(study.teacher_steps(), networks[study.teacher.network], "teacher")
        teachers = None if taught is None else [taught]
    trials = _Trials(study, Trial(task=task, inputs=x, teachers=teachers), folds[0].validation)
    for row in rows:
        trials.run(study.steps_of(row), networks[study.origin(row).network], f"row {row.name!r}")


def trial_inputs(examples: Examples) -> Float32Array:
    """A few inputs: for every channel the first that misses a value in it, others that miss some, others."""
    values = examples.inputs.reshape(*examples.inputs.shape[:2], -1)
    missing = np.asarray(np.isnan(values).any(axis=2))
    first = missing.argmax(axis=0)[missing.any(axis=0)]
    order = np.argsort(~missing.any(axis=1), kind="stable")
    chosen = list(dict.fromkeys([*first.tolist(), *order[:TRIAL].tolist()]))
    return examples.inputs[chosen[: max(TRIAL, len(first))]]


def _numbers(where: str, networks: Mapping[str, nn.Module], name: str, part: Examples) -> None:
    """Refuse inputs that a network turns into no numbers."""
    n = int(np.isnan(part.inputs).reshape(len(part), -1).any(axis=1).sum())
    for kind, network in networks.items():
        if not np.isfinite(network_logits(network, trial_inputs(part))).all():
            raise SettingsError(
                f"{where}: the {kind} network gives no numbers for some {name} inputs ({n} of {len(part)} have missing "
                "values, NaN); the network must fill them in, see host_tools.nets.missing"
            )


@dataclass(eq=False)
class _Trials:
    """Steps tried on untrained networks; rows with the same first steps share what these leave."""

    study: Study
    trial: Trial
    validation: Examples
    figures: Mapping[str, float] | None = None
    known: dict[tuple[nn.Module, str], nn.Module | None] = field(default_factory=dict)

    def run(self, steps: Iterable[Planned], network: nn.Module, whose: str) -> nn.Module | None:
        """What the steps leave; None from the one on whose result hangs on training."""
        now: nn.Module | None = network
        file_since = ""
        for step in steps:
            where = f"{whose}, step {step.name!r}"
            if file_since:
                raise SettingsError(
                    f"{where}: the model is a file since step {file_since!r}; that step at the end wanted"
                )
            file_since = step.name if step.name in LEAVE_TORCH else ""
            self._teachers(step, where)
            self._guard(step, network, where)
            if now is not None and step.name not in ONLY_TRAIN:
                now = self._tried(step, now, where)
        return now

    def _tried(self, step: Planned, network: nn.Module, where: str) -> nn.Module | None:
        key = (network, step.text)
        if key not in self.known:
            try:
                self.known[key] = step.step.preflight(network, self.trial) if isinstance(step.step, Checked) else None
            except SettingsError as error:
                raise SettingsError(f"{where}: {error}") from error
        return self.known[key]

    def _guard(self, step: Planned, network: nn.Module, where: str) -> None:
        """Refuse a guard on a figure that the task does not report."""
        if step.guard is None:
            return
        task = self.trial.task
        if self.figures is None:
            self.figures = task.score(network_logits(network, self.validation.inputs), self.validation)
        try:
            refuse_unreported(step.guard, task.metric.key, self.figures)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from error

    def _teachers(self, step: Planned, where: str) -> None:
        """Refuse a step that has not the teachers it asks for."""
        onnx, part = getattr(step.step, "onnx", None) or (), self.study.teacher
        for path in onnx:
            check_outputs(self.trial.task, f"teacher {path}", OnnxTeacher(path)(torch.from_numpy(self.trial.inputs)))
        if step.name == "distill" and not any((part, onnx, getattr(step.step, "file", None))):
            raise SettingsError(f"{where}: no teacher; a [teacher] table or an ONNX file wanted")
        if getattr(step.step, "teach", False) and part is None:
            raise SettingsError(f"{where}: teach is true; the study has no [teacher] table")
        there, wanted = len(part.seeds) if part else 0, getattr(step.step, "n_teachers", 0)
        if wanted > there:
            raise SettingsError(f"{where}: n_teachers is {wanted}; the study has {there}")
