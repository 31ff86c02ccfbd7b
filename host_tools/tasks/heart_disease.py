"""Tasks `heart-disease` and `heart-disease-hospitals`: a narrowed coronary vessel or none, from 13 measures.

Two protocols over the same 920 patients: 10 times stratified 5-fold cross-validation, and hospital by hospital. Two
pairs of patients have equal measures; they stay in, as in the published files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.data import uci_heart
from host_tools.fit import Fit
from host_tools.measure.ranking import binary_figures, positive_probability
from host_tools.nets.missing import HIDDEN, Missing, TabularInput, check_missing, hide
from host_tools.tasks.task import Examples, Fold, Metric

REPEATS, PARTS = 10, 5
# A column's place among the inputs -> its codes. sex, fbs and exang are 0 or 1 already, ca is a count.
CODES = {uci_heart.COLUMNS.index(name): uci_heart.CODES[name] for name in ("cp", "restecg", "slope", "thal")}
# Which hospital chooses between models when another one is tested: the one of the others with the most patients of
# the rarer class, and hungarian for va.
CHOOSES = {"cleveland": "va", "hungarian": "va", "switzerland": "va", "va": "hungarian"}


class HeartDisease:
    """Cross-validation over all rows.

    missing  how the networks handle missing values: `nets.missing.Missing`
    hidden   units of the student
    """

    name = "heart-disease"
    title = "UCI heart disease, four hospitals"
    data = "UCI heart disease, the four processed files; 920 patients"
    classes = ("healthy", "diseased")
    metric = Metric(key="auroc", title="AUROC", unit="")
    teacher_fit = Fit(epochs=40, batch=64, learning_rate=3e-3, weight_decay=0.1, mean_decay=0.95, bf16=False)
    student_fit = Fit(epochs=30, batch=64, learning_rate=1e-2, mean_decay=0.95, bf16=False)

    def __init__(self, *, missing: Missing = "mean+mask", hidden: int = 8) -> None:
        check_missing(missing)
        if hidden < 1:
            raise SettingsError(f"hidden is {hidden}; 1 or more wanted")
        self.missing: Missing = missing
        self.hidden = hidden

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """50 folds; the validation part is a quarter of each training part."""
        from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split

        patients = _load(root)
        whole = Examples(inputs=patients.measures, labels=patients.diseased, groups=patients.row)
        divide = RepeatedStratifiedKFold(n_splits=PARTS, n_repeats=REPEATS, random_state=0)
        folds = []
        for i, (learn, test) in enumerate(divide.split(whole.inputs, whole.labels)):
            train, validation = train_test_split(learn, test_size=0.25, random_state=i, stratify=whole.labels[learn])
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
        """Two hidden layers of 128 with dropout."""
        return _network(self.missing, 128, 128, dropout=0.5)

    def student(self) -> nn.Module:
        """One small hidden layer; 306 parameters as it comes."""
        return _network(self.missing, self.hidden)

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The measures as they are; a tenth of them hidden where `missing` is drop-mask."""
        return hide(x, HIDDEN, generator) if self.missing == "drop-mask" else x

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """AUROC, AUPRC, accuracy, calibration, and the share found of each class where the larger logit decides."""
        return binary_figures(positive_probability(logits), examples.labels, self.classes)


class HeartDiseaseHospitals(HeartDisease):
    """A hospital that neither learnt nor chose: four folds, named after the hospital that is tested.

    Another hospital is the validation part, because rows of the training hospitals would choose models that are good
    at home. In switzerland 115 of 123 patients are diseased, so that its AUROC hangs on 8 healthy ones.
    """

    name = "heart-disease-hospitals"
    title = "UCI heart disease, each hospital in turn unseen"

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """Four folds; no hospital is in two parts of one."""
        patients = _load(root)
        whole = Examples(inputs=patients.measures, labels=patients.diseased, groups=patients.hospital)
        folds = []
        for hospital, chooser in CHOOSES.items():
            test, validation = patients.hospital == hospital, patients.hospital == chooser
            folds.append(
                Fold(
                    name=hospital,
                    train=whole.take(~(test | validation)),
                    validation=whole.take(validation),
                    test=whole.take(test),
                )
            )
        return folds


def _load(root: Path | None) -> uci_heart.HeartPatients:
    if root is None:
        raise SettingsError(f"no data root; set VITALEDGE_DATA to the folder that holds {uci_heart.FOLDER}/")
    return uci_heart.load(root)


def _network(missing: Missing, *hidden: int, dropout: float = 0.0) -> nn.Module:
    first = TabularInput(len(uci_heart.COLUMNS), CODES, missing)
    layers: list[nn.Module] = [first]
    before = first.n_features
    for width in hidden:
        layers += [nn.Linear(before, width), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 2))
