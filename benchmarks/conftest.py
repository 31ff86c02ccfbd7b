"""What every benchmark measures: a bundle, and the same network as a plain windowed fp32 file; on what it ran."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime import probes
from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import Bundle, open_bundle
from edge_runtime.engine.engine import Engine

HERE = Path(__file__).resolve().parent
PACKAGES = ("numpy", "onnxruntime", "ai-edge-litert")
BEFORE = probes.machine_state()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """The conditions of a run, beside what the plugin itself notes: machine, its state, versions, the bundle."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    bundle = open_bundle(shipped())
    output_json["conditions"] = {
        **asdict(probes.machine()),
        "packages": versions,
        "bundle": bundle.id,
        "threads": 1,
        "before": BEFORE.to_json(),
        "after": probes.machine_state().to_json(),
    }


def shipped() -> Path:
    """VITALEDGE_BUNDLE, or the bundle that comes with the project."""
    return Path(os.environ.get("VITALEDGE_BUNDLE", HERE.parent / "deploy" / "bundles" / "ecg-beats"))


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """What is measured."""
    return open_bundle(shipped())


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
