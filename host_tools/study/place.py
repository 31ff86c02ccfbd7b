"""Where a study's models and cells lie, and the task and folds that they are of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from host_tools.study.personal import Personal
from host_tools.study.plan import Options
from host_tools.study.sources import source_digest
from host_tools.tasks.known import open_task
from host_tools.tasks.task import Fold, Task, check_folds


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study runs: the data root, and the folder that keeps models and cells."""

    root: Path | None
    out: Path

    def of(self, options: str) -> Path:
        """The folder of rows with these task options: they may make other networks of the same examples."""
        if options == "{}":
            return self.out
        return self.out / f"options-{hashlib.sha256(options.encode()).hexdigest()[:8]}"


def options_key(options: Options) -> str:
    """A task's options as `Place.of` takes them: JSON, sorted."""
    return json.dumps(options, sort_keys=True)


@cache
def task_and_folds(name: str, options: str, root: Path | None) -> tuple[Task, Sequence[Fold]]:
    """A task with these options, and its folds, which fit it; raises SettingsError or SourceError."""
    task = open_task(name, json.loads(options))
    folds = task.folds(root)
    check_folds(task, folds)
    return task, folds


def cell_files(home: Path, key: str) -> dict[str, Path]:
    """What is kept of a cell in the folder of its options: graph, logits of the test examples and their hash, model."""
    cells = home / "cells"
    return {
        "onnx": cells / f"{key}.onnx",
        "logits": cells / f"{key}.npy",
        "tested": cells / f"{key}.tested",
        "model": home / "models" / f"{key}.pt",
    }


def personal_file(home: Path, key: str, how: Personal) -> Path:
    """What is kept of a cell's personal last layers."""
    text = f"{how!r} {source_digest('host_tools.study.personal')}"
    return home / "cells" / f"{key}-personal-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"
