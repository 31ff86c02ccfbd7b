"""A task whose training goes wrong on its second fold, in the way that its options say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edge_runtime.contract.errors import SourceError
from host_tools.tasks.task import Fold
from tests.toy_task import Waves

LOUD = 100.0


class OddWaves(Waves):
    """Waves that are loud in the second fold, which training refuses, or stumbles over."""

    name = "odd-waves"

    def __init__(self, is_bug: bool = False) -> None:
        super().__init__()
        self._is_bug = is_bug

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """The second one's training examples are loud."""
        first, second = super().folds(root)
        return [first, replace(second, train=replace(second.train, inputs=LOUD * second.train.inputs))]

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """As it is, if it is not loud."""
        if x.abs().max() > LOUD:
            raise ZeroDivisionError("a bug") if self._is_bug else SourceError("an electrode was off")
        return x
