"""Step `distill`: a student learns labels, teachers' logits, and what else of the teachers a recipe names."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.compress.extras import Extra, ExtraLoss
from host_tools.compress.features import LOGITS, probe, run, run_teacher
from host_tools.compress.logit_kd import LogitLoss, Method, ensemble_logits
from host_tools.compress.soft_labels import kept_soft_labels, read_soft_labels, soft_labels_of
from host_tools.compress.step import Candidate, Lab, Trial
from host_tools.compress.teachers import TRIAL, OnnxTeacher, check_outputs, check_teachers, exported_teacher
from host_tools.compress.train import LabelLoss, shares
from host_tools.fit import FitChange, Minibatch
from host_tools.tasks.task import Task

FOLD, SEED = "{fold}", "{seed}"


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Step `distill`. Several teachers: the mean of their softened probabilities; extras: the mean over teachers.

    method       how logits are learnt (`LogitLoss`), with temperature, weight; alpha and beta of dkd
    labels       online: teachers see each augmented batch; stored: they saw the training inputs once, as they are, and
                 what they said is kept in the lab's file
    n_teachers   how many of the lab's teachers teach, the first of them; 0: all
    teachers_as  networks, or onnx: the files they export to, run by ONNX Runtime
    file         soft labels to take instead of asking teachers (.npz); {fold} and {seed} in it stand for theirs
    onnx         files that teach besides the lab's teachers
    extra        losses over layers and relations, added
    content      hash of all files named above: what a result depends on
    """

    method: Method = "(1-a)*ce+a*t2*kl"
    temperature: float = 2.0
    weight: float = 0.5
    alpha: float = 1.0
    beta: float = 8.0
    labels: Literal["online", "stored"] = "online"
    n_teachers: int = 0
    teachers_as: Literal["networks", "onnx"] = "networks"
    file: str = ""
    onnx: tuple[str, ...] = ()
    extra: tuple[Extra, ...] = ()
    loss: LabelLoss = field(default_factory=LabelLoss)
    fit: FitChange | None = None
    content: str = field(init=False, default="")

    def __post_init__(self) -> None:
        """Refuse what cannot be learnt, and files that are not there."""
        _ = self.logit_loss
        if self.n_teachers < 0:
            raise SettingsError(f"n_teachers is {self.n_teachers}; 1 or more wanted, or 0 for all")
        if self.file and self.labels != "stored":
            raise SettingsError(
                f'file is {self.file!r} and labels is {self.labels!r}; labels = "stored" wanted with it'
            )
        paths = sorted(glob.glob(glob.escape(self.file).replace(FOLD, "*").replace(SEED, "*")))
        if self.file and not paths:
            raise SettingsError(f"{self.file}: no such file of soft labels")
        digest = hashlib.sha256()
        for path in (*paths, *self.onnx):
            try:
                digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
            except OSError as error:
                raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
        if paths or self.onnx:
            object.__setattr__(self, "content", digest.hexdigest())

    @property
    def logit_loss(self) -> LogitLoss:
        """The part that is about logits."""
        return LogitLoss(
            method=self.method, temperature=self.temperature, weight=self.weight, alpha=self.alpha, beta=self.beta
        )

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Train the candidate's network from where it is; nothing is trained if something does not fit."""
        if self.n_teachers > len(lab.teachers):
            raise SettingsError(f"n_teachers is {self.n_teachers}; the recipe has {len(lab.teachers)}")
        teachers = self._asked(lab.teachers, lab.fold.train.inputs.shape[1:])
        try:
            return candidate.then(
                lab.fit(candidate.network, self.objective(candidate.network, teachers, lab), self.fit)
            )
        finally:
            for teacher in teachers:
                teacher.cpu()

    def preflight(self, network: nn.Module, trial: Trial) -> nn.Module:
        """Raise SettingsError for layers that the student or a teacher does not have, or that cannot be compared."""
        if trial.teachers is None:
            probe(network, torch.from_numpy(trial.inputs[:TRIAL]), self._layers()[0], "the student")
        else:
            self._extras(network, self._asked(trial.teachers, trial.shape), trial.task, trial.inputs[:TRIAL], seed=0)
        return network

    def objective(self, student: nn.Module, teachers: Sequence[nn.Module], lab: Lab) -> DistillObjective:
        """What is minimized; raises SettingsError for teachers or layers that do not fit."""
        extras = self._extras(student, teachers, lab.task, lab.fold.train.inputs[:TRIAL], lab.seed)
        return DistillObjective(
            how=self,
            teachers=teachers,
            stored=self._stored(teachers, lab),
            extras=nn.ModuleList(nn.ModuleList(losses) for losses in extras),
            layers=self._layers(),
            shares=shares(lab),
        )

    def _asked(self, teachers: Sequence[nn.Module], shape: tuple[int, ...]) -> list[nn.Module]:
        theirs = teachers[: self.n_teachers or None]
        if self.teachers_as == "onnx":
            theirs = [exported_teacher(t, shape) for t in theirs]
        return [*theirs, *(OnnxTeacher(path) for path in self.onnx)]

    def _layers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        pairs = [pair for extra in self.extra for pair in extra.pairs()]
        return tuple(ours for ours, _ in pairs), tuple(theirs for _, theirs in pairs)

    def _extras(
        self, student: nn.Module, teachers: Sequence[nn.Module], task: Task, inputs: Float32Array, seed: int
    ) -> list[list[ExtraLoss]]:
        """For each teacher, its extra losses; raises SettingsError for what has no such loss."""
        x, (ours, theirs) = torch.from_numpy(inputs), self._layers()
        trial = probe(student, x, ours, "the student")
        check_outputs(task, "the student", trial[LOGITS])
        trials = [] if self.file and not self.extra else check_teachers(task, teachers, x, theirs)
        with torch.random.fork_rng(devices=[]):  # adapters begin the same for the same seed
            torch.manual_seed(seed)
            extras = [[ExtraLoss(e, trial, t) for e in self.extra] for t in trials]
        for teacher_extras, t in zip(extras, trials, strict=True):
            for loss in teacher_extras:
                loss(trial, t)
        return extras

    def _stored(self, teachers: Sequence[nn.Module], lab: Lab) -> torch.Tensor | None:
        """Ensemble logits (n, classes) of the training examples, if they are to be stored."""
        if self.labels != "stored":
            return None
        inputs = lab.fold.train.inputs
        if self.file:
            path = Path(self.file.replace(FOLD, lab.fold.name).replace(SEED, str(lab.seed)))
            logits = read_soft_labels(path, inputs, len(lab.task.classes))
        elif lab.keep is not None and not self.onnx and self.teachers_as == "networks":
            logits = kept_soft_labels(lab.teachers, inputs, len(lab.task.classes), lab.keep)[: self.n_teachers or None]
        else:
            logits = soft_labels_of(teachers, inputs)
        return ensemble_logits([torch.from_numpy(z) for z in logits], self.temperature)


@dataclass(frozen=True, kw_only=True, eq=False)
class DistillObjective:
    """Labels, logits and extras together.

    stored  the teachers' logits of every training example; None: they are asked about each batch
    extras  for each teacher, its extra losses
    layers  names of the layers whose outputs the extras need, of the student and of the teachers
    """

    how: Distill
    teachers: Sequence[nn.Module]
    stored: torch.Tensor | None
    extras: nn.ModuleList
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    shares: torch.Tensor

    def helpers(self) -> nn.Module | None:
        """The adapters of hints."""
        return self.extras

    def loss(self, network: nn.Module, batch: Minibatch) -> torch.Tensor:
        """Mean over the batch."""
        student = run(network, batch.x, self.layers[0])
        ask = self.stored is None or bool(self.how.extra)
        said = [run_teacher(t, batch.x, self.layers[1]) for t in self.teachers] if ask else []
        # Small differences and products of features: bfloat16 would lose them.
        with torch.autocast(batch.x.device.type, enabled=False):
            logits = student[LOGITS].float()
            if self.stored is not None:
                soft = self.stored[batch.index].to(batch.x.device)
            else:
                soft = ensemble_logits([t[LOGITS] for t in said], self.how.temperature)
            ce = self.how.loss.per_example(logits, batch, self.shares)
            loss = self.how.logit_loss.per_example(ce, logits, soft, batch.labels).mean()
            for losses, teacher in zip(self.extras, said, strict=False):
                for extra in losses:  # type: ignore[attr-defined]
                    loss = loss + extra(student, teacher) / len(said)
        return loss
