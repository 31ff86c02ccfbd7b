"""What every stepper owes: its state is what copying gives, is carried from step to step, and forgotten by `reset`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from edge_runtime.contract.manifest import Graph, State

Tensors = dict[str, np.ndarray]
N_STEPS = 9  # odd, so that a second run begins on the other of two state buffers


class Stepper(Protocol):
    """A graph with its state, bound to buffers."""

    @property
    def inputs(self) -> Tensors: ...

    @property
    def outputs(self) -> Tensors: ...

    def step(self) -> None: ...

    def reset(self) -> None: ...


def check_state(stepper: Stepper, copying: Callable[[Tensors], Tensors], graph: Graph) -> None:
    """Hold a stepper against `copying`, the library's own call with the state copied by `tail`."""
    rng = np.random.default_rng(0)
    steps = [{t.name: rng.standard_normal(t.shape).astype(t.dtype) for t in graph.inputs} for _ in range(N_STEPS)]

    def run() -> list[Tensors]:
        rows = []
        for inputs in steps:
            for name, value in inputs.items():
                stepper.inputs[name][...] = value
            stepper.step()
            rows.append({k: v.copy() for k, v in stepper.outputs.items()})
        return rows

    first = run()
    for given, inputs in zip(first, steps, strict=True):
        for name, wanted in copying(inputs).items():
            np.testing.assert_array_equal(given[name], wanted)
    carried = run()
    stepper.reset()
    again = run()
    name = graph.outputs[0].name
    assert not np.array_equal(carried[0][name], first[0][name])
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a[name], b[name])


def tail(state: State, value: np.ndarray) -> np.ndarray:
    """What of an output is the next input, by copying."""
    for axis, (total, kept) in enumerate(zip(state.output_shape, state.shape, strict=True)):
        value = np.take(value, range(total - kept, total), axis=axis)
    return value
