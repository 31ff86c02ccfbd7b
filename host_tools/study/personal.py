"""A last layer of each person's own, from their first labelled examples, compared with the shared one on the rest.

All that lies before the last linear layer stays as it is, so that a person's layer is a multinomial logistic regression
on fixed features. It begins at the shared weights and is held to them:

    sum over the first examples of the cross-entropy  +  pull / 2 * |weights - shared weights|^2

by gradient descent on all first examples at once. The problem is convex: with many epochs the result is the one best
layer, that of a Gaussian prior around the shared weights; few epochs hold it back further.

Sources: patients who adapt a shared classifier by a few of their own beats: de Chazal and Reilly, "A Patient-Adapting
Heartbeat Classifier Using ECG Morphology and Heartbeat Interval Features", IEEE Trans Biomed Eng 53(12), 2006. The pull
towards shared weights: Evgeniou and Pontil, "Regularized Multi-Task Learning", KDD 2004.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array, Float64Array
from host_tools.compress.step import Table
from host_tools.measure.logits import network_logits
from host_tools.study.result import Estimate
from host_tools.study.statistics import paired, pooled
from host_tools.tasks.task import Examples, Metric

if TYPE_CHECKING:
    from host_tools.study.chains import Link

GAIN = "personal_gain"
CLOSE = 1e-4  # relative; what a sum of float32 in another order may differ by
Score = Callable[[np.ndarray, Examples], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Personal:
    """How last layers are made personal.

    first          labelled examples of each group that its layer learns from, in the task's order; the others are
                   scored, and groups without others are left out
    pull           towards the shared weights
    epochs         steps of gradient descent
    learning_rate  above 0, at most 1: as a share of the largest step that is certain to descend
    """

    first: int
    pull: float = 1.0
    epochs: int = 300
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what learns nothing or need not converge."""
        if self.first < 1 or self.epochs < 1 or not self.pull >= 0 or not 0 < self.learning_rate <= 1:
            raise SettingsError(
                f"personal is {self}; first and epochs of 1 or more, pull of 0 or more, learning_rate above 0 and "
                "at most 1 wanted"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Logits of one model on the examples that no personal layer learnt from.

    index   int64 (n,), which of the fold's test examples
    before  float32 (n, classes), with the shared layer
    after   float32 (n, classes), with that of the example's group
    """

    index: np.ndarray
    before: Float32Array
    after: Float32Array


def compare(how: Personal, row: str, steps: Sequence[str], link: Link, test: Examples) -> Compared:
    """Make every group of the test examples its own layer; raises SettingsError for a model without one to adapt.

    steps  names of those that made the model
    """
    if link.candidate.graph is not None:
        done = [s for s in steps if not any(r.startswith(f"{s}: ") for r in link.refused)]
        raise SettingsError(
            f"row {row!r}: personal wants a network to adapt; step {done[-1]!r} left only a graph, so leave it out here"
        )
    features, shared = last_layer(link.candidate.network, test.inputs, row)
    target = np.eye(shared.shape[1])[test.labels] if test.soft is None else test.soft
    index, after = [], []
    for name in dict.fromkeys(test.groups.tolist()):
        of = np.flatnonzero(test.groups == name)
        known, rest = of[: how.first], of[how.first :]
        if len(rest):
            own = personal_weights(features[known], target[known], shared, how)
            index.append(rest)
            after.append(features[rest] @ own)
    if not index:
        most = max(np.unique(test.groups, return_counts=True)[1])
        raise SettingsError(f"row {row!r}: personal.first is {how.first}; fewer than {most}, the largest group, wanted")
    chosen = np.concatenate(index)
    return Compared(
        index=chosen,
        before=(features[chosen] @ shared).astype(np.float32),
        after=np.concatenate(after).astype(np.float32),
    )


def last_layer(network: nn.Module, inputs: Float32Array, row: str) -> tuple[Float64Array, Float64Array]:
    """Features (n, d + 1), the last of them 1, and weights (d + 1, classes) whose product is the network's logits.

    Raises SettingsError if no linear layer's output is the network's.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    for layer in reversed(layers):
        seen: list[np.ndarray] = []
        hook = layer.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0].detach().cpu().numpy()))
        try:
            logits = network_logits(network, inputs)
        finally:
            hook.remove()
        features = np.concatenate(seen).astype(np.float64) if seen else np.zeros(0)
        if features.shape != (len(logits), layer.in_features) or layer.out_features != logits.shape[1]:
            continue
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
        weights = torch.cat([layer.weight, bias[:, None]], 1).detach().cpu().double().numpy().T
        features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
        if np.abs(features @ weights - logits).max() <= CLOSE * (1.0 + np.abs(logits).max()):
            return features, weights
    raise SettingsError(
        f"row {row!r}: personal wants a network that ends in a linear layer; none of {len(layers)} linear layers of "
        f"{type(network).__name__} gives its logits"
    )


def personal_weights(features: Float64Array, target: np.ndarray, shared: Float64Array, how: Personal) -> Float64Array:
    """Weights (d + 1, classes) from a person's features (n, d + 1) and distributions over classes (n, classes)."""
    weights = shared.copy()
    # The Hessian of the cross-entropy of a softmax is at most half that of a sum of squares.
    steepest = 0.5 * float(np.linalg.norm(features, 2)) ** 2 + how.pull
    step = how.learning_rate / max(steepest, 1e-12)
    for _ in range(how.epochs):
        gradient = features.T @ (_softmax(features @ weights) - target) + how.pull * (weights - shared)
        weights -= step * gradient
    return weights


def summary(
    how: Personal, score: Score, metric: Metric, runs: Sequence[tuple[np.ndarray, Examples]], n_groups: int
) -> tuple[Table, Estimate]:
    """What personal layers bring, per group and in all, and the mean gain of a group.

    runs      one per seed: logits (n, 2 classes), shared then personal, and the examples they are of
    n_groups  of all test examples, with those that have no more than `first`
    returns   the table, worst served first; the gain in the metric's own unit, larger is better, with an interval over
              groups (Student's t; people are independent)
    """
    factor, names = (100.0 if metric.unit == "%" else 1.0), np.unique(runs[0][1].groups)

    def both(logits: np.ndarray, examples: Examples) -> dict[str, float]:
        half = logits.shape[1] // 2
        shared, own = (score(x, examples)[metric.key] for x in (logits[:, :half], logits[:, half:]))
        return {"shared": shared, "personal": own, "points": -metric.points_lost(shared, own)}

    lines: list[tuple[str, int, float, float, float, float | None, float | None]] = []
    for name in names:
        at = np.flatnonzero(runs[0][1].groups == name)
        found = [both(logits[at], examples.take(at)) for logits, examples in runs]
        shared, own, points = (float(np.mean([f[k] for f in found])) for k in ("shared", "personal", "points"))
        if math.isfinite(points):
            lines.append((str(name), len(at), factor * shared, factor * own, points, None, None))
    lines.sort(key=lambda x: x[4])
    mean = paired([x[4] for x in lines], 0.0)
    whole = pooled(both, runs)
    total = sum(x[1] for x in lines)
    heads = [
        (
            f"mean of {len(lines)} groups", total, *(float(np.mean([x[i] for x in lines])) for i in (2, 3)),
            mean.value, mean.low, mean.high,
        ),
        (
            "all examples together", len(runs[0][1]),
            *(None if v is None else factor * v for v in (whole["shared"].value, whole["personal"].value)),
            whole["points"].value, whole["points"].low, whole["points"].high,
        ),
    ] if lines else []  # fmt: skip
    unit = f" ({metric.unit})" if metric.unit else ""
    table = Table(
        title=(
            f"a personal last layer from the first {how.first} labelled examples of a group, scored on the rest "
            f"({len(names)} of {n_groups} groups have more)"
        ),
        columns=(
            "group", "scored", f"{metric.title}{unit}, shared", f"{metric.title}{unit}, personal", "points gained",
            "low", "high",
        ),
        rows=(*heads, *lines),
    )  # fmt: skip
    return table, Estimate(
        value=_times(mean.value, metric.point), low=_times(mean.low, metric.point),
        high=_times(mean.high, metric.point), n=mean.n,
    )  # fmt: skip


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _softmax(logits: Float64Array) -> Float64Array:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
