"""What is refused before anything is trained: networks that do not fit their task, steps that do not fit a network."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.teachers import OnnxTeacher, check_outputs
from host_tools.measure.logits import network_logits
from host_tools.study.plan import Row, Study
from host_tools.tasks.task import Examples, Fold, Task

TRIAL = 64  # examples; those with missing values first


@runtime_checkable
class Checked(Protocol):
    """A step that can say of an untrained network that it will not fit."""

    def preflight(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        """Raise SettingsError for settings that this network cannot have."""


def preflight(study: Study, task: Task, fold: Fold, rows: list[Row]) -> None:
    """Raise SettingsError naming the network, row and step that cannot be."""
    x = _trial(fold.train)
    kinds = {study.origin(row).network for row in rows} | ({"teacher"} if study.teacher else set())
    networks = {kind: task.teacher() if kind == "teacher" else task.student() for kind in sorted(kinds)}
    for kind, network in networks.items():
        logits = network_logits(network.eval(), x)
        check_outputs(task, f"the {kind} network", torch.from_numpy(logits))
        if not np.isfinite(logits).all():
            n = int(np.isnan(x).any(axis=tuple(range(1, x.ndim))).sum())
            raise SettingsError(
                f"{task.name}: the {kind} network gives no numbers for some training inputs ({n} of the {len(x)} tried "
                "have missing values); the network must fill them in, see host_tools.nets.missing"
            )
    for row in rows:
        _steps(study, task, row, networks[study.origin(row).network], x)


def _steps(study: Study, task: Task, row: Row, network: nn.Module, x: np.ndarray) -> None:
    """The first step that changes the shape of the network is tried on the untrained one; so are ONNX teachers."""
    for step in study.steps_of(row):
        where = f"row {row.name!r}, step {step.name!r}"
        for path in getattr(step.step, "onnx", None) or ():
            logits = OnnxTeacher(path)(torch.from_numpy(x))
            check_outputs(task, f"teacher {path}", logits)
        sources = (study.teacher, getattr(step.step, "onnx", None), getattr(step.step, "file", None))
        if step.name == "distill" and not any(sources):
            raise SettingsError(f"{where}: no teacher; a [teacher] table or an ONNX file wanted")
        there = len(study.teacher.seeds) if study.teacher else 0
        wanted = getattr(step.step, "n_teachers", 0)
        if wanted > there:
            raise SettingsError(f"{where}: n_teachers is {wanted}; the study has {there}")
        if isinstance(step.step, Checked):
            try:
                cast(Checked, step.step).preflight(network, x.shape[1:])
            except SettingsError as error:
                raise SettingsError(f"{where}: {error}") from error
            return


def _trial(examples: Examples) -> np.ndarray:
    """A few training inputs, those with missing values first."""
    missing = np.isnan(examples.inputs).any(axis=tuple(range(1, examples.inputs.ndim)))
    return examples.inputs[np.argsort(~missing, kind="stable")[:TRIAL]]
