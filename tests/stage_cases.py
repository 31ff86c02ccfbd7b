"""A stage and its food: what the laws are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tiny_models

from edge_runtime.contract.signal import Block, Float32Array, Frames

Item = Any


@dataclass(frozen=True)
class Case:
    """A stage and its food.

    make    gives a new stage
    length  of the input, in samples or frames
    piece   (start, stop) -> one item that holds that part of the input
    unit    what a cut must be a multiple of
    has_patient  the stage keeps the patient across a gap, so only positions are compared behind one
    is_last_only only the last output is comparable, because each item gives one
    has_end  what waits is asked for at the end
    """

    make: Callable[[], Any]
    length: int
    piece: Callable[[int, int], Item]
    has_patient: bool = False
    is_last_only: bool = False
    has_end: bool = False

    def cut(self, sizes: Sequence[int]) -> list[Item]:
        """The whole input in pieces whose sizes repeat."""
        items, start, i = [], 0, 0
        while start < self.length:
            stop = min(self.length, start + sizes[i % len(sizes)])
            items.append(self.piece(start, stop))
            start, i = stop, i + 1
        return items

    def run(self, stage: Any, items: Sequence[Item]) -> list[object]:
        """All outputs, comparable."""
        outputs = [out for item in items for out in stage.feed(item)]
        finish = getattr(stage, "finish", None) if self.has_patient or self.has_end else None
        return self.flat(outputs + (finish() if finish else []))

    def flat(self, outputs: Sequence[Any]) -> list[object]:
        """One entry a sample, row, beat or value."""
        if self.is_last_only:
            return list(outputs[-1:])
        return [entry for out in outputs for entry in _entries(out)]


def _entries(out: Any) -> list[object]:
    if isinstance(out, Block):
        return [(out.start + i, tuple(row)) for i, row in enumerate(out.samples.tolist())]
    if isinstance(out, Frames):
        return [(out.start + i * tiny_models.TIMING.stride, tuple(row)) for i, row in enumerate(out.scores.tolist())]
    return [out]


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.copy()
    view.flags.writeable = False
    return view


def blocks_case(make: Callable[[], Any], samples: Float32Array, first: int = 0, **more: bool) -> Case:
    frozen = read_only(samples.reshape(len(samples), -1))
    return Case(make, len(frozen), lambda a, b: Block(start=first + a, samples=frozen[a:b]), **more)
