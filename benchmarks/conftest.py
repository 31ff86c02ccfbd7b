"""What every benchmark measures: a bundle, and the same network as a plain windowed fp32 file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.engine.engine import Engine

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """VITALEDGE_BUNDLE, or the one that comes with the project."""
    default = HERE.parent / "deploy" / "bundles" / "ecg-beats"
    return open_bundle(Path(os.environ.get("VITALEDGE_BUNDLE", default)))


@pytest.fixture(scope="session")
def window_model() -> Path:
    """VITALEDGE_WINDOW, or the shipped student's fp32 weights over a 10 s window: lifted to 2-D, no state."""
    return Path(os.environ.get("VITALEDGE_WINDOW", HERE / "models" / "ecg-beats-window-fp32.onnx"))


def step_of(bundle: Bundle, engine: Engine) -> Callable[[], None]:
    """A step over noise that stays where it is read."""
    graph = bundle.manifest.graph("trunk")
    stepper = engine.load(bundle, graph)
    hop = stepper.inputs[graph.inputs[0].name]
    hop[...] = np.random.default_rng(1).standard_normal(hop.shape)
    return stepper.step


@pytest.fixture
def step(bundle: Bundle) -> Callable[[], None]:
    """One 25-sample step of the bundle's trunk, state carried."""
    return step_of(bundle, open_engine())
