"""Task `ecg-rhythm`: normal, atrial fibrillation, other rhythm or noise from 30 s of one lead (CinC 2017).

Protocol: stratified 5-fold cross-validation by recording, each fold's validation part inside its training part. The
set names no patients, so it cannot be divided by patient. The score is the challenge's: the mean F1 of N, A and O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.signal import Block, Float32Array
from host_tools.data import cinc2017
from host_tools.data.cinc2017 import RhythmRecord
from host_tools.fit import Fit
from host_tools.nets.rhythm import STUDENT, TEACHER, RhythmNet
from host_tools.tasks.task import Examples, Fold, Metric

CONDITIONING = Conditioning()
WINDOW = 30 * CONDITIONING.rate_hz
LIMIT = 4.0  # of a beat's height; artefacts beyond are cut
LEAST_HEIGHT_MV = 0.05  # quieter windows are not made louder
PARTS, VALIDATION_SHARE = 5, 0.125
LONG = 1.5  # windows; longer recordings give training a first and a last window besides the central one


class EcgRhythm:
    """7,028 hand-held recordings, one window each; long ones give three to training."""

    name = "ecg-rhythm"
    title = "Rhythm from 30 s of hand-held ECG (PhysioNet/CinC Challenge 2017)"
    data = "7,028 of the 8,528 public training recordings, labels v3; no patients' names, so folds are by recording"
    classes = ("N", "A", "O", "noise")
    metric = Metric(key="f1_nao", title="mean F1 of N, A, O", unit="%")
    teacher_fit = Fit(epochs=18, batch=64, learning_rate=3e-3, weight_decay=5e-2, mean_decay=0.99)
    student_fit = Fit(epochs=25, batch=64, learning_rate=6e-3, weight_decay=2e-2, mean_decay=0.99)

    def folds(self, root: Path | None) -> Sequence[Fold]:
        """Five folds; an eighth of each training part is for validation."""
        if root is None:
            raise SettingsError("no data root; set VITALEDGE_DATA to the folder that holds cinc2017/")
        return divided(cinc2017.load(root))

    def teacher(self) -> nn.Module:
        """A wide residual network."""
        return RhythmNet(TEACHER)

    def student(self) -> nn.Module:
        """A narrow one."""
        return RhythmNet(STUDENT)

    def augment(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Another heart rate and moment, electrodes, noise, wander, and a stretch without contact."""
        return electrodes(moved(x, generator), generator)

    def score(self, logits: Float32Array, examples: Examples) -> Mapping[str, float]:
        """The challenge's score, each class's F1, accuracy, and the share found of each class."""
        said = logits.argmax(axis=1)
        figures = {f"f1_{name}": class_f1(said, examples.labels, c) for c, name in enumerate(self.classes)}
        mean = float(np.mean([figures[f"f1_{name}"] for name in self.classes[:3]]))
        figures["accuracy"] = float(np.mean(said == examples.labels))
        for c, name in enumerate(self.classes):
            of = examples.labels == c
            figures[f"sensitivity_{name}"] = float(np.mean(said[of] == c)) if of.any() else float("nan")
        return {"f1_nao": mean, **figures}


def class_f1(said: np.ndarray, labels: np.ndarray, c: int) -> float:
    """2 right / (said + true), as the challenge counts; NaN where the class is neither said nor true."""
    total = int(np.sum(said == c)) + int(np.sum(labels == c))
    return 2.0 * int(np.sum((said == c) & (labels == c))) / total if total else float("nan")


def conditioned(record: RhythmRecord) -> Float32Array:
    """The whole recording through the device's conditioning; float32 (n,), mV at 125 Hz."""
    stage = Conditioner(CONDITIONING, cinc2017.RATE_HZ)
    return np.concatenate([b.samples[:, 0] for b in stage.feed(Block(start=0, samples=record.mv[:, None]))])


def window(x: Float32Array, place: float = 0.5) -> Float32Array:
    """30 s at `place` (0 the first, 1 the last) in units of the median height of its seconds; float32 (3750,).

    A shorter recording is followed by zeros.
    """
    start = round(place * max(0, len(x) - WINDOW))
    cut = x[start : start + WINDOW]
    rate = CONDITIONING.rate_hz
    heights = [np.abs(cut[i : i + rate]).max() for i in range(0, max(1, len(cut) - rate // 2), rate)]
    scaled = np.clip(cut / max(float(np.median(heights)), LEAST_HEIGHT_MV), -LIMIT, LIMIT)
    return np.pad(scaled, (0, WINDOW - len(cut))).astype(np.float32)


def divided(records: Sequence[RhythmRecord]) -> Sequence[Fold]:
    """Five folds of windows."""
    from sklearn.model_selection import StratifiedKFold, train_test_split

    signals = [conditioned(r) for r in records]
    labels = np.array([r.label for r in records], np.int64)
    names = np.array([r.name for r in records])

    def part(index: np.ndarray, places: Sequence[float]) -> Examples:
        of = [(i, p) for i in index for p in places if p == 0.5 or len(signals[i]) >= LONG * WINDOW]
        chosen = np.array([i for i, _ in of])
        inputs = np.stack([window(signals[i], p) for i, p in of])[:, None]
        return Examples(inputs=inputs, labels=labels[chosen], groups=names[chosen])

    folds = []
    divide = StratifiedKFold(n_splits=PARTS, shuffle=True, random_state=0)
    for k, (learn, test) in enumerate(divide.split(names, labels)):
        train, validation = train_test_split(learn, test_size=VALIDATION_SHARE, random_state=k, stratify=labels[learn])
        folds.append(
            Fold(
                name=str(k),
                train=part(train, (0.5, 0.0, 1.0)),
                validation=part(validation, (0.5,)),
                test=part(test, (0.5,)),
            )
        )
    return folds


def moved(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Played 0.9 to 1.1 times as fast from up to 3 s earlier or later; what lies outside is zero."""
    n, _, samples = x.shape
    speed = 0.9 + 0.2 * torch.rand(n, 1, generator=generator)
    shift = (torch.rand(n, 1, generator=generator) * 6.0 - 3.0) * CONDITIONING.rate_hz
    at = torch.arange(samples)[None] * speed + shift
    whole = at.floor()
    share = at - whole
    padded = F.pad(x[:, 0], (1, 1))
    left = (whole.long() + 1).clamp(0, samples + 1)
    right = (whole.long() + 2).clamp(0, samples + 1)
    return ((1 - share) * padded.gather(1, left) + share * padded.gather(1, right))[:, None]


def electrodes(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gain, sometimes the other polarity, noise, wander, and up to 4 s without contact."""
    n, _, samples = x.shape

    def uniform() -> torch.Tensor:
        return torch.rand(n, 1, 1, generator=generator)

    t = torch.arange(samples) / CONDITIONING.rate_hz
    gain = torch.exp(0.25 * torch.randn(n, 1, 1, generator=generator)) * torch.sign(uniform() - 0.2)
    noise = 0.1 * uniform() ** 2 * torch.randn(n, 1, samples, generator=generator)
    wander = 0.2 * uniform() ** 2 * torch.sin(2 * torch.pi * (0.5 * uniform() * t + uniform()))
    start = uniform() * samples / CONDITIONING.rate_hz
    has_contact = (t < start) | (t > start + (8.0 * uniform() - 4.0))
    return (gain * x + noise + wander) * has_contact
