"""Tasks by name; a user's own task is a file and a class, `path/to/mine.py:MyTask`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from edge_runtime.contract.errors import SettingsError
from host_tools.tasks.task import Task

TASKS = {
    "breast-cancer": "host_tools.tasks.breast_cancer:BreastCancer",
    "chest-xray": "host_tools.tasks.chest_xray:ChestXray",
    "ecg-beats-oracle": "host_tools.tasks.ecg_beats_oracle:EcgBeatsOracle",
    "ecg-rhythm": "host_tools.tasks.ecg_rhythm:EcgRhythm",
    "heart-disease": "host_tools.tasks.heart_disease:HeartDisease",
    "heart-disease-hospitals": "host_tools.tasks.heart_disease:HeartDiseaseHospitals",
    "icu-mortality": "host_tools.tasks.icu_mortality:IcuMortality",
    "ppg-heart-rate": "host_tools.tasks.ppg_heart_rate:PpgHeartRate",
    "ppg-respiration": "host_tools.tasks.ppg_respiration:PpgRespiration",
}


def open_task(name: str, options: Mapping[str, object]) -> Task:
    """The task called `name`, made with `options`; raises SettingsError naming what exists."""
    cls = _class(name)
    known = [p for p in inspect.signature(cls).parameters]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise SettingsError(f"task {name}: unknown option '{unknown[0]}'; options are {', '.join(known) or 'none'}")
    task = cls(**options)
    missing = [m for m in ("name", "classes", "metric", "folds", "teacher", "student", "score") if not hasattr(task, m)]
    if missing:
        raise SettingsError(
            f"task {name}: {cls.__name__} has no '{missing[0]}'; it must honour host_tools.tasks.task.Task"
        )
    return cast(Task, task)


def module_of(name: str) -> str:
    """The module, or the file, that a task is written in."""
    return TASKS[name].partition(":")[0] if name in TASKS else name.rpartition(":")[0]


def _class(name: str) -> Any:
    if name in TASKS:
        module, _, cls = TASKS[name].partition(":")
        return getattr(importlib.import_module(module), cls)
    file, _, cls = name.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise SettingsError(f"task is {name!r}; FILE.py:CLASS or one of {', '.join(sorted(TASKS))} wanted")
    loaded = _load(path)
    if not hasattr(loaded, cls):
        raise SettingsError(f"task {name}: {path} has no class {cls}")
    return getattr(loaded, cls)


def _load(path: Path) -> ModuleType:
    """A user's file as a module, once a process: its networks are kept by the name of their class."""
    known = f"vitaledge_task_{path.stem}"
    found = sys.modules.get(known)
    if found is not None and found.__file__ == str(path.resolve()):
        return found
    spec = importlib.util.spec_from_file_location(known, path.resolve())
    if spec is None or spec.loader is None:
        raise SettingsError(f"task {path}: not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[known] = loaded
    spec.loader.exec_module(loaded)
    return loaded
