"""Who may teach: the lab's own teachers and any ONNX file that gives logits, checked before training begins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.features import LOGITS, Features, probe
from host_tools.export.plain import export_plain
from host_tools.export.sessions import session
from host_tools.tasks.task import Task

TRIAL = 4  # examples


class OnnxTeacher(nn.Module):
    """An ONNX file with one input and one output as a network that cannot learn.

    Files for a fixed number of examples are called as often as needed. Raises SettingsError for a file that is none
    such, and when called with inputs that it does not take.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Load and check the file."""
        super().__init__()
        self.path = str(path)
        try:
            self._graph = onnx.load(self.path)
            self._session: Any = session(self._graph)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror}); an ONNX file wanted") from error
        except Exception as error:  # the engine's and protobuf's own have no common base
            raise SettingsError(f"{path}: not an ONNX file that ONNX Runtime runs ({_first_line(error)})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise SettingsError(f"{path}: {len(inputs)} inputs and {len(outputs)} outputs; one of each wanted")
        self._input = inputs[0].name
        self._batch = inputs[0].shape[0] if inputs[0].shape and isinstance(inputs[0].shape[0], int) else None
        # Callers ask a network's first parameter where it lives.
        self._place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (n, channels, *size) -> logits (n, classes), without gradients."""
        inputs = np.ascontiguousarray(x.detach().float().cpu().numpy())
        n, size = len(inputs), self._batch or len(inputs)
        parts = []
        for start in range(0, n, size):
            part = inputs[start : start + size]
            part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append(self._run(part))
        return torch.from_numpy(np.concatenate(parts)[:n].astype(np.float32)).to(x.device)

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        if self._session is None:
            self._session = session(self._graph)
        try:
            return np.asarray(self._session.run(None, {self._input: inputs})[0])
        except Exception as error:
            raise SettingsError(f"{self.path} refuses inputs {inputs.shape} ({_first_line(error)})") from error

    def __getstate__(self) -> Mapping[str, Any]:
        """Copies make their own session: the engine's cannot be copied."""
        return {**self.__dict__, "_session": None}


def exported_teacher(teacher: nn.Module, shape: tuple[int, ...]) -> OnnxTeacher:
    """The ONNX file that a network for inputs (n, *shape) exports to, as a teacher."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "teacher.onnx"
        path.write_bytes(export_plain(teacher, shape).SerializeToString())
        return OnnxTeacher(path)


def check_outputs(task: Task, whose: str, logits: torch.Tensor) -> None:
    """Refuse outputs that are not logits (n, classes) of the task."""
    n = len(task.classes)
    if logits.dim() != 2 or logits.shape[1] != n:
        names = ", ".join(task.classes[:6]) + (", ..." if n > 6 else "")
        raise SettingsError(
            f"{task.name}: {whose} gives {tuple(logits.shape[1:])} outputs per example; "
            f"the task has {n} classes ({names})"
        )


def check_teachers(
    task: Task, teachers: Sequence[nn.Module], x: torch.Tensor, layers: Sequence[str] = ()
) -> list[Features]:
    """What every teacher gives for a few training inputs; raises SettingsError naming the one that cannot teach."""
    if not teachers:
        raise SettingsError(f"{task.name}: no teacher; a recipe with teachers wanted, or a teacher's ONNX file")
    found = []
    for i, teacher in enumerate(teachers):
        whose = f"teacher {i + 1}" + (f" ({teacher.path})" if isinstance(teacher, OnnxTeacher) else "")
        features = probe(teacher, x, layers, whose)
        logits = features[LOGITS]
        check_outputs(task, whose, logits)
        if (logits >= 0).all() and torch.allclose(logits.sum(1), torch.ones(len(x)), atol=1e-3):
            raise SettingsError(f"{task.name}: {whose} gives probabilities (rows sum to 1); logits wanted")
        found.append(features)
    return found


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:160]
