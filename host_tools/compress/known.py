"""Steps by the name that a recipe gives them in `do`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, cast

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.guard import Guard
from host_tools.compress.step import Step

STEPS = {
    "distill": "host_tools.compress.distill_step:Distill",
    "factorize": "host_tools.compress.lowrank:Factorize",
    "half": "host_tools.compress.half:Half",
    "mutual": "host_tools.compress.mutual:Mutual",
    "prune-channels": "host_tools.compress.channels:PruneChannels",
    "prune-gradual": "host_tools.compress.gradual:PruneGradual",
    "prune-sensitive": "host_tools.compress.sensitivity:PruneSensitive",
    "prune-weights": "host_tools.compress.magnitude:PruneWeights",
    "quantize": "host_tools.compress.ptq:Quantize",
    "quantize-dynamic": "host_tools.compress.ptq:QuantizeDynamic",
    "train": "host_tools.compress.train:Train",
    "train-quantized": "host_tools.compress.qat:TrainQuantized",
}


LEAVE_TORCH = frozenset({"half", "quantize", "quantize-dynamic", "train-quantized"})  # each is a row's last step
ONLY_TRAIN = frozenset({"train", "mutual"})  # the network looks as before


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A step of a recipe.

    text    what its result depends on: its name and all its settings
    module  the module that does it
    """

    name: str
    step: Step
    guard: Guard | None
    text: str
    module: str


def plan_step(table: dict[str, object], where: str) -> Planned:
    """A recipe's table `{ do = "NAME", ... }` as a step; raises SettingsError naming the key that is wrong."""
    rest = dict(table)
    name, guard = rest.pop("do", None), rest.pop("guard", None)
    if not isinstance(name, str) or name not in STEPS:
        raise SettingsError(f"{where}.do is {name!r}; one of {', '.join(sorted(STEPS))} wanted")
    module, _, cls = STEPS[name].partition(":")
    kind: Any = getattr(importlib.import_module(module), cls)
    step = cast(Step, build(kind, rest, where, SettingsError))
    held = None if guard is None else build(Guard, guard, f"{where}.guard", SettingsError)
    return Planned(name=name, step=step, guard=held, text=f"{name} {step!r} {held!r}", module=module)
