"""A number as a distribution over bins, so that networks which estimate numbers give logits too.

Trained on a Gaussian around the true value; read as the distribution's mean near its peak. The spread says how sure
the network is. (Imani and White, "Improving Regression Performance with Distributional Losses", ICML 2018.)
"""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.signal import Float32Array, Float64Array


def soft_labels(values: np.ndarray, centres: np.ndarray, sigma: float) -> Float32Array:
    """Gaussian distributions (n, bins) around values (n,)."""
    z = (values[:, None] - centres[None, :]) / sigma
    p = np.exp(-0.5 * z**2)
    return np.asarray(p / np.maximum(p.sum(axis=1, keepdims=True), 1e-12), np.float32)


def expected(logits: Float32Array, centres: np.ndarray, reach: int) -> tuple[Float64Array, Float64Array]:
    """The mean within `reach` bins of the largest probability, and the probability there; both (n,)."""
    e = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    peak = p.argmax(axis=1)
    near = np.abs(np.arange(p.shape[1])[None, :] - peak[:, None]) <= reach
    mass = (p * near).sum(axis=1)
    return (p * near * centres[None, :]).sum(axis=1) / mass, mass
