"""Task `ecg-beats-oracle`: normal, supraventricular, ventricular or fusion beat, where beat positions are given.

Protocol: MIT-BIH, de Chazal's inter-patient division, annotated positions as published systems use them; record 202 is
left out of DS2 because it is the person of training record 201. Unclassifiable beats (Q) and those in ventricular
flutter are neither trained nor scored, but are part of the rhythm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.beats import BeatTiming
from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.preprocess import Conditioning
from edge_runtime.contract.signal import Float32Array
from host_tools.data import mitdb
from host_tools.data.beat_windows import N_CONTEXT, SIGNALS, beat_windows
from host_tools.data.examples import IGNORED, condition
from host_tools.data.premature import with_premature_beats
from host_tools.data.records import EcgRecord, Split
from host_tools.fit import Fit
from host_tools.nets.beat_windows import STUDENT, TEACHER, BeatWindowNet
from host_tools.tasks.task import Examples, Fold, Metric

N, S, V = 0, 1, 2
# Copies of training records with artificial premature atrial beats, each played at another speed.
COPIES = (0.93, 1.07)
KEPT_NORMAL = 0.5  # of a copy's normal beats, which are nine in ten
MOST_OF_OTHER_LEAD = 0.6  # mixed into copies


class EcgBeatsOracle:
    """Every annotated beat of 43 patients."""

    name = "ecg-beats-oracle"
    title = "Heart beats at given positions (MIT-BIH DS1 to DS2)"
    data = "MIT-BIH Arrhythmia Database; DS2 without 202, who is 201 of DS1"
    classes = ("N", "S", "V", "F")
    metric = Metric(key="macro_f1", title="mean F1 of N, S, V", unit="%")
    teacher_fit = Fit(epochs=4, batch=128, learning_rate=3e-3, weight_decay=2e-2, mean_decay=0.99)
    student_fit = Fit(epochs=4, batch=128, learning_rate=5e-3, weight_decay=2e-2, mean_decay=0.99)

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """One: DS1 without six validation records, those, and DS2."""
        if root is None:
            raise SettingsError("no data root; set VITALEDGE_DATA to the folder that holds mitdb/")
        return [divided(root, "DS1-DS2", mitdb.split())]

    def teacher(self) -> nn.Module:
        """Wide; several make an ensemble."""
        return BeatWindowNet(TEACHER)

    def student(self) -> nn.Module:
        """Narrow enough for an INT8 file of 15 kB."""
        return BeatWindowNet(STUDENT)

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Another gain, a beat found a sample early or late, noise, other intervals, sometimes other polarity."""
        n, _, samples = x.shape

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=generator)

        gain = torch.exp(0.2 * normal(n, 1, 1)) * torch.sign(torch.rand(n, 1, 1, generator=generator) - 0.1)
        noise = 0.06 * torch.rand(n, 1, 1, generator=generator) ** 2 * normal(n, 1, samples)
        shift = torch.randint(-1, 2, (n, 1, 1), generator=generator)
        at = (torch.arange(samples) + shift).clamp(0, samples - 1).expand(n, SIGNALS, samples)
        signals = gain * x[:, :SIGNALS].gather(2, at) + noise
        context = x[:, SIGNALS:].clone()
        context[:, 0, :N_CONTEXT] += 0.05 * normal(n, N_CONTEXT)
        return torch.cat([signals, context], dim=1)

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """Mean F1 of N, S and V, accuracy over all four classes, and each class's Se, P+ and F1.

        A fusion beat that is called V is a false V.
        """
        return beat_figures(logits.argmax(axis=1), examples.labels, self.classes)


def beat_figures(said: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Figures of decided classes; NaN where a class is neither said nor true."""
    figures: dict[str, float] = {"macro_f1": 0.0, "accuracy": float(np.mean(said == labels))}
    for c, name in enumerate(classes):
        right, told, true = (int(np.sum(m)) for m in ((said == c) & (labels == c), said == c, labels == c))
        figures[f"se_{name}"] = right / true if true else float("nan")
        figures[f"ppv_{name}"] = right / told if told else float("nan")
        figures[f"f1_{name}"] = 2 * right / (told + true) if told + true else float("nan")
    figures["macro_f1"] = float(np.mean([figures[f"f1_{classes[c]}"] for c in (N, S, V)]))
    return figures


def divided(root: Path, name: str, split: Split) -> Fold:
    """A fold of records; training records come with their copies."""
    return Fold(
        name=name,
        train=_joined([p for i, r in enumerate(split.train) for p in _training(mitdb.load(root, r), i)]),
        validation=_joined([examples_of(mitdb.load(root, r)) for r in split.validation]),
        test=_joined([examples_of(mitdb.load(root, r)) for r in split.test]),
    )


def examples_of(record: EcgRecord, *, stretch: float = 1.0, other_lead: float = 0.0) -> Examples:
    """All scored beats of a record; `other_lead` is the share of its second lead in the signal."""
    if other_lead == 0.0:  # conditioning takes most of the time
        record = replace(record, leads=record.leads[:, :1])
    on_grid = condition(record, BeatTiming(), Conditioning(), stretch)
    share = np.float32(other_lead if on_grid.x[:, 1].any() else 0.0)
    inputs = beat_windows((1 - share) * on_grid.x[:, 0] + share * on_grid.x[:, 1], on_grid.beats)
    kept = on_grid.classes != IGNORED
    return Examples(inputs=inputs[kept], labels=on_grid.classes[kept], groups=np.full(int(kept.sum()), record.name))


def _training(record: EcgRecord, seed: int) -> list[Examples]:
    """A training record and its copies, these with fewer normal beats."""
    rng = np.random.default_rng(seed)
    parts = [examples_of(record)]
    for stretch in COPIES:
        copy = with_premature_beats(record, rng)
        share = float(rng.uniform(0, MOST_OF_OTHER_LEAD))
        parts.append(_thinned(examples_of(copy, stretch=stretch, other_lead=share), KEPT_NORMAL, rng))
    return parts


def _thinned(examples: Examples, share: float, rng: np.random.Generator) -> Examples:
    return examples.take((examples.labels != N) | (rng.uniform(size=len(examples)) < share))


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        inputs=np.concatenate([p.inputs for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
        groups=np.concatenate([p.groups for p in parts]),
    )
