"""Task `breast-cancer`: benign or malignant from 30 measures of cell nuclei (Wisconsin Diagnostic, in scikit-learn).

Protocol: stratified 5-fold cross-validation, 10 times with other divisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.signal import Float32Array
from host_tools.fit import Fit
from host_tools.tasks.task import Examples, Fold, Metric

REPEATS, PARTS = 10, 5


class BreastCancer:
    """569 tumours, 30 measures each."""

    name = "breast-cancer"
    title = "Breast Cancer Wisconsin (Diagnostic)"
    data = "scikit-learn's bundled copy; 569 fine needle aspirates"
    classes = ("malignant", "benign")
    metric = Metric(key="accuracy", title="accuracy", unit="%")
    teacher_fit = Fit(epochs=40, batch=64, learning_rate=1e-2, weight_decay=1.0, mean_decay=0.95, bf16=False)
    student_fit = Fit(epochs=60, batch=64, learning_rate=1e-2, mean_decay=0.95, bf16=False)

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """50 folds; the validation part is a quarter of each training part."""
        from sklearn.datasets import load_breast_cancer
        from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split

        x, y = load_breast_cancer(return_X_y=True)
        whole = Examples(inputs=x.astype(np.float32), labels=y.astype(np.int64), groups=np.arange(len(y)).astype(str))
        divide = RepeatedStratifiedKFold(n_splits=PARTS, n_repeats=REPEATS, random_state=0)
        folds = []
        for i, (learn, test) in enumerate(divide.split(x, y)):
            train, validation = train_test_split(learn, test_size=0.25, random_state=i, stratify=y[learn])
            folds.append(
                Fold(
                    name=f"{i // PARTS}.{i % PARTS}",
                    train=whole.take(train),
                    validation=whole.take(validation),
                    test=whole.take(test),
                )
            )
        return folds

    def teacher(self) -> nn.Module:
        """One hidden layer of 64 with dropout; two of 256 without it lost to the student on validation parts."""
        return _network(64, dropout=(0.2, 0.3))

    def student(self) -> nn.Module:
        """One hidden layer; 656 parameters with the scales of the inputs."""
        return _network(18)

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The measures as they are."""
        return x

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """Accuracy, and the share found of each class."""
        said = logits.argmax(axis=1)
        figures = {"accuracy": float(np.mean(said == examples.labels))}
        for c, name in enumerate(self.classes):
            of = examples.labels == c
            figures[f"sensitivity_{name}"] = float(np.mean(said[of] == c)) if of.any() else float("nan")
        return figures


def _network(*hidden: int, dropout: tuple[float, float] = (0.0, 0.0)) -> nn.Module:
    """Batch norm on the inputs stands for their scaling, so that the device sees the same.

    dropout  share of the inputs, and of the hidden units, that training leaves out
    """
    layers: list[nn.Module] = [nn.BatchNorm1d(30)]
    if dropout[0]:
        layers.append(nn.Dropout(dropout[0]))
    before = 30
    for width in hidden:
        layers += [nn.Linear(before, width), nn.ReLU()]
        if dropout[1]:
            layers.append(nn.Dropout(dropout[1]))
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 2))
