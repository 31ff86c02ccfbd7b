"""What logits say: probabilities of classes, or a number from bins with how much of the distribution is near it.

One implementation for training's figures and for the device's readings.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.contract.signal import Float32Array, Float64Array


def probabilities(logits: Float32Array) -> Float64Array:
    """Softmax of each row; float64, the shape of `logits` (n, classes)."""
    e = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def expected(logits: Float32Array, centres: np.ndarray, reach: int) -> tuple[Float64Array, Float64Array]:
    """The mean within `reach` bins of the largest probability, and the probability there; both (n,).

    Source: the mean of a histogram as in Imani and White, "Improving Regression Performance with Distributional
    Losses", ICML 2018; taken near the peak, so that a second, far peak does not pull it.
    """
    p = probabilities(logits)
    peak = p.argmax(axis=1)
    near = np.abs(np.arange(p.shape[1])[None, :] - peak[:, None]) <= reach
    mass = (p * near).sum(axis=1)
    return (p * near * centres[None, :]).sum(axis=1) / mass, mass
