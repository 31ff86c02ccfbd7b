"""What every benchmark measures: a bundle, and the same network as a plain windowed fp32 file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_runtime.contract.bundle import Bundle, open_bundle

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
