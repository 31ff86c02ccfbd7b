"""A number as a distribution over bins, so that networks which estimate numbers give logits too.

Trained on a Gaussian around the true value; read as the distribution's mean near its peak, by the device's own
arithmetic. The spread says how sure the network is. (Imani and White, "Improving Regression Performance with
Distributional Losses", ICML 2018.)
"""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.logits import expected
from edge_runtime.contract.signal import Float32Array

__all__ = ["expected", "soft_labels"]


def soft_labels(values: np.ndarray, centres: np.ndarray, sigma: float) -> Float32Array:
    """Gaussian distributions (n, bins) around values (n,)."""
    z = (values[:, None] - centres[None, :]) / sigma
    p = np.exp(-0.5 * z**2)
    return np.asarray(p / np.maximum(p.sum(axis=1, keepdims=True), 1e-12), np.float32)
