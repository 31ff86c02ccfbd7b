"""The toy waves, of people every second of whom calls slow waves middle and middle waves slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from toy_task import Waves

from host_tools.tasks.task import Examples, Fold


class People(Waves):
    """Six people of 20 test examples each in both folds."""

    name = "people"

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """Only the test people have labels of their own; training sees the shared ones."""
        return [replace(f, test=_people(f.test, f.name)) for f in super().folds(root)]


def _people(test: Examples, fold: str) -> Examples:
    person = np.arange(len(test)) // 20
    odd = (person % 2 == 1) & (test.labels < 2)
    return replace(
        test,
        labels=np.where(odd, 1 - test.labels, test.labels),
        groups=np.array([f"{fold}.person{p}" for p in person]),
    )
