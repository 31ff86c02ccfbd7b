"""One loaded graph for many streams, where it keeps no state: memory and time to load are spent once."""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.manifest import Graph
from edge_runtime.engine.engine import Engine, Stepper


class SharedEngine:
    """An engine whose graphs without state are loaded once; for steppers that run in turns, in one thread."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.version, self.provider = engine.name, engine.version, engine.provider
        self._engine = engine
        self._loaded: dict[tuple[str, str], Stepper] = {}

    def load(self, bundle: Bundle, graph: Graph) -> Stepper:
        """A stepper of its own if the graph keeps state; else inputs of its own for the one that all share."""
        if graph.states:
            return self._engine.load(bundle, graph)
        key = (bundle.id, graph.file)
        if key not in self._loaded:
            self._loaded[key] = self._engine.load(bundle, graph)
        return _Turn(self._loaded[key])


class _Turn:
    """Inputs of one stream for a stepper that others use as well; outputs are read before the next one steps."""

    def __init__(self, shared: Stepper) -> None:
        self.inputs = {name: np.zeros_like(array) for name, array in shared.inputs.items()}
        self.outputs = shared.outputs
        self._shared = shared
        self._pairs = [(shared.inputs[name], array) for name, array in self.inputs.items()]

    def step(self) -> None:
        """Run the graph once over these inputs."""
        for theirs, own in self._pairs:
            np.copyto(theirs, own)
        self._shared.step()

    def reset(self) -> None:
        """There is no state to put back."""
