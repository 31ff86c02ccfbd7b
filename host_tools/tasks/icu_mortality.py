"""Task `icu-mortality`: death in hospital from the first 48 hours of an intensive-care stay.

Protocol: stratified 5-fold cross-validation over the 4,000 stays of set A, whose outcomes are public. The challenge
itself scored on sets B and C, so these figures stand beside those of papers that cross-validate on set A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.data import challenge2012
from host_tools.fit import Fit
from host_tools.measure.ranking import binary_figures, positive_probability
from host_tools.nets.missing import HIDDEN, Missing, check_missing, hide
from host_tools.nets.stays import SummaryNet
from host_tools.tasks.task import Examples, Fold, Metric

PARTS = 5


class IcuMortality:
    """554 of 4,000 died.

    missing  how the networks handle missing values: `nets.missing.Missing`
    hidden   units of the student
    """

    name = "icu-mortality"
    title = "In-hospital death, PhysioNet/CinC Challenge 2012"
    data = "PhysioNet/CinC Challenge 2012, set A; 4,000 stays"
    classes = ("survived", "died")
    metric = Metric(key="auroc", title="AUROC", unit="")
    teacher_fit = Fit(epochs=15, batch=64, learning_rate=5e-4, weight_decay=0.1, mean_decay=0.98, bf16=False)
    student_fit = Fit(epochs=8, batch=64, learning_rate=3e-3, weight_decay=0.1, mean_decay=0.98, bf16=False)

    def __init__(self, *, missing: Missing = "mean+mask", hidden: int = 12) -> None:
        check_missing(missing)
        if hidden < 1:
            raise SettingsError(f"hidden is {hidden}; 1 or more wanted")
        self.missing: Missing = missing
        self.hidden = hidden

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """Five folds by stay; the validation part is a fifth of each training part."""
        from sklearn.model_selection import StratifiedKFold, train_test_split

        if root is None:
            raise SettingsError(f"no data root; set VITALEDGE_DATA to the folder that holds {challenge2012.FOLDER}/")
        stays = challenge2012.load(root)
        whole = Examples(inputs=stays.hourly, labels=stays.died, groups=stays.ids.astype(str))
        divide = StratifiedKFold(n_splits=PARTS, shuffle=True, random_state=0)
        folds = []
        for i, (learn, test) in enumerate(divide.split(np.zeros(len(whole)), whole.labels)):
            train, validation = train_test_split(learn, test_size=0.2, random_state=i, stratify=whole.labels[learn])
            folds.append(
                Fold(name=str(i), train=whole.take(train), validation=whole.take(validation), test=whole.take(test))
            )
        return folds

    def teacher(self) -> nn.Module:
        """The student's summaries, 256 hidden units, dropout on both."""
        return SummaryNet(missing=self.missing, hidden=(256,), dropout=(0.3, 0.5))

    def student(self) -> nn.Module:
        """Summaries of the stay and of its last 12 hours and one small hidden layer."""
        return SummaryNet(missing=self.missing, hidden=(self.hidden,))

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The stays as they are; a tenth of the values hidden where `missing` is drop-mask."""
        return hide(x, HIDDEN, generator) if self.missing == "drop-mask" else x

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """AUROC, AUPRC, the challenge's min(Se, P+) at its best threshold on these stays, calibration."""
        return binary_figures(positive_probability(logits), examples.labels, self.classes)
